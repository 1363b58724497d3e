"""What an audit entry says, and the chain that makes a change of it visible (spec section 7)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, Final

from accounting.ids import ObjectId

FIRST_PREV_HASH: Final = "0" * 64

Snapshot = Mapping[str, Any]


class AuditAction(StrEnum):
    """The seed's actions, and those of spec section 3 after them."""

    INVOICE_CREATED = "INVOICE_CREATED"
    INVOICE_UPDATED = "INVOICE_UPDATED"
    INVOICE_ISSUED = "INVOICE_ISSUED"
    INVOICE_SENT_TO_CUSTOMER = "INVOICE_SENT_TO_CUSTOMER"
    INVOICE_CANCELLED = "INVOICE_CANCELLED"
    PAYMENT_ADDED = "PAYMENT_ADDED"
    PAYMENT_REMOVED = "PAYMENT_REMOVED"
    PAYMENT_REFUNDED = "PAYMENT_REFUNDED"
    RECURRING_INVOICE_CREATED = "RECURRING_INVOICE_CREATED"
    RECURRING_INVOICE_UPDATED = "RECURRING_INVOICE_UPDATED"
    RECURRING_INVOICE_DELETED = "RECURRING_INVOICE_DELETED"
    RECURRING_INVOICE_PAUSED = "RECURRING_INVOICE_PAUSED"
    RECURRING_INVOICE_RESUMED = "RECURRING_INVOICE_RESUMED"
    PRICING_CONFIG_CREATED = "PRICING_CONFIG_CREATED"
    PRICING_CONFIG_UPDATED = "PRICING_CONFIG_UPDATED"
    PRICING_CONFIG_ARCHIVED = "PRICING_CONFIG_ARCHIVED"
    EMAIL_SENT = "EMAIL_SENT"
    EMAIL_FAILED = "EMAIL_FAILED"
    EMAIL_RETRY = "EMAIL_RETRY"
    INVOICE_PAID = "INVOICE_PAID"
    INVOICE_OVERDUE = "INVOICE_OVERDUE"
    INVOICE_REOPENED = "INVOICE_REOPENED"
    INVOICE_DELETED = "INVOICE_DELETED"
    INVOICE_REFUNDED = "INVOICE_REFUNDED"


class EntityType(StrEnum):
    """What an entry is about; payments and mails of an invoice are entries about that invoice."""

    INVOICE = "Invoice"
    RECURRING_INVOICE = "RecurringInvoice"
    CUSTOMER_PRICING_CONFIG = "CustomerPricingConfig"


def changed_fields(before: Snapshot | None, after: Snapshot | None) -> dict[str, Any]:
    """`{before, after}` with only the fields that differ, in their JSON form.

    A creation has no `before` fields, a deletion no `after` fields.
    """
    old, new = before or {}, after or {}
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return {
        "before": {name: to_json(old[name]) for name in names if name in old},
        "after": {name: to_json(new[name]) for name in names if name in new},
    }


def to_json(value: object) -> Any:  # noqa: PLR0911  # one line per kind of value
    """A value as JSON shows it: money and ids as strings, days as YYYY-MM-DD, instants with Z.

    Entries keep this form, so that what was recorded cannot change its meaning with a codec.
    """
    match value:
        case Enum():
            return value.value
        case Decimal() | ObjectId():
            return str(value)
        case datetime():
            return instant_to_json(value)
        case date():
            return value.isoformat()
        case Mapping():
            return {str(name): to_json(item) for name, item in value.items()}
        case list() | tuple():
            return [to_json(item) for item in value]
        case _:
            return value


def instant_to_json(value: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def entry_hash(entry: Mapping[str, object], prev_hash: str) -> str:
    """SHA-256 over the canonical entry and the hash of the entry before it.

    Canonical: the JSON form, keys sorted, no white space, UTF-8. `entry` holds every stored field
    but `hash` itself.
    """
    canonical = json.dumps(
        to_json({**entry, "prevHash": prev_hash}),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()
