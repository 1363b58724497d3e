"""What an examination of the store finds (spec section 6, "integrity", and section 9, `doctor`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from accounting.db.database import Transaction


class FindingKind(StrEnum):
    """In which way the store is not sound."""

    AMOUNT_PAID_WRONG = "amount_paid_wrong"  # an invoice's paid amount is not that of its payments
    STATUS_WRONG = "status_wrong"  # PAID and not paid in full, or the other way round
    ISSUED_DAY_WRONG = "issued_day_wrong"  # lists by another time would leave it out
    TOTAL_WRONG = "total_wrong"  # not miners times price
    ORPHAN_PAYMENT = "orphan_payment"  # its invoice is gone
    ALLOCATION_WRONG = "allocation_wrong"  # a cost payment's guard is not the sum of its payments
    OVERSPENT = "overspent"  # more is applied of a cost payment than it has
    LEDGER_ROW_VANISHED = "ledger_row_vanished"  # an applied cost payment is gone or deleted
    LEDGER_ROW_CHANGED = "ledger_row_changed"  # it became another customer's, or no payment
    NUMBER_DUPLICATE = "number_duplicate"
    COUNTER_BEHIND = "counter_behind"  # the next number of a day was given out already
    PERIOD_DUPLICATE = "period_duplicate"  # two invoices of a template for one month
    SCHEDULE_BEHIND = "schedule_behind"  # a template does not know its last invoice
    PRICES_OVERLAP = "prices_overlap"
    OUTBOX_STUCK = "outbox_stuck"  # an e-mail that is due and that no worker takes
    RUN_STUCK = "run_stuck"
    FIGURES = "figures"  # the stored figures of the dashboard are not what counting gives
    AUDIT_TRAIL = "audit_trail"  # what `accounting audit verify` names


Mend: TypeAlias = Callable[[Transaction], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Repair:
    """What would put it right: in words, and as a use case that looks again before it writes."""

    words: str
    mend: Mend


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where; without a repair a person has to decide."""

    kind: FindingKind
    entity_type: str
    entity_id: str
    sentence: str
    repair: Repair | None = None

    def to_json(self) -> dict[str, Any]:
        """For programs; names as in the API."""
        return {
            "kind": self.kind.value,
            "entityType": self.entity_type,
            "entityId": self.entity_id,
            "sentence": self.sentence,
            "repair": self.repair.words if self.repair else None,
        }
