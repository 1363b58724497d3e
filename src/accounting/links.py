"""Addresses of this service, as requests come to it and as e-mails carry them (spec section 5)."""

from __future__ import annotations

from typing import Final

BASE_PATH: Final = "/api/accounting"
# What needs no token of the platform: the address itself is the secret.
PUBLIC_PATH: Final = f"{BASE_PATH}/public"


def public_invoice_url(public_url: str, view_token: str) -> str:
    """The page of an invoice, for whoever got the e-mail with this token.

    `public_url` is ACCOUNTING_PUBLIC_URL. The invoice as PDF is at the same address with `.pdf`.
    """
    return f"{public_url.rstrip('/')}{PUBLIC_PATH}/invoices/{view_token}"


def unsubscribe_url(public_url: str, view_token: str) -> str:
    """Where that reader stops reminders: a page by GET, and done by POST (RFC 8058)."""
    return f"{public_url.rstrip('/')}{PUBLIC_PATH}/unsubscribe/{view_token}"
