"""Whether a stored entry or seal can be the one that was recorded.

Nothing here trusts a stored value: any of them may be what a forger has left.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from types import NoneType
from typing import Any, Final, TypeAlias

from accounting.audit.rules import entry_hash
from accounting.clock import as_stored_day
from accounting.ids import StoredId

Found: TypeAlias = Mapping[str, Any]
FieldTypes: TypeAlias = Mapping[str, tuple[type, ...]]

# The canonical form writes "2026-01-12" for a day and for a text alike, so that a value which was
# exchanged for another type's would go unseen without these.
_ENTRY_TYPES: Final[FieldTypes] = {
    "_id": (StoredId,),
    "action": (str,),
    "entityType": (str,),
    "entityId": (StoredId,),
    "userId": (StoredId,),
    "changes": (dict, NoneType),
    "description": (str,),
    "ipAddress": (str, NoneType),
    "userAgent": (str, NoneType),
    "requestId": (str, NoneType),
    "createdAt": (datetime,),
    "seq": (int,),
    "prevHash": (str,),
    "hash": (str,),
}
_SEAL_TYPES: Final[FieldTypes] = {
    "_id": (StoredId,),
    "day": (datetime,),
    "startsAt": (datetime,),
    "endsAt": (datetime,),
    "entryCount": (int,),
    "merkleRoot": (str,),
    "createdAt": (datetime,),
    "prevHash": (str,),
    "hash": (str,),
}
_HEAD_TYPES: Final[FieldTypes] = {
    "entityType": (str,),
    "entityId": (StoredId,),
    "seq": (int,),
    "hash": (str,),
}


def entry_fault(entry: Found) -> str | None:
    """Why this cannot be the entry that was recorded; None for a sound one."""
    wrong = _wrong_fields(entry, _ENTRY_TYPES)
    if not wrong and not _is_plain_json(entry["changes"]):
        wrong = ["changes"]
    return _fault(entry, wrong)


def seal_fault(seal: Found) -> str | None:
    """Why this cannot be the seal that was made; None for a sound one."""
    wrong = _wrong_fields(seal, _SEAL_TYPES)
    if not wrong and as_stored_day(seal["day"].date()) != seal["day"]:
        wrong = ["day"]
    return _fault(seal if wrong else {**seal, "day": seal["day"].date()}, wrong)


def is_readable_head(head: Found) -> bool:
    """Whether a chain can be compared with it at all."""
    return not _wrong_fields(head, _HEAD_TYPES)


def seal_day(seal: Found) -> date | None:
    """The business day of a seal, if that much can be read."""
    day = seal.get("day")
    return day.date() if type(day) is datetime else None


def whole_number(value: object) -> int | None:
    """A number, also when its type was changed: it then still stands where it stood."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value == value // 1 else None


def _fault(document: Found, wrong: list[str]) -> str | None:
    if wrong:
        return f"{', '.join(wrong)} cannot have been recorded like this"
    content = {name: document[name] for name in document.keys() - {"hash", "prevHash"}}
    try:
        computed = entry_hash(content, document["prevHash"])
    except (TypeError, ValueError, RecursionError):
        return "a value in it cannot have been recorded like this"
    return None if computed == document["hash"] else "its content does not give its hash"


def _wrong_fields(document: Found, types: FieldTypes) -> list[str]:
    # `...` is of no stored type: a field that is missing is wrong, also where it may be null.
    return [name for name, allowed in types.items() if type(document.get(name, ...)) not in allowed]


def _is_plain_json(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain_json, value))
    # A long integer has a type of its own in the driver.
    return type(value) in (str, float, bool, NoneType) or isinstance(value, int)
