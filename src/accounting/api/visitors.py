"""Who opens a public page: a person with a browser, or a program that looks at links."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# A browser that loads ahead of its reader, who may never look: the standard's header, and those of
# older Firefox and Safari.
_AHEAD: Final = (
    ("sec-purpose", "prefetch"),
    ("purpose", "prefetch"),
    ("x-moz", "prefetch"),
    ("x-purpose", "preview"),
)
# Programs that say what they are: crawlers, link previews, mail scanners, libraries. A Cubot is a
# phone.
_PROGRAM: Final = re.compile(
    r"(?<!cu)bot\b|crawl|spider|preview|facebookexternalhit|^whatsapp|imgproxy|imageproxy|mailproxy"
    r"|proofpoint|mimecast|barracuda|safelinks|urlscan|virustotal|trendmicro|symantec|sophos"
    r"|google-read-aloud|headlesschrome|phantomjs|python|okhttp|java/|axios|apache-http|guzzle"
    r"|^curl|^wget|^go-http|^libwww|^ruby|^php|^node",
    re.IGNORECASE,
)


def is_person(method: str, headers: Mapping[str, str]) -> bool:
    """Whether this request looks like a person who opens the page; header names in lower case.

    Scanners that pass themselves off as a browser in everything cannot be told apart.
    """
    return (
        method == "GET"
        and "text/html" in headers.get("accept", "")
        # Browsers of the last years say why they ask; none of the others can be held against it.
        and headers.get("sec-fetch-mode", "navigate") == "navigate"
        and headers.get("sec-fetch-dest", "document") == "document"
        and not any(word in headers.get(name, "").lower() for name, word in _AHEAD)
        and _is_browser(headers.get("user-agent", ""))
    )


def _is_browser(user_agent: str) -> bool:
    return bool(user_agent) and not _PROGRAM.search(user_agent)
