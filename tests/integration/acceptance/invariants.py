"""What must be true of the stored books at any time, read from the raw collections.

Independent of the service's own code as far as possible: the documents are read with pymongo and
added up here. Each violation is a sentence; an empty list is a sound store.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

import httpx
from bson import ObjectId
from pymongo.database import Database

from accounting.audit.rules import to_json
from accounting.audit.verification import verify_trail
from accounting.db.client import CODEC_OPTIONS, open_client, open_database
from dashboard_books import add_up

Row: TypeAlias = dict[str, Any]

ZERO: Final = Decimal("0.00")
NUMBER: Final = re.compile(r"(\d{8})(\d\d|[1-9]\d{2,})")
OPEN: Final = ("ISSUED", "OVERDUE")
# Each of these is one change of the invoice document and so one version.
CHANGES: Final = frozenset(
    {
        "INVOICE_UPDATED",
        "INVOICE_ISSUED",
        "INVOICE_CANCELLED",
        "INVOICE_REFUNDED",
        "INVOICE_OVERDUE",
        "PAYMENT_ADDED",
        "PAYMENT_REMOVED",
    }
)
# These come in the same transaction as one of the above and tell more about it.
COMPANIONS: Final = frozenset({"INVOICE_PAID", "INVOICE_REOPENED", "PAYMENT_REFUNDED"})
MAILS: Final = frozenset({"EMAIL_SENT", "EMAIL_FAILED", "EMAIL_RETRY"})
BOUNDS: Final = frozenset({"INVOICE_CREATED", "INVOICE_DELETED"})
# What an entry never tells: ids, stamps and the version itself.
NOT_AUDITED: Final = frozenset(
    {"_id", "version", "createdAt", "createdBy", "updatedAt", "updatedBy", "issuedDay"}
)
DAYS: Final = ("invoiceGeneratedDate", "dueDate")
PAGE: Final = 100


@dataclass(frozen=True)
class Store:
    """All rows, by what they belong to."""

    invoices: Mapping[ObjectId, Row]
    links_of: Mapping[ObjectId, list[Row]]
    links_from: Mapping[ObjectId, list[Row]]
    allocations: Mapping[ObjectId, Row]
    ledger: Mapping[ObjectId, Row]
    mails_of: Mapping[ObjectId, list[Row]]
    trails: Mapping[ObjectId, list[Row]]


def check_invariants(
    mongo: Database[Any], *, without_mail: Container[ObjectId] = frozenset()
) -> list[str]:
    """Everything that is wrong; nobody may be writing meanwhile, except the workers' mails.

    `without_mail` are the invoices that were issued with `skipEmail`.
    """
    store = read_store(mongo)
    return [
        *_wrong_amounts(store),
        *_wrong_allocations(store),
        *_wrong_numbers(store),
        *_wrong_histories(store),
        *_wrong_replays(store),
        *_wrong_mails(store, without_mail),
        *_orphans(store),
        *_broken_chains(mongo),
    ]


def check_outstanding(
    mongo: Database[Any], api: httpx.Client, admin: Mapping[str, str]
) -> list[str]:
    """Outstanding has one definition: from the store, and from the list read in both ways."""
    store = read_store(mongo)
    expected = {
        str(invoice["_id"]): invoice["totalAmount"] - invoice["amountPaid"]
        for invoice in store.invoices.values()
        if invoice["status"] in OPEN
    }
    wrong: list[str] = []
    for way, read in (("pages", read_by_pages), ("cursor", read_by_cursor)):
        rows = list(read(api, admin, {"status": list(OPEN)}))
        listed = {row["id"]: Decimal(row["balanceDue"]) for row in rows}
        if len(rows) != len(listed):
            wrong.append(f"the list by {way} shows an invoice twice")
        if listed != expected:
            sums = sum(listed.values(), ZERO), sum(expected.values(), ZERO)
            wrong.append(f"outstanding by {way} is {sums[0]}, in the store it is {sums[1]}")
    return wrong + list(_wrong_dashboard(mongo, api, admin))


def _wrong_dashboard(
    mongo: Database[Any], api: httpx.Client, admin: Mapping[str, str]
) -> Iterator[str]:
    """The dashboard's figures are stored: are they what the collections add up to?"""
    answer = api.get("/dashboard", headers=dict(admin))
    assert answer.status_code == 200, answer.text
    shown, stored = answer.json(), mongo.with_options(codec_options=CODEC_OPTIONS)
    names = ("invoices", "invoice_payments", "recurring_invoices")
    books = [list(stored[name].find()) for name in names]
    as_of = datetime.fromisoformat(shown["asOf"])
    for name, figures in add_up(*books, as_of, ZoneInfo("UTC")).items():
        if shown[name] != figures:
            yield f"the dashboard says {name} {shown[name]}, in the store it is {figures}"


def read_by_pages(
    api: httpx.Client, admin: Mapping[str, str], filters: Mapping[str, Any]
) -> Iterator[Row]:
    """All invoices of a list, page by page."""
    page, pages = 1, 1
    while page <= pages:
        asked = {**filters, "page": page, "limit": PAGE}
        shown = _read_list(api, admin, asked)
        yield from shown["invoices"]
        page, pages = page + 1, shown["pagination"]["pages"]


