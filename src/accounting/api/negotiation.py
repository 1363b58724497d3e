"""Which of two forms of an answer its reader would rather have (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from litestar import Request

ACCEPT: Final = "Accept"
_QUALITY: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def prefers(media_type: str, usual: str, request: Request[Any, Any, Any]) -> bool:
    """Whether the reader would rather have this media type than the usual one.

    By their q-values; where those are equal, by which is named more exactly, so that `*/*` leaves
    it at the usual one.
    """
    accepted = list(_ranges(",".join(request.headers.getall(ACCEPT, []))))
    wanted = _wish(media_type, accepted)
    return wanted[0] > 0 and wanted > _wish(usual, accepted)


def _wish(media_type: str, accepted: list[tuple[str, float]]) -> tuple[float, int]:
    """The q-value of the most exact range that holds this type, and how exact that is."""
    main_type = media_type.partition("/")[0]
    for exactness, wanted in ((2, media_type), (1, f"{main_type}/*"), (0, "*/*")):
        found = [quality for media_range, quality in accepted if media_range == wanted]
        if found:
            return max(found), exactness
    return 0, 0


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """The media ranges of the header with their q-values; one that cannot be read counts as 1."""
    for item in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        given = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        yield media_range, float(given) if _QUALITY.fullmatch(given) else 1.0
