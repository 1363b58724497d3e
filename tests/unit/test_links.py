"""The addresses that e-mails carry."""

from __future__ import annotations

import pytest

from accounting.links import public_invoice_url, unsubscribe_url


@pytest.mark.parametrize(
    "public_url", ["https://pay.example.com/billing", "https://pay.example.com/billing/"]
)
def test_links_begin_with_the_public_address(public_url: str) -> None:
    base = "https://pay.example.com/billing/api/accounting/public"

    assert public_invoice_url(public_url, "t0ken") == f"{base}/invoices/t0ken"
    assert unsubscribe_url(public_url, "t0ken") == f"{base}/unsubscribe/t0ken"
