"""Reading the platform's collections. This package has no function that writes (spec section 2)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol

from accounting.actor import Role
from accounting.db.client import DriverError, MongoDatabase
from accounting.errors import Invalid
from accounting.ids import StoredId
from accounting.money import AMOUNT_MAX, ZERO, cents, from_double
from accounting.platform.rules import (
    CostPayment,
    CostPaymentId,
    CostPaymentNotFound,
    CostPaymentType,
    CustomerNotFound,
    PlatformUser,
    UserEntry,
    UserId,
)

NAME_LENGTH_MAX: Final = 200
EMAIL_LENGTH_MAX: Final = 254
_KNOWN_ROLES: Final = (Role.ADMIN, Role.SUPER_ADMIN, Role.CLIENT)

# Explicit projections: the password never leaves the server.
_USER_FIELDS: Final = {"_id": 1, "name": 1, "email": 1, "companyName": 1, "role": 1, "isDeleted": 1}
# So many are worked on in one go, some 2 ms, and then other requests have their turn.
_USERS_AT_ONCE: Final = 500
# A prime with which a sum of very many stays a whole number.
_DIGEST_MODULUS: Final = 2**31 - 1
_SEARCHED_USER_FIELDS: Final = ("name", "email", "companyName")
_COST_PAYMENT_FIELDS: Final = {
    "_id": 1,
    "userId": 1,
    "amount": 1,
    "type": 1,
    "narration": 1,
    "createdAt": 1,
    "isDeleted": 1,
}


class CustomerSearch(Protocol):
    """Who finds customers by a part of a name: the platform itself, or what is kept of it."""

    async def find_customer_ids(
        self, text: str, *, limit: int, among: Iterable[UserId] | None = None
    ) -> list[UserId]: ...


class UserFinder(Protocol):
    """Who knows users by id: the platform itself, or what is remembered of it."""

    async def find_users(self, user_ids: Iterable[UserId]) -> dict[UserId, PlatformUser]: ...


class Platform(CustomerSearch, UserFinder, Protocol):
    """What the service asks of the host; MongoDB in production, plain dictionaries in tests."""

    async def find_user(self, user_id: UserId) -> PlatformUser | None: ...

    def walk_users(self) -> AsyncIterator[list[UserEntry]]: ...

    async def digest_users(self) -> object | None: ...

    async def find_cost_payment(self, cost_payment_id: CostPaymentId) -> CostPayment | None: ...

    async def find_cost_payments(
        self, cost_payment_ids: Iterable[CostPaymentId]
    ) -> dict[CostPaymentId, CostPayment]: ...

    async def sum_ledger(self, user_id: UserId) -> Decimal: ...

    async def list_usable_payments(self, user_id: UserId, limit: int) -> list[CostPayment]: ...

    async def page_of_payments(
        self, user_id: UserId, *, page: int, limit: int
    ) -> tuple[list[CostPayment], int]: ...

    async def count_active_miners(self, user_id: UserId, statuses: Sequence[str]) -> int: ...

    async def count_active_miners_of(
        self, user_ids: Iterable[UserId], statuses: Sequence[str]
    ) -> dict[UserId, int]: ...

    async def is_token_revoked(self, token: str, now: datetime) -> bool: ...


async def get_customer(platform: Platform, user_id: UserId) -> PlatformUser:
    """The customer with this id. Raises CustomerNotFound for staff, deleted and unknown users."""
    user = await platform.find_user(user_id)
    if user is None or not user.is_customer:
        raise CustomerNotFound(user_id)
    return user


async def get_cost_payment(platform: Platform, cost_payment_id: CostPaymentId) -> CostPayment:
    """A row of the wallet ledger. Raises CostPaymentNotFound."""
    cost_payment = await platform.find_cost_payment(cost_payment_id)
    if cost_payment is None:
        raise CostPaymentNotFound(cost_payment_id)
    return cost_payment


class MongoPlatform:
    """The platform as it is: reads on its own collections."""

    def __init__(self, mongo: MongoDatabase) -> None:
        self._users = mongo["users"]
        self._cost_payments = mongo["cost_payments"]
        self._miners = mongo["miners"]
        self._token_blacklist = mongo["token_blacklist"]

    async def find_user(self, user_id: UserId) -> PlatformUser | None:
        raw = await self._users.find_one({"_id": user_id}, _USER_FIELDS)
        return _user(raw) if raw else None

    async def find_users(self, user_ids: Iterable[UserId]) -> dict[UserId, PlatformUser]:
        found = self._users.find({"_id": {"$in": list(set(user_ids))}}, _USER_FIELDS)
        return {user.id: user async for raw in found for user in [_user(raw)]}

    async def find_customer_ids(
        self, text: str, *, limit: int, among: Iterable[UserId] | None = None
    ) -> list[UserId]:
        """Users with this text in name, e-mail or company, in any case; deleted ones have invoices.

        No index of the platform serves this: all users are walked through, see `user_book.py`.
        """
        has_text = {"$regex": re.escape(text), "$options": "i"}
        query: dict[str, Any] = {"$or": [{name: has_text} for name in _SEARCHED_USER_FIELDS]}
        if among is not None:
            query["_id"] = {"$in": list(among)}
        found = self._users.find(query, {"_id": 1}).limit(limit)
        return [UserId(raw["_id"]) async for raw in found]

    async def walk_users(self) -> AsyncIterator[list[UserEntry]]:
        """Every user, deleted ones as well, in parts and no order: see `user_book.py`."""
        found = self._users.find({}, _USER_FIELDS).batch_size(_USERS_AT_ONCE)
        while part := await found.to_list(_USERS_AT_ONCE):
            # No invoice can name any other kind of id.
            yield [_entry(raw) for raw in part if isinstance(raw["_id"], StoredId)]

    async def digest_users(self) -> object | None:
        """Another value when what is read of any user has changed; None if the server has none.

        Made by the server in a fifth of the time that it takes to read them, and here in none.
        """
        hashed = {"$mod": [{"$toHashedIndexKey": "$$ROOT"}, _DIGEST_MODULUS]}
        sums = {"_id": None, "number": {"$sum": 1}, "digest": {"$sum": hashed}}
        try:
            found = self._users.aggregate([{"$project": _USER_FIELDS}, {"$group": sums}])
            return [(raw["number"], raw["digest"]) async for raw in found]
        except DriverError:
            # Before MongoDB 6 there may be no such operator; whatever else it is, reading says it.
            return None

    async def find_cost_payment(self, cost_payment_id: CostPaymentId) -> CostPayment | None:
        raw = await self._cost_payments.find_one({"_id": cost_payment_id}, _COST_PAYMENT_FIELDS)
        return _cost_payment(raw) if raw else None

    async def find_cost_payments(
        self, cost_payment_ids: Iterable[CostPaymentId]
    ) -> dict[CostPaymentId, CostPayment]:
        found = self._cost_payments.find(
            {"_id": {"$in": list(set(cost_payment_ids))}}, _COST_PAYMENT_FIELDS
        )
        return {CostPaymentId(raw["_id"]): _cost_payment(raw) async for raw in found}

    async def sum_ledger(self, user_id: UserId) -> Decimal:
        """The wallet balance: every row that is not deleted, each in cents, signed.

        Rows that hold no amount count as nothing.
        """
        found = self._cost_payments.find(
            {"userId": user_id, "isDeleted": {"$ne": True}}, {"_id": 0, "amount": 1}
        )
        amounts = [_amount(raw.get("amount")) async for raw in found]
        return sum((amount for amount in amounts if amount is not None), ZERO)

    async def list_usable_payments(self, user_id: UserId, limit: int) -> list[CostPayment]:
        """Those that can pay invoices, oldest first."""
        found = self._cost_payments.find(_usable_payments(user_id), _COST_PAYMENT_FIELDS)
        oldest = found.sort([("createdAt", 1), ("_id", 1)]).limit(limit)
        return [_cost_payment(raw) async for raw in oldest]

    async def page_of_payments(
        self, user_id: UserId, *, page: int, limit: int
    ) -> tuple[list[CostPayment], int]:
        """A page of those that can pay invoices, newest first, and how many there are."""
        query = _usable_payments(user_id)
        found = self._cost_payments.find(query, _COST_PAYMENT_FIELDS)
        newest = found.sort([("createdAt", -1), ("_id", -1)]).skip((page - 1) * limit).limit(limit)
        rows = [_cost_payment(raw) async for raw in newest]
        return rows, await self._cost_payments.count_documents(query)

    async def count_active_miners(self, user_id: UserId, statuses: Sequence[str]) -> int:
        return await self._miners.count_documents(_active_miners(user_id, statuses))

    async def count_active_miners_of(
        self, user_ids: Iterable[UserId], statuses: Sequence[str]
    ) -> dict[UserId, int]:
        """The active miners of each of these customers; one without any is left out."""
        active = _active_miners({"$in": list(set(user_ids))}, statuses)
        by_owner = {"$group": {"_id": "$userId", "count": {"$sum": 1}}}
        counted = self._miners.aggregate([{"$match": active}, by_owner])
        return {UserId(raw["_id"]): raw["count"] async for raw in counted}

    async def is_token_revoked(self, token: str, now: datetime) -> bool:
        # The collection need not exist: then nothing is found.
        raw = await self._token_blacklist.find_one({"token": token}, {"expiresAt": 1})
        if raw is None:
            return False
        expires_at = raw.get("expiresAt")
        return not isinstance(expires_at, datetime) or expires_at > now


def _active_miners(owner: object, statuses: Sequence[str]) -> dict[str, Any]:
    return {"userId": owner, "status": {"$in": list(statuses)}, "isDeleted": {"$ne": True}}


def _usable_payments(user_id: UserId) -> dict[str, Any]:
    # `$gte` half a cent: a smaller double is nothing once it is rounded to cents.
    return {
        "userId": user_id,
        "type": CostPaymentType.PAYMENT.value,
        "amount": {"$gte": 0.005, "$lt": float("inf")},
        "isDeleted": {"$ne": True},
    }


def _user(raw: Mapping[str, Any]) -> PlatformUser:
    role, entry = raw.get("role"), _entry(raw)
    return PlatformUser(
        id=UserId(entry.id),
        name=entry.name,
        email=entry.email,
        company_name=entry.company_name,
        role=Role(role) if role in _KNOWN_ROLES else Role.UNKNOWN,
        is_deleted=bool(raw.get("isDeleted")),
    )


def _entry(raw: Mapping[str, Any]) -> UserEntry:
    email = str(raw.get("email") or "").strip()
    return UserEntry(
        raw["_id"],
        _text(raw.get("name")) or _text(email) or str(raw["_id"]),
        email if len(email) <= EMAIL_LENGTH_MAX else "",
        _text(raw.get("companyName")) or None,
        raw.get("role") == Role.CLIENT and not raw.get("isDeleted"),
    )


def _text(value: object) -> str:
    # The platform sets no limits; ours are those of our own documents.
    return str(value or "").strip()[:NAME_LENGTH_MAX]


def _cost_payment(raw: Mapping[str, Any]) -> CostPayment:
    amount, user_id = _amount(raw.get("amount")), raw.get("userId")
    return CostPayment(
        id=CostPaymentId(raw["_id"]),
        user_id=UserId(user_id) if isinstance(user_id, StoredId) else None,
        amount=amount if amount is not None else ZERO,
        is_readable=amount is not None,
        type=str(raw.get("type", "")),
        narration=raw.get("narration"),
        created_at=raw.get("createdAt"),
        is_deleted=bool(raw.get("isDeleted")),
    )


def _amount(value: object) -> Decimal | None:
    """A ledger amount in cents; None for what is no amount that our books can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    try:
        amount = cents(value) if isinstance(value, Decimal) else from_double(value)
    except (Invalid, ArithmeticError):
        return None
    return amount if abs(amount) <= AMOUNT_MAX else None
