"""What an audit entry says, and the chain that makes a change of it visible (spec section 7)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from types import NoneType
from typing import Any, Final
from zoneinfo import ZoneInfo

from accounting.clock import business_day, instant_to_json, start_of_day
from accounting.ids import StoredId

FIRST_PREV_HASH: Final = "0" * 64
# RFC 6962. Without them the two hashes below a node could be shown as one leaf, and a shorter list
# of entries would have the same root.
_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_JSON_ALREADY: Final = frozenset({str, int, float, bool, NoneType})

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
    # Only where a repair of its record has no invoice to be told of.
    COST_PAYMENT = "CostPayment"


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
    if type(value) in _JSON_ALREADY:  # most values; the order of the cases costs time otherwise
        return value
    match value:
        case Enum():
            return value.value
        case Decimal() | StoredId():
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


def entry_hash(entry: Mapping[str, object], prev_hash: str) -> str:
    """SHA-256 over the canonical entry, or seal, and the hash of the one before it.

    Canonical: the JSON form, keys sorted, no white space, UTF-8. `entry` holds every stored field
    but `hash` and `prevHash`.
    """
    canonical = json.dumps(
        to_json({**entry, "prevHash": prev_hash}),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


class MerkleTree:
    """One hash for a list of any length, built leaf by leaf; the tree of RFC 6962.

    It keeps the roots of complete subtrees only, so that a day of a million entries costs some
    twenty hashes of memory.
    """

    def __init__(self) -> None:
        self.leaf_count = 0
        self._complete: list[tuple[int, bytes]] = []  # (height, root), the highest first

    def add(self, entry_hash: object) -> None:
        """Append a leaf: the hash of an entry, or whatever a forger has put in its place."""
        self.leaf_count += 1
        height, root = 0, hashlib.sha256(_LEAF + str(entry_hash).encode()).digest()
        while self._complete and self._complete[-1][0] == height:
            _, left = self._complete.pop()
            height, root = height + 1, _node_hash(left, root)
        self._complete.append((height, root))

    def root(self) -> str:
        """The hash over all leaves in their order; of no leaves, the hash of nothing."""
        if not self._complete:
            return hashlib.sha256().hexdigest()
        roots = [root for _, root in self._complete]
        root = roots.pop()
        while roots:
            root = _node_hash(roots.pop(), root)
        return root.hex()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class SealPeriod:
    """What one seal covers: `starts_at <= createdAt < ends_at`, named after its business day."""

    day: date
    starts_at: datetime
    ends_at: datetime


def first_period(first_entry_at: datetime, zone: ZoneInfo) -> SealPeriod:
    """The business day on which the trail begins."""
    day = business_day(first_entry_at, zone)
    return SealPeriod(day, start_of_day(day, zone), _end_of_day(day, zone))


def next_period(last: SealPeriod, zone: ZoneInfo) -> SealPeriod:
    """The day after the last sealed one.

    It begins where that one ended, so that no instant is left out or sealed twice when the
    business zone was changed in between.
    """
    day = last.day + timedelta(days=1)
    return SealPeriod(day, last.ends_at, max(last.ends_at, _end_of_day(day, zone)))


def _end_of_day(day: date, zone: ZoneInfo) -> datetime:
    return start_of_day(day + timedelta(days=1), zone)
