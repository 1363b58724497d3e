"""Which rights on which collection the service needs, and which its setup (spec section 8).

MongoDB grants rights by the collection's name, so each name has its line here: for whoever has to
decide how far this service can be trusted with his database. A test fails for a collection without
one, another one for a right that the service never uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from accounting.db.privileges import DATABASE_ITSELF
from accounting.db.roles import Role

SERVICE_ROLE: Final = "accountingService"
SETUP_ROLE: Final = "accountingSetup"
AUDIT_LOGS: Final = "audit_logs"

_READ: Final = frozenset({"find", "listIndexes"})
# What `db apply` and `db rollback` do to a collection of ours. They read, but write no document.
_DEFINE: Final = frozenset(
    {"createCollection", "collMod", "createIndex", "dropIndex", "dropCollection"}
)
_INSERT: Final = frozenset({"insert"})
_UPDATE: Final = frozenset({"update"})
_REMOVE: Final = frozenset({"remove"})


@dataclass(frozen=True, slots=True)
class Need:
    """What has to be allowed on a collection, and what fails where it is not."""

    actions: frozenset[str]
    purpose: str


# Nothing but `find`, and only where the service reads.
PLATFORM_COLLECTIONS: Final[Mapping[str, str]] = {
    "users": "signing in, and names and addresses of customers",
    "cost_payments": "applying payments",
    "miners": "counting the miners that are billed",
    "token_blacklist": "refusing revoked tokens",
    "spaces": "",
    "hardware": "",
    "miner_rate_history": "",
    "user_activities": "",
}

# Ours. `audit_logs` and `audit_seals` can be added to, and nothing in them can be altered.
SERVICE_NEEDS: Final[Mapping[str, Need]] = {
    "invoices": Need(_READ | _INSERT | _UPDATE | _REMOVE, "writing and deleting invoices"),
    "recurring_invoices": Need(_READ | _INSERT | _UPDATE, "recurring invoices"),
    "customer_pricing_config": Need(_READ | _INSERT | _UPDATE, "prices"),
    "invoice_payments": Need(_READ | _INSERT | _UPDATE | _REMOVE, "applying payments"),
    AUDIT_LOGS: Need(_READ | _INSERT, "the audit trail, and so every change"),
    "invoice_notifications": Need(_READ | _INSERT | _UPDATE | _REMOVE, "e-mails"),
    "accounting_counters": Need(_READ | _INSERT | _UPDATE, "invoice numbers"),
    "payment_allocations": Need(_READ | _INSERT | _UPDATE, "applying payments"),
    "idempotency_keys": Need(_READ | _INSERT | _UPDATE | _REMOVE, "requests with a key"),
    "accounting_runs": Need(_READ | _INSERT | _UPDATE, "batch runs and generation"),
    "audit_heads": Need(_READ | _INSERT | _UPDATE, "the audit trail, and so every change"),
    "audit_seals": Need(_READ | _INSERT, "sealing the audit trail"),
    "invoice_pdfs.files": Need(_READ | _INSERT | _REMOVE, "PDFs"),
    "invoice_pdfs.chunks": Need(_READ | _INSERT | _REMOVE, "PDFs"),
    "mail_optouts": Need(_READ | _INSERT | _REMOVE, "unsubscribing"),
}