def read_by_cursor(
    api: httpx.Client, admin: Mapping[str, str], filters: Mapping[str, Any]
) -> Iterator[Row]:
    """All invoices of a list, cursor by cursor."""
    cursor: str | None = ""
    while cursor is not None:
        shown = _read_list(api, admin, {**filters, "cursor": cursor, "limit": PAGE})
        yield from shown["invoices"]
        cursor = shown["nextCursor"]


def _read_list(api: httpx.Client, admin: Mapping[str, str], asked: Mapping[str, Any]) -> Row:
    answer = api.get("/invoices", params=dict(asked), headers=dict(admin))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def read_store(mongo: Database[Any]) -> Store:
    """Read our collections, and the ledger rows that are used."""
    stored = mongo.with_options(codec_options=CODEC_OPTIONS)
    links = list(stored["invoice_payments"].find())
    allocations = {row["_id"]: row for row in stored["payment_allocations"].find()}
    used = [*allocations, *(link["costPaymentId"] for link in links)]
    entries = stored["audit_logs"].find({"entityType": "Invoice"}).sort([("seq", 1), ("_id", 1)])
    return Store(
        invoices={row["_id"]: row for row in stored["invoices"].find()},
        links_of=_grouped(links, "invoiceId"),
        links_from=_grouped(links, "costPaymentId"),
        allocations=allocations,
        ledger={row["_id"]: row for row in stored["cost_payments"].find({"_id": {"$in": used}})},
        mails_of=_grouped(list(stored["invoice_notifications"].find()), "invoiceId"),
        trails=_grouped(list(entries), "entityId"),
    )


def ledger_cents(amount: float) -> Decimal:
    """A double of the ledger as its digits say it, half up to cents."""
    return Decimal(repr(amount)).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)


def actions_of(trail: list[Row]) -> Counter[str]:
    """How often each action stands in a trail."""
    return Counter(entry["action"] for entry in trail)


def _grouped(rows: list[Row], field: str) -> Mapping[ObjectId, list[Row]]:
    groups: dict[ObjectId, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[field]].append(row)
    return groups


def _live_sum(links: list[Row]) -> Decimal:
    live = (link["amountPaid"] for link in links if link["refundedDate"] is None)
    return sum(live, ZERO)


def _wrong_amounts(store: Store) -> Iterator[str]:
    for invoice in store.invoices.values():
        name, status, paid = invoice["invoiceNumber"], invoice["status"], invoice["amountPaid"]
        total, live = invoice["totalAmount"], _live_sum(store.links_of.get(invoice["_id"], []))
        if paid != live:
            yield f"{name}: amountPaid is {paid}, its live payments add up to {live}"
        if total != invoice["totalMiners"] * invoice["unitPrice"]:
            yield f"{name}: {total} is not {invoice['totalMiners']} x {invoice['unitPrice']}"
        if (status == "PAID") != (paid == total):
            yield f"{name}: {status} with {paid} of {total} paid"
        if status in ("DRAFT", "CANCELLED", "REFUNDED") and paid != ZERO:
            yield f"{name}: {status}, and yet {paid} is paid"
        if (status == "PAID") != (invoice["paidDate"] is not None) and status != "REFUNDED":
            yield f"{name}: {status} with the paidDate {invoice['paidDate']}"


def _wrong_allocations(store: Store) -> Iterator[str]:
    for row_id in store.allocations.keys() | store.links_from.keys():
        guard = store.allocations.get(row_id, {"allocated": ZERO})
        spent = _live_sum(store.links_from.get(row_id, [])) + (guard.get("archived") or ZERO)
        allocated = guard["allocated"]
        if allocated != spent:
            yield f"cost payment {row_id}: {allocated} allocated, its links add up to {spent}"
        amount = ledger_cents(store.ledger[row_id]["amount"])
        if spent > amount:
            yield f"cost payment {row_id}: {spent} of {amount} is given away"


def _wrong_numbers(store: Store) -> Iterator[str]:
    numbers = Counter(invoice["invoiceNumber"] for invoice in store.invoices.values())
    yield from (
        f"{number} was given out {count} times" for number, count in numbers.items() if count > 1
    )
    for invoice in store.invoices.values():
        form = NUMBER.fullmatch(invoice["invoiceNumber"])
        if form is None or form[1] != f"{invoice['invoiceGeneratedDate']:%Y%m%d}":
            yield f"{invoice['invoiceNumber']} is no number of {invoice['invoiceGeneratedDate']}"
    ever = Counter(
        trail[0]["changes"]["after"]["invoiceNumber"]
        for trail in store.trails.values()
        if trail[0]["action"] == "INVOICE_CREATED"
    )
    yield from (f"{number} was used again" for number, count in ever.items() if count > 1)


