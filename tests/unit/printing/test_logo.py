from __future__ import annotations

import pytest

from accounting.printing.logo import logo_as_svg
from pictures import PNG_SIGNATURE, a_png, a_svg


def test_svg_stays_as_it_is() -> None:
    assert logo_as_svg(a_svg()) == a_svg().decode()


def test_svg_may_begin_with_a_declaration() -> None:
    svg = b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- drawn by hand -->\n' + a_svg()

    assert logo_as_svg(svg) == svg.decode()


def test_png_is_wrapped_in_its_own_size() -> None:
    assert 'viewBox="0 0 300 20"' in logo_as_svg(a_png(width=300, height=20))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        b"\xff\xd8\xff\xe0 JFIF",
        b"<html></html>",
        b"<svg></svg>",  # not the SVG namespace: typst would not draw it
        a_svg()[:-3],
        "<svg/>".encode("utf-16"),
    ],
)
def test_other_pictures_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="must be a PNG or SVG picture"):
        logo_as_svg(content)


@pytest.mark.parametrize("missing", [1, 4, 12, 20, len(a_png()) - len(PNG_SIGNATURE)])
def test_a_png_that_was_cut_off_is_refused(missing: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        logo_as_svg(a_png()[:-missing])


def test_a_damaged_png_is_refused() -> None:
    png = bytearray(a_png())
    png[45] ^= 1

    with pytest.raises(ValueError, match="damaged"):
        logo_as_svg(bytes(png))
