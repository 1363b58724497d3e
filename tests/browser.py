"""A real browser, as people have it: the Chromium of the system, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# It would ask its maker's servers for news otherwise.
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
# What it says of itself where nobody has told it that it has no screen.
USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


@dataclass
class Visit:
    """A page in a window of its own, and everything that went wrong in it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def is_too_wide(self) -> bool:
        """Whether a reader would have to scroll sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def background(self) -> int:
        """How bright the page is behind its text, from 0 to 255."""
        colour = self.page.evaluate(
            "getComputedStyle(document.querySelector('main')).backgroundColor"
        )
        return min(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))


def find_chromium() -> str:
    named = os.environ.get("CHROMIUM", "")
    found = next(filter(None, map(shutil.which, [named, *CHROMIUM_NAMES])), None)
    if found is None:
        pytest.fail("Chromium is needed: install the package chromium, or name one in CHROMIUM.")
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def visit(
    browser: Browser,
    url: str,
    *,
    size: dict[str, int] = DESKTOP,
    scheme: str = "light",
    user_agent: str | None = USER_AGENT,
) -> Iterator[Visit]:
    """Go there with a fresh browser that knows nothing of earlier visits."""
    options: dict[str, Any] = {"viewport": size, "color_scheme": scheme, "user_agent": user_agent}
    context = browser.new_context(**options)
    page = context.new_page()
    visited = Visit(page)
    page.on("console", lambda message: visited.complaints.append(message.text))
    page.on("pageerror", lambda error: visited.complaints.append(str(error)))
    page.on("dialog", lambda dialog: visited.complaints.append(dialog.message))
    page.on("request", lambda request: visited.requests.append(request.url))
    page.goto(url)
    yield visited
    context.close()