def _wrong_histories(store: Store) -> Iterator[str]:
    """The trail of each invoice, also of one that is gone, fits what became of it."""
    for invoice_id in store.invoices.keys() | store.trails.keys():
        trail, invoice = store.trails.get(invoice_id, []), store.invoices.get(invoice_id)
        actions = actions_of(trail)
        if unknown := actions.keys() - CHANGES - COMPANIONS - MAILS - BOUNDS:
            yield f"invoice {invoice_id}: no rule here for {sorted(unknown)}"
        if not trail or trail[0]["action"] != "INVOICE_CREATED" or actions["INVOICE_CREATED"] != 1:
            yield f"invoice {invoice_id}: its trail does not begin with its one creation"
        if invoice is None:
            if trail[-1]["action"] != "INVOICE_DELETED" or actions["INVOICE_DELETED"] != 1:
                yield f"invoice {invoice_id}: gone, but its trail ends with {trail[-1]['action']}"
            continue
        name, changes = invoice["invoiceNumber"], sum(actions[action] for action in CHANGES)
        if actions["INVOICE_DELETED"]:
            yield f"{name}: is there, but its trail says that it was deleted"
        if invoice["version"] != 1 + changes:
            yield f"{name}: version {invoice['version']} after {changes} changes"
        links = store.links_of.get(invoice_id, [])
        if actions["PAYMENT_ADDED"] - actions["PAYMENT_REMOVED"] != len(links):
            yield f"{name}: {len(links)} payments, but its trail tells of others"
        if actions["PAYMENT_REFUNDED"] != sum(link["refundedDate"] is not None for link in links):
            yield f"{name}: not every refunded payment has its entry"


def _wrong_replays(store: Store) -> Iterator[str]:
    """What the entries say one after the other, from nothing, is what is stored."""
    for invoice in store.invoices.values():
        told: Row = {}
        for entry in store.trails.get(invoice["_id"], []):
            after = (entry["changes"] or {}).get("after", {})
            if entry["action"].startswith("INVOICE_"):
                told |= after
            elif entry["action"].startswith("PAYMENT_"):
                told["amountPaid"] = after["amountPaid"]
        days = {name: invoice[name].date() for name in DAYS}
        stored = to_json({**invoice, **days})
        for name in stored.keys() - NOT_AUDITED:
            if told.get(name) != stored[name]:
                yield (
                    f"{invoice['invoiceNumber']}: {name} is {stored[name]!r}, "
                    f"its trail says {told.get(name)!r}"
                )


def _wrong_mails(store: Store, without_mail: Container[ObjectId]) -> Iterator[str]:
    for invoice_id, invoice in store.invoices.items():
        name, rows = invoice["invoiceNumber"], store.mails_of.get(invoice_id, [])
        kinds = Counter(row["notificationType"] for row in rows)
        was_issued = invoice["status"] != "DRAFT"
        expected = 1 if was_issued and invoice_id not in without_mail else 0
        if kinds["INVOICE_ISSUED"] != expected:
            yield (
                f"{name}: {invoice['status']} with "
                f"{kinds['INVOICE_ISSUED']} INVOICE_ISSUED notifications instead of {expected}"
            )
        keys = {row["dedupeKey"] for row in rows}
        for link in store.links_of.get(invoice_id, []):
            is_told = f"PAYMENT_RECEIVED:{invoice_id}:{link['costPaymentId']}" in keys
            if is_told != bool(expected):
                yield f"{name}: its customer was {'' if is_told else 'not '}told of a payment"
        knows = any(row["status"] == "SENT" for row in rows)
        is_cancelled = invoice["status"] == "CANCELLED"
        if kinds["INVOICE_CANCELLED"] != is_cancelled and (knows or not is_cancelled):
            yield f"{name}: {invoice['status']}, {kinds['INVOICE_CANCELLED']} cancellations told"


def _orphans(store: Store) -> Iterator[str]:
    for kind, owners in (("payments", store.links_of), ("notifications", store.mails_of)):
        for invoice_id in owners.keys() - store.invoices.keys():
            yield f"{kind} of invoice {invoice_id}, which is gone"


def _broken_chains(mongo: Database[Any]) -> Iterator[str]:
    """The links counted here, the hashes and heads by the service's own verification."""
    entries = mongo["audit_logs"].find({}, {"entityId": 1, "seq": 1, "hash": 1, "prevHash": 1})
    for entity_id, chain in _grouped(list(entries.sort("seq", 1)), "entityId").items():
        if [entry["seq"] for entry in chain] != list(range(1, len(chain) + 1)):
            yield f"entity {entity_id}: its entries are not numbered 1 to {len(chain)}"
        if chain[0]["prevHash"] != "0" * 64:
            yield f"entity {entity_id}: its first entry follows another one"
        if any(entry["hash"] != following["prevHash"] for entry, following in pairwise(chain)):
            yield f"entity {entity_id}: an entry does not follow the one before it"
    # A thread of its own, since the caller's may have a running loop.
    with ThreadPoolExecutor(1) as thread:
        yield from thread.submit(asyncio.run, _verify(mongo)).result()


async def _verify(mongo: Database[Any]) -> list[str]:
    address = mongo.client.address
    assert address is not None
    client = open_client("mongodb://{}:{}".format(*address))
    try:
        report = await verify_trail(open_database(client, mongo.name))
    finally:
        client.close()
    return [finding.sentence for finding in report.findings]
