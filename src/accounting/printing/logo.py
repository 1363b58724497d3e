"""The company's logo: PNG or SVG as the operator has it, SVG as the template places it."""

from __future__ import annotations

import base64
import zlib
from struct import error as StructError  # noqa: N812  # an exception, whatever its name says
from struct import unpack_from
from typing import Final
from xml.etree import ElementTree

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_SVG_ROOT: Final = "{http://www.w3.org/2000/svg}svg"
_SVG_AROUND_PNG: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    '<image width="{width}" height="{height}" href="data:image/png;base64,{png}"/></svg>'
)


def logo_as_svg(content: bytes) -> str:
    """The picture as text, since data goes to typst as text only.

    Raises ValueError for anything but a whole PNG or an SVG: a logo that cannot be drawn must stop
    the start of the service, and not each invoice.
    """
    if content.startswith(_PNG_SIGNATURE):
        width, height = _size_of_png(content)
        png = base64.b64encode(content).decode()
        return _SVG_AROUND_PNG.format(width=width, height=height, png=png)
    try:
        is_svg = ElementTree.fromstring(content).tag == _SVG_ROOT
    except ElementTree.ParseError:
        is_svg = False
    if not is_svg:
        raise ValueError("must be a PNG or SVG picture")
    return content.decode()


def _size_of_png(content: bytes) -> tuple[int, int]:
    """Width and height, after a look at every chunk. Raises ValueError for a damaged file."""
    at = len(_PNG_SIGNATURE)
    kind = b""
    try:
        while kind != b"IEND":
            length, kind = unpack_from(">I4s", content, at)
            (checksum,) = unpack_from(">I", content, at + 8 + length)
            if zlib.crc32(content[at + 4 : at + 8 + length]) != checksum:
                raise ValueError("is a damaged PNG picture")
            at += 12 + length
        width, height = unpack_from(">II", content, len(_PNG_SIGNATURE) + 8)
    except StructError:
        raise ValueError("is a PNG picture that was cut off") from None
    return width, height
