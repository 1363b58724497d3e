"""Following the chains of the trail entry by entry, as they are found in the database.

Nothing here trusts a stored value: any of them may be what a forger has left.
"""

from __future__ import annotations

from dataclasses import dataclass

from accounting.audit.faults import Found, entry_fault, whole_number
from accounting.audit.findings import Finding, FindingKind, TrailReport
from accounting.audit.rules import FIRST_PREV_HASH
from accounting.ids import StoredId


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """The last entry of a chain, as found."""

    entity_type: object
    entity_id: object
    seq: int
    hash: object
    entry_id: object
    is_sound: bool

    @property
    def key(self) -> tuple[str, StoredId] | None:
        """What the head is found by; None when no head can have it."""
        if type(self.entity_type) is str and type(self.entity_id) is StoredId:
            return self.entity_type, self.entity_id
        return None


class ChainWalk:
    """Takes all entries in order of (entityType, entityId, seq) and reports what does not fit."""

    def __init__(self, report: TrailReport) -> None:
        self._report = report
        self._last: ChainEnd | None = None

    def take(self, entry: Found) -> ChainEnd | None:
        """Check the next entry; returns the end of the chain before when this starts another."""
        last = self._last
        ended = None
        chain = (entry.get("entityType"), entry.get("entityId"))
        if last is None or chain != (last.entity_type, last.entity_id):
            ended, last = last, None
            self._report.chains += 1
        self._report.entries += 1

        fault = entry_fault(entry)
        if fault:
            self._add(FindingKind.EDITED, entry, f"was edited: {fault}.")
        seq = whole_number(entry.get("seq"))
        # Without a number it has no place; the place that was its own shows as a gap.
        is_extra = seq is None or self._is_extra(last, entry, seq, is_sound=not fault)
        if last is None or not is_extra:
            place = 0 if is_extra else seq or 0
            self._last = ChainEnd(*chain, place, entry.get("hash"), entry.get("_id"), not fault)
        return ended

    def finish(self) -> ChainEnd | None:
        """The end of the last chain."""
        return self._last

    def _is_extra(self, last: ChainEnd | None, entry: Found, seq: int, *, is_sound: bool) -> bool:
        """Report what is wrong with an entry's place; true when the chain has no such place."""
        expected = last.seq + 1 if last else 1
        if seq < expected:
            # In order of seq: the number of the entry before, or none that a chain begins with.
            self._add(FindingKind.DUPLICATE, entry, "has a seq that is taken or below 1.")
            return True
        if seq > expected:
            self._add_missing(entry, expected, seq - 1)
        else:
            self._check_link(last, entry, is_sound=is_sound)
        return False

    def _check_link(self, last: ChainEnd | None, entry: Found, *, is_sound: bool) -> None:
        if entry.get("prevHash") == (last.hash if last else FIRST_PREV_HASH):
            return
        if last is None:
            self._add(
                FindingKind.OUT_OF_PLACE, entry, "was not recorded as the first of its chain."
            )
        elif not is_sound:
            self._add(FindingKind.OUT_OF_PLACE, entry, "does not follow the entry before it.")
        elif last.is_sound:
            # The hash of this entry vouches for its prevHash, so it is the other one that changed.
            self._report.add(
                Finding(
                    FindingKind.REPLACED,
                    f"{_name(*chain_of(entry), last.seq)} is not the entry that was recorded: "
                    f"seq {last.seq + 1} was appended to another one.",
                    *chain_of(entry),
                    seq=last.seq,
                    entry_id=str(last.entry_id),
                )
            )

    def _add(self, kind: FindingKind, entry: Found, what: str) -> None:
        seq = whole_number(entry.get("seq"))
        self._report.add(
            Finding(
                kind,
                f"{_name(*chain_of(entry), seq)} {what}",
                *chain_of(entry),
                seq=seq,
                entry_id=str(entry.get("_id")),
            )
        )

    def _add_missing(self, entry: Found, first: int, last: int) -> None:
        where = "The first entries" if first == 1 else "Entries"
        self._report.add(
            Finding(
                FindingKind.REMOVED,
                f"{where} of {_name(*chain_of(entry))} are missing: {_range(first, last)}.",
                *chain_of(entry),
                seq=first,
            )
        )


def compare_with_head(end: ChainEnd | None, head: Found | None) -> Finding | None:
    """What is wrong at the end of a chain, when what was found there is not what was recorded."""
    if head is not None and (end is None or end.seq < head["seq"]):
        first = end.seq + 1 if end else 1
        where = "The last entries of" if end else "All entries of"
        return Finding(
            FindingKind.REMOVED,
            f"{where} {_name(*chain_of(head))} are missing: {_range(first, head['seq'])}.",
            *chain_of(head),
            seq=first,
        )
    if end is None:
        return None
    chain = str(end.entity_type), str(end.entity_id)
    if head is None or end.seq > head["seq"]:
        known = f"seq {head['seq']}" if head else "no entry"
        kind, sentence = FindingKind.INSERTED, f"was not recorded: its chain ends with {known}."
    elif end.hash != head["hash"] and end.is_sound:
        kind, sentence = FindingKind.REPLACED, "is not the entry that was recorded."
    else:
        return None
    return Finding(kind, f"{_name(*chain, end.seq)} {sentence}", *chain, end.seq, str(end.entry_id))


def chain_end(entry: Found) -> ChainEnd:
    """The end of a chain from its last entry."""
    return ChainEnd(
        entry.get("entityType"),
        entry.get("entityId"),
        whole_number(entry.get("seq")) or 0,
        entry.get("hash"),
        entry.get("_id"),
        entry_fault(entry) is None,
    )


def chain_of(document: Found) -> tuple[str, str]:
    """Type and id of the entity, for people."""
    return str(document.get("entityType")), str(document.get("entityId"))


def _name(entity_type: str, entity_id: str, seq: int | None = None) -> str:
    return f"{entity_type} {entity_id}" + ("" if seq is None else f" seq {seq}")


def _range(first: int, last: int) -> str:
    return f"seq {first}" if first == last else f"seq {first} to {last}"
