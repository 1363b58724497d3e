"""What this service sees of the platform's documents, and what those facts mean here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from accounting.actor import Role
from accounting.errors import Conflict, NotFound
from accounting.ids import ObjectId, StoredId
from accounting.money import ZERO

# The host's collections, none of which this service ever writes to (spec section 2).
PLATFORM_COLLECTIONS: Final = (
    "users",
    "cost_payments",
    "miners",
    "spaces",
    "hardware",
    "miner_rate_history",
    "user_activities",
)
# Never read, not even to tell whether it is still the same.
SECRET_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {"users": ("password",)}
# One more, which not every platform has.
TOKEN_BLACKLIST: Final = "token_blacklist"

UserId: TypeAlias = ObjectId
CostPaymentId: TypeAlias = ObjectId


class CustomerNotFound(NotFound):
    """No user with this id is a customer: role CLIENT and not deleted."""

    def __init__(self, user_id: UserId) -> None:
        super().__init__(f"There is no customer {user_id}.", customerId=str(user_id))


class CostPaymentNotFound(NotFound):
    """The wallet ledger has no such row."""

    def __init__(self, cost_payment_id: CostPaymentId) -> None:
        super().__init__(
            f"There is no cost payment {cost_payment_id}.", costPaymentId=str(cost_payment_id)
        )


class CostPaymentUnusable(Conflict):
    """The ledger row exists but cannot pay an invoice; itself, when its amount cannot be read."""

    def __init__(self, cost_payment_id: CostPaymentId, reason: str) -> None:
        super().__init__(
            f"Cost payment {cost_payment_id} {reason}; only a PAYMENT above zero that is not "
            "deleted can pay an invoice.",
            costPaymentId=str(cost_payment_id),
        )


class CostPaymentDeleted(CostPaymentUnusable):
    """The platform has deleted the ledger row."""


class CostPaymentWrongType(CostPaymentUnusable):
    """The ledger row is a charge or an adjustment."""


class CostPaymentNotPositive(CostPaymentUnusable):
    """The ledger row is for nothing, or takes money away."""


class CostPaymentType(StrEnum):
    """The kinds of rows in the platform's wallet ledger."""

    PAYMENT = "PAYMENT"
    ELECTRICITY_CHARGES = "ELECTRICITY_CHARGES"
    ADJUSTMENT = "ADJUSTMENT"


@dataclass(frozen=True, slots=True)
class PlatformUser:
    """A user of the platform; the password is never read."""

    id: UserId
    name: str
    email: str
    company_name: str | None
    role: Role
    is_deleted: bool

    @property
    def is_customer(self) -> bool:
        return self.role is Role.CLIENT and not self.is_deleted


class UserEntry(NamedTuple):
    """What a list of very many users says of each: made in a third of a PlatformUser's time."""

    id: StoredId
    name: str
    email: str
    company_name: str | None
    is_customer: bool


@dataclass(frozen=True, slots=True)
class CostPayment:
    """A row of the wallet ledger; `amount` in USD cents, signed, converted once at the border."""

    id: CostPaymentId
    user_id: UserId | None
    amount: Decimal
    type: str
    narration: str | None
    created_at: datetime | None
    is_deleted: bool
    is_readable: bool = True

    def check_can_pay(self) -> None:
        """Raises CostPaymentUnusable, or a kind of it, unless this row can settle invoices."""
        if not self.is_readable:
            raise CostPaymentUnusable(self.id, "has no amount that can be read")
        if self.is_deleted:
            raise CostPaymentDeleted(self.id, "is deleted")
        if self.type != CostPaymentType.PAYMENT:
            raise CostPaymentWrongType(self.id, f"is of type {self.type}")
        if self.amount <= ZERO:
            raise CostPaymentNotPositive(self.id, f"has the amount {self.amount}")
