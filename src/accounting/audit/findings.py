"""What a verification of the trail finds, and its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Final

FINDINGS_SHOWN_MAX: Final = 1_000


class FindingKind(StrEnum):
    """In which way the trail is not the one that was recorded."""

    EDITED = "edited"  # the content does not give the entry's hash
    REMOVED = "removed"  # entries are missing: at the start, inside, at the end, a whole chain
    INSERTED = "inserted"  # an entry that the service did not record
    REPLACED = "replaced"  # sound by itself, but the next link or the head knows another one
    OUT_OF_PLACE = "out_of_place"  # does not follow the entry before it
    DUPLICATE = "duplicate"  # a seq that the chain has already
    HEAD_EDITED = "head_edited"  # the record of a chain's end is unreadable
    SEAL_EDITED = "seal_edited"
    SEAL_REMOVED = "seal_removed"
    SEAL_REPLACED = "seal_replaced"
    DAY_CHANGED = "day_changed"  # a sealed day does not hold the entries that were sealed


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    kind: FindingKind
    sentence: str
    entity_type: str | None = None
    entity_id: str | None = None
    seq: int | None = None
    entry_id: str | None = None
    day: date | None = None

    def to_json(self) -> dict[str, Any]:
        """For programs; names as in the API."""
        return {
            "kind": self.kind.value,
            "sentence": self.sentence,
            "entityType": self.entity_type,
            "entityId": self.entity_id,
            "seq": self.seq,
            "entryId": self.entry_id,
            "day": self.day.isoformat() if self.day else None,
        }


@dataclass(slots=True)
class TrailReport:
    """What was checked and what was found; the first FINDINGS_SHOWN_MAX findings are kept."""

    entries: int = 0
    chains: int = 0
    seals: int = 0
    sealed_until: date | None = None
    finding_count: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return self.finding_count == 0

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it while there is room."""
        self.finding_count += 1
        if len(self.findings) < FINDINGS_SHOWN_MAX:
            self.findings.append(finding)

    def to_json(self) -> dict[str, Any]:
        """For programs; names as in the API."""
        return {
            "entries": self.entries,
            "chains": self.chains,
            "seals": self.seals,
            "sealedUntil": self.sealed_until.isoformat() if self.sealed_until else None,
            "findingCount": self.finding_count,
            "findings": [finding.to_json() for finding in self.findings],
        }
