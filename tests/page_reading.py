"""Reading a page as people and browsers do: its words, its tags, what it leads to."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

_ADDRESSES = {"href", "src", "action"}
_UNSEEN = {"style", "title"}


class Page(HTMLParser):
    """What is in an HTML document."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.addresses: dict[str, str] = {}
        self._open: list[str] = []
        self._seen: list[str] = []
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        """What is to be read, runs of white space as single spaces."""
        return " ".join(" ".join(self._seen).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in _ADDRESSES:
                self.addresses[f"{tag} {name} {len(self.addresses)}"] = value or ""

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not _UNSEEN & set(self._open):
            self._seen.append(data)


def style_hashes(html: str) -> list[str]:
    """How a policy would allow each style of the document."""
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digests = [hashlib.sha256(style.encode()).digest() for style in styles]
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


def directives(policy: str) -> dict[str, str]:
    """A Content-Security-Policy, by directive."""
    parts = [part.strip().partition(" ") for part in policy.split(";")]
    return {name: value for name, _, value in parts}
