"""Rows that wait to be written, ids that tell of what they are, and chains of the audit trail."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Any, Final

from bson import Decimal128, ObjectId

from accounting.actor import SYSTEM_USER_ID
from accounting.audit.rules import FIRST_PREV_HASH, AuditAction, EntityType, entry_hash
from accounting.clock import instant_to_json

Document = dict[str, Any]
Json = dict[str, Any]

USER_AGENT: Final = "Mozilla/5.0 (demo)"
SYSTEM_ID: Final = ObjectId(SYSTEM_USER_ID)
# What an id is of; chains have three kinds: the thing, its entries and its head.
INVOICE, TEMPLATE, PRICE, PAYMENT, LEDGER_ROW, MAIL = range(6)
_ENTRY_OF, _HEAD_OF = 16, 32


class Rows:
    """Documents that wait to be written, by collection."""

    def __init__(self) -> None:
        self.of: dict[str, list[Document]] = {}

    def add(self, collection: str, document: Document) -> None:
        self.of.setdefault(collection, []).append(document)


def make_id(at: datetime, kind: int, *numbers: int) -> ObjectId:
    """An id that was made at an instant; its other bytes say of what, instead of being random."""
    first, second, third = (*numbers, 0, 0)[:3]
    return ObjectId(struct.pack(">IBIBH", int(at.timestamp()), kind, first, second, third))


def money(cents: int) -> Decimal128:
    return Decimal128(text_of(cents))


def text_of(cents: int) -> str:
    """An amount as JSON shows it."""
    return f"{cents // 100}.{cents % 100:02}"


class Chain:
    """The entries about one thing, each linked to the one before it."""

    def __init__(self, rows: Rows, entity_type: EntityType, entity_id: ObjectId) -> None:
        self._rows = rows
        self._type = entity_type.value
        self._id = entity_id
        # The last bytes of the id tell things apart; its entries have another kind and number.
        _, kind, first, second, _ = struct.unpack(">IBIBH", entity_id.binary)
        self._key = (kind, first, second)
        self._seq, self._hash = 0, FIRST_PREV_HASH

    def add(
        self,
        action: AuditAction,
        at: datetime,
        actor: ObjectId,
        description: str,
        before: Json,
        after: Json,
    ) -> None:
        """Append an entry; `before` and `after` are in their JSON form."""
        self._seq += 1
        kind, first, second = self._key
        entry_id = make_id(at, kind + _ENTRY_OF, first, second, self._seq)
        is_staff = actor != SYSTEM_ID
        shared: Document = {
            "action": action.value,
            "entityType": self._type,
            "changes": {"before": before, "after": after},
            "description": description,
            "ipAddress": f"192.0.2.{first % 250 + 1}" if is_staff else None,
            "userAgent": USER_AGENT if is_staff else None,
            "requestId": f"{at:%Y%m%d%H%M%S}{first:08x}{second:04x}{0:06x}" if is_staff else None,
            "seq": self._seq,
        }
        # The ids and the instant as texts: `entry_hash` would make the same of them.
        content = {
            **shared,
            "_id": str(entry_id),
            "entityId": str(self._id),
            "userId": str(actor),
            "createdAt": instant_to_json(at),
        }
        before_it, self._hash = self._hash, entry_hash(content, self._hash)
        entry = {
            "_id": entry_id,
            **shared,
            "entityId": self._id,
            "userId": actor,
            "createdAt": at,
            "prevHash": before_it,
            "hash": self._hash,
        }
        self._rows.add("audit_logs", entry)

    def end(self, at: datetime) -> None:
        """The head of the chain, which was made with its first entry."""
        kind, first, second = self._key
        head = {
            "_id": make_id(at, kind + _HEAD_OF, first, second),
            "entityType": self._type,
            "entityId": self._id,
            "seq": self._seq,
            "hash": self._hash,
        }
        self._rows.add("audit_heads", head)
