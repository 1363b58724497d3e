"""Which form of an answer its reader would rather have, by his Accept header."""

from __future__ import annotations

import pytest
from litestar.testing import RequestFactory

from accounting.api.negotiation import prefers

JSON, PDF = "application/json", "application/pdf"


@pytest.mark.parametrize(
    ("accept", "is_pdf"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("application/json", False),
        ("text/html", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/pdf", True),
        ("Application/PDF", True),
        ("application/pdf;q=0.1", True),
        ("application/pdf, */*", True),
        ("application/pdf, */*;q=0.1", True),
        ("application/pdf;q=0.9, application/json", False),
        ("application/json;q=0.9, application/pdf", True),
        ("application/json, application/pdf", False),
        ("application/pdf;q=0.5, */*", False),
        ("application/pdf;q=0.5, application/json;q=0.4, */*", True),
        ("application/pdf;q=0", False),
        ("application/pdf;q=0.000, text/html", False),
        ("*/*, application/json;q=0", True),
        ("application/pdf;version=1;q=1", True),
        ("application/pdf;q=nan", True),
        ("application/pdf;q=inf, application/json;q=1e9", False),
        (",;,q=1;;", False),
    ],
)
def test_the_better_q_value_decides_then_the_more_exact_range(
    accept: str | None, is_pdf: bool
) -> None:
    request = RequestFactory().get("/", headers={} if accept is None else {"Accept": accept})

    assert prefers(PDF, JSON, request) == is_pdf


def test_a_header_that_is_sent_twice_counts_as_one() -> None:
    request = RequestFactory().get("/", headers={"Accept": "text/html"})
    request.scope["headers"].append((b"accept", b"application/pdf"))

    assert prefers(PDF, JSON, request)
