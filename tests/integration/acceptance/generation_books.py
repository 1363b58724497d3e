"""What must be true after templates were billed, read from the raw collections.

The expectation is that of `billing_world`. Each violation is a sentence, as in `invariants`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from bson import ObjectId
from pymongo.database import Database

from accounting.db.client import CODEC_OPTIONS
from integration.acceptance.billing_world import FAILURES, Bill, Key, World, as_stored
from integration.acceptance.invariants import Row, check_invariants

DUE_DAYS: Final = 30
NUMBERS: Final = re.compile(r" of customer [0-9a-f]{24} generated ([0-9, ]+)")
# What another run may find of a template that cannot be billed: the third that fails pauses it.
PAUSED: Final = "not_active"
# Another run was there before, so that the month was passed over by then.
PASSED_OVER: Final = "not_due"


@dataclass(frozen=True)
class Generated:
    """The rows that tell of a generation."""

    world: World
    invoices: Sequence[Row]
    templates: Mapping[ObjectId, Row]
    trails: Mapping[ObjectId, list[Row]]
    wholes: Sequence[Row]
    parts_of: Mapping[ObjectId, list[Row]]

    def results(self) -> Iterator[tuple[Row, Key, Row]]:
        """Each item with its run and its month."""
        for whole in self.wholes:
            for part in self.parts_of.get(whole["_id"], []):
                for item in part["items"]:
                    yield whole, (item["id"], item["label"]), item


def check_generation(mongo: Database[Any], world: World) -> list[str]:
    """Everything that is wrong with the books after every run has ended and nobody writes."""
    stored = _read(mongo, world)
    addressless = {each.id for each in world.customers if not each.has_email}
    without_mail = {row["_id"] for row in stored.invoices if row["userId"] in addressless}
    return [
        *_wrong_months(stored),
        *_wrong_bills(stored),
        *_wrong_schedules(stored),
        *_wrong_runs(stored),
        *_wrong_results(stored),
        *_wrong_trails(stored),
        *check_invariants(mongo, without_mail=without_mail),
    ]


def _read(mongo: Database[Any], world: World) -> Generated:
    books = mongo.with_options(codec_options=CODEC_OPTIONS)
    parts_of, trails = defaultdict(list), defaultdict(list)
    for part in books["accounting_runs"].find({"partOf": {"$ne": None}}).sort("partNumber", 1):
        parts_of[part["partOf"]].append(part)
    for entry in books["audit_logs"].find({"entityType": "RecurringInvoice"}).sort("seq", 1):
        trails[entry["entityId"]].append(entry)
    return Generated(
        world=world,
        invoices=list(books["invoices"].find()),
        templates={row["_id"]: row for row in books["recurring_invoices"].find()},
        trails=trails,
        wholes=list(books["accounting_runs"].find({"partOf": None})),
        parts_of=parts_of,
    )


def _month(row: Row) -> Key:
    return row["recurringInvoiceId"], row["billingPeriod"]


def _wrong_months(stored: Generated) -> Iterator[str]:
    """One invoice for each month that has to be billed, and none for any other."""
    made, bills = Counter(map(_month, stored.invoices)), stored.world.bills
    for template_id, period in made.keys() | bills.keys():
        count, wanted = made[template_id, period], int((template_id, period) in bills)
        if count != wanted:
            yield f"template {template_id}: {count} invoices for {period} instead of {wanted}"


def _wrong_bills(stored: Generated) -> Iterator[str]:
    """Each is what the customer owes at the price of the day on which it was scheduled."""
    bills = stored.world.bills
    for row in stored.invoices:
        if bill := bills.get(_month(row)):
            wanted = _row_of(bill, stored.world.as_of, row["issuedDate"])
            yield from _differences(row["invoiceNumber"], row, wanted)


def _row_of(bill: Bill, as_of: date, issued_date: datetime | None) -> Row:
    """What the invoice has to say; the time to pay begins when it is issued."""
    template, customer = bill.template, bill.template.customer
    begin = issued_date.date() if issued_date else as_of
    return {
        "userId": customer.id,
        "totalMiners": customer.miners,
        "unitPrice": bill.unit_price,
        "totalAmount": bill.total,
        "status": "ISSUED" if template.auto_issue else "DRAFT",
        "invoiceGeneratedDate": as_stored(as_of),
        "dueDate": as_stored(begin + timedelta(days=DUE_DAYS)),
        "pricing": {
            "source": "PRICING_CONFIG" if bill.price else "TEMPLATE",
            "pricingConfigId": bill.price.id if bill.price else None,
            "minerIdsCount": customer.miners,
        },
    }


def _wrong_schedules(stored: Generated) -> Iterator[str]:
    """The template says of the last invoice when it was scheduled, and of the last skipped month.

    A skipped month stays due until the next one comes.
    """
    expected = stored.world.expected
    for template in stored.world.templates:
        due = template.due(stored.world.as_of)
        outcomes = [expected[template.id, f"{day:%Y-%m}"] for day in due]
        billed = [
            day for day, outcome in zip(due, outcomes, strict=True) if isinstance(outcome, Bill)
        ]
        passed = [
            day
            for day, outcome in zip(due[:-1], outcomes, strict=False)
            if not isinstance(outcome, Bill) and outcome not in FAILURES
        ]
        wanted = {
            "lastGeneratedDate": as_stored(max(billed, default=template.last_generated)),
            "lastSkippedDate": as_stored(max(passed, default=None)),
        }
        yield from _differences(f"template {template.id}", stored.templates[template.id], wanted)


def _wrong_runs(stored: Generated) -> Iterator[str]:
    """Every run and part is over, nobody holds it, and its counts are those of its items."""
    if not stored.wholes:
        yield "there is no run"
    for whole in stored.wholes:
        parts = stored.parts_of.get(whole["_id"], [])
        for part in parts:
            yield from _unfinished(part)
            if part["counts"] != _counts(part["items"]):
                yield f"part {part['_id']} counts {part['counts']}"
        yield from _unfinished(whole)
        items = [item for part in parts for item in part["items"]]
        wanted = {"parts": len(parts), "partsOver": len(parts), "counts": _counts(items)}
        yield from _differences(f"run {whole['_id']}", whole, wanted)
        if [part["partNumber"] for part in parts] != list(range(len(parts))):
            yield f"run {whole['_id']}: its parts are not numbered 0 to {len(parts) - 1}"


def _unfinished(run: Row) -> Iterator[str]:
    wanted = {"status": "DONE", "leaseId": None, "leaseUntil": None, "isPlanning": False}
    yield from _differences(f"run {run['_id']}", run, wanted)
    if run["finishedAt"] is None:
        yield f"run {run['_id']} has no end"


def _counts(items: Sequence[Row]) -> Row:
    found = Counter(item["status"] for item in items)
    ends = {status.lower(): found[status] for status in ("DONE", "SKIPPED", "FAILED")}
    return {"total": len(items), **ends}


def _wrong_results(stored: Generated) -> Iterator[str]:
    """Each month is an item of a run at least; each item has its result, each invoice its item."""
    invoices = {row["_id"]: row for row in stored.invoices}
    named: Counter[ObjectId] = Counter()
    codes: dict[Key, Counter[str]] = defaultdict(Counter)
    for whole, key, item in stored.results():
        codes[key][f"{item['status']} {item['code']}"] += 1
        if item["status"] != "DONE":
            continue
        named[item["resultId"]] += 1
        invoice = invoices.get(item["resultId"])
        if invoice is None or _month(invoice) != key:
            yield f"the result of {key} is no invoice of it: {item['resultId']}"
        elif invoice["createdBy"] != whole["actor"]["userId"]:
            yield f"{invoice['invoiceNumber']} was not made in the name of who asked for it"
    for row in stored.invoices:
        if named[row["_id"]] != 1:
            yield f"{row['invoiceNumber']} is the result of {named[row['_id']]} items"
    for key in codes.keys() | stored.world.expected.keys():
        yield from _wrong_codes(key, codes[key], stored.world.expected.get(key))


def _wrong_codes(key: Key, codes: Mapping[str, int], outcome: Bill | str | None) -> Iterator[str]:
    if outcome is None:
        yield f"{key} was not due, and ended as {dict(codes)}"
        return
    if isinstance(outcome, Bill):
        wanted, allowed = "DONE generated", {"SKIPPED already_generated"}
        if codes.get(wanted) != 1:
            yield f"{key} was generated {codes.get(wanted, 0)} times"
    elif outcome in FAILURES:
        wanted, allowed = f"FAILED {outcome}", {f"SKIPPED {PAUSED}"}
    else:
        wanted, allowed = f"SKIPPED {outcome}", {f"SKIPPED {PASSED_OVER}"}
    if wanted not in codes:
        yield f"{key} has to be {wanted} and is {dict(codes)}"
    if strange := codes.keys() - allowed - {wanted}:
        yield f"{key} ended as {sorted(strange)}"


def _wrong_trails(stored: Generated) -> Iterator[str]:
    """The trail of a template names each of its invoices once, and tells of every change."""
    numbers: dict[ObjectId, list[str]] = defaultdict(list)
    for row in stored.invoices:
        numbers[row["recurringInvoiceId"]].append(row["invoiceNumber"])
    for template in stored.world.templates:
        trail = stored.trails.get(template.id, [])
        lists = [NUMBERS.search(entry["description"]) for entry in trail]
        told = Counter(number for found in lists if found for number in found[1].split(", "))
        if told != Counter(numbers[template.id]):
            yield f"template {template.id}: its trail names {dict(told)}"
        if stored.templates[template.id]["version"] != 1 + len(trail):
            yield f"template {template.id}: {len(trail)} entries do not tell its whole story"


def _differences(name: str, row: Row, wanted: Row) -> Iterator[str]:
    for field, value in wanted.items():
        if row[field] != value:
            yield f"{name}: {field} is {row[field]}, and should be {value}"
