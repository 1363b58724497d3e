"""The words of each page; templates only place them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from accounting.clock import business_day
from accounting.invoices.documents import Invoice
from accounting.invoices.papers import facts_now
from accounting.invoices.rules import InvoiceStatus, is_overdue
from accounting.money import ZERO
from accounting.payments.documents import InvoicePayment
from accounting.printing.company import Company
from accounting.printing.invoice import Stamp, words_of
from accounting.wording import long_day, one_line, usd

Words: TypeAlias = dict[str, Any]


def invoice_words(
    invoice: Invoice,
    payments: Iterable[InvoicePayment],
    company: Company,
    zone: ZoneInfo,
    now: datetime,
) -> Words:
    """An issued invoice as it stands now; where the paper tells of its issue. Days in `zone`."""
    facts = facts_now(invoice, zone)
    if is_overdue(invoice.status, invoice.due_date, business_day(now, zone)):
        facts = replace(facts, status=Stamp.OVERDUE)
    has_part = ZERO < invoice.amount_paid < invoice.total_amount
    return words_of(facts, company) | {
        "company": company_words(company),
        "has_balance": facts.balance_due > ZERO,
        "part_paid": f"{usd(invoice.amount_paid)} of {usd(invoice.total_amount)} is paid",
        "share_paid": str(invoice.amount_paid / invoice.total_amount) if has_part else "",
        "ended": _how_it_ended(invoice, zone),
        "payments": [
            {
                "date": long_day(business_day(payment.paid_date, zone)),
                "amount": usd(payment.amount_paid),
                "refunded": long_day(business_day(payment.refunded_date, zone))
                if payment.refunded_date
                else "",
            }
            for payment in payments
        ],
        "as_of": _moment(now, zone),
    }


def company_words(company: Company) -> Words:
    """Who bills; the logo as an address that the page carries in itself."""
    svg = base64.b64encode(company.logo.encode()).decode()
    return {
        "name": company.name,
        "address": company.address,
        "tax_id": company.tax_id,
        "email": company.email,
        "logo": f"data:image/svg+xml;base64,{svg}" if svg else "",
    }


def _how_it_ended(invoice: Invoice, zone: ZoneInfo) -> Words | None:
    """When and why an invoice was taken back; None for all others."""
    when, reason = {
        InvoiceStatus.CANCELLED: (invoice.cancelled_date, invoice.cancel_reason),
        InvoiceStatus.REFUNDED: (invoice.refunded_date, invoice.refund_reason),
    }.get(invoice.status, (None, None))
    if when is None:
        return None
    how = invoice.status.value.capitalize()
    return {
        "what": f"{how} on {long_day(business_day(when, zone))}",
        "reason": one_line(reason or ""),
    }


def _moment(now: datetime, zone: ZoneInfo) -> str:
    """`12 January 2026, 09:30 UTC`"""
    local = now.astimezone(zone)
    return f"{long_day(local.date())}, {local:%H:%M %Z}"
