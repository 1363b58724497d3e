"""Which rights on which collection the service needs, and which its setup (spec section 8).

MongoDB grants rights by a collection's name, so each name has its line here: for whoever has to
decide how far this service can be trusted with his database. One test fails for a collection
without a line, another one for a right that the running service never uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from accounting.db.manifest import META
from accounting.db.privileges import DATABASE_ITSELF
from accounting.db.roles import Role
from accounting.platform.rules import PLATFORM_COLLECTIONS, TOKEN_BLACKLIST

AUDIT_LOGS: Final = "audit_logs"

_READ: Final = frozenset({"find", "listIndexes"})
_INSERT: Final = frozenset({"insert"})
_UPDATE: Final = frozenset({"update"})
_REMOVE: Final = frozenset({"remove"})
# What `db apply` and `db rollback` do to a collection of ours; they write no documents but those
# of their own record.
_DEFINE: Final = frozenset(
    {"createCollection", "collMod", "createIndex", "dropIndex", "dropCollection"}
)


@dataclass(frozen=True, slots=True)
class Need:
    """What has to be allowed somewhere, and what fails where it is not."""

    actions: frozenset[str]
    purpose: str


# Entries of `audit_logs` and `audit_seals` can be added and never altered.
OUR_COLLECTIONS: Final[Mapping[str, Need]] = {
    "invoices": Need(_READ | _INSERT | _UPDATE | _REMOVE, "invoices"),
    "recurring_invoices": Need(_READ | _INSERT | _UPDATE, "recurring invoices"),
    "customer_pricing_config": Need(_READ | _INSERT | _UPDATE, "prices"),
    "invoice_payments": Need(_READ | _INSERT | _UPDATE | _REMOVE, "payments"),
    AUDIT_LOGS: Need(_READ | _INSERT, "the audit trail, and with it every change"),
    "invoice_notifications": Need(_READ | _INSERT | _UPDATE | _REMOVE, "e-mails"),
    "accounting_counters": Need(_READ | _INSERT | _UPDATE, "invoice numbers"),
    "payment_allocations": Need(_READ | _INSERT | _UPDATE, "payments"),
    "idempotency_keys": Need(_READ | _INSERT | _UPDATE | _REMOVE, "requests with a key"),
    "accounting_runs": Need(_READ | _INSERT | _UPDATE, "batch runs and generation"),
    "audit_heads": Need(_READ | _INSERT | _UPDATE, "the audit trail, and with it every change"),
    "audit_seals": Need(_READ | _INSERT, "the seals of the audit trail"),
    "invoice_pdfs.files": Need(_READ | _INSERT | _REMOVE, "PDFs"),
    "invoice_pdfs.chunks": Need(_READ | _INSERT | _REMOVE, "PDFs"),
    "mail_optouts": Need(_READ | _INSERT | _REMOVE, "unsubscribing from reminders"),
    "accounting_archives": Need(_READ | _INSERT | _UPDATE, "archiving"),
    "archived_accounts": Need(_READ | _INSERT | _UPDATE, "archiving, and statements after it"),
    "accounting_figures": Need(_READ | _INSERT | _UPDATE | _REMOVE, "the dashboard"),
    "accounting_figures_parts": Need(_READ | _INSERT | _UPDATE | _REMOVE, "the dashboard"),
}
_FIND: Final = frozenset({"find"})
# The platform's, as far as the service reads them. MongoDB has no rights on single fields:
# `users.password` is kept out by our projections alone.
_READ_BY_SERVICE: Final[Mapping[str, Need]] = {
    "users": Need(_FIND, "signing in, and the names and addresses of customers"),
    "cost_payments": Need(_FIND, "payments"),
    "miners": Need(_FIND, "counting the miners that are billed"),
    TOKEN_BLACKLIST: Need(_FIND, "refusing revoked tokens"),
}
_LIST: Final[Mapping[str, Need]] = {
    DATABASE_ITSELF: Need(frozenset({"listCollections"}), "the look at what is set up")
}


@dataclass(frozen=True, slots=True)
class Part:
    """Something that connects to the database as a user of its own."""

    name: str
    role_name: str
    needs: Mapping[str, Need]

    @property
    def role(self) -> Role:
        """The role with exactly what it needs."""
        return Role(self.role_name, {name: need.actions for name, need in self.needs.items()})


SERVICE: Final = Part(
    "service", "accountingService", {**_LIST, **OUR_COLLECTIONS, **_READ_BY_SERVICE}
)
SETUP: Final = Part(
    "setup",
    "accountingSetup",
    {
        **_LIST,
        **{name: Need(_READ | _DEFINE, "the setup command") for name in OUR_COLLECTIONS},
        META: Need(_READ | _DEFINE | _INSERT | _UPDATE | _REMOVE, "the record of the setup"),
        **{name: Need(_READ, "`db verify` and `db backup`") for name in PLATFORM_COLLECTIONS},
    },
)
PARTS: Final[Mapping[str, Part]] = {part.name: part for part in (SERVICE, SETUP)}
