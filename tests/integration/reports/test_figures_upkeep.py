"""How the stored figures follow what happens beside them: races, kills, late commits, restores."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from accounting.clock import utc_now
from accounting.db.database import Transaction
from accounting.dev.processes import Server
from accounting.ids import ObjectId, new_id
from accounting.integrity.service import examine_store, repair_findings
from accounting.invoices.drafts import delete_invoice
from accounting.invoices.rules import InvoiceId
from accounting.invoices.service import cancel_invoice, issue_invoice
from accounting.invoices.settlement import record_payment, remove_invoice_payment
from accounting.reports.counting import Sizes
from accounting.reports.dashboard import DashboardReader, FiguresNotReady
from accounting.reports.documents import PartKind, find_first_ids, find_state
from accounting.reports.upkeep import SETTLED_SECONDS
from builders import ADMIN, TERMS, a_cost_payment, a_customer, a_draft, an_issued_invoice
from dashboard_books import recounted_figures, refresh_work, shown_figures
from fakes import FakePlatform, SettableClock, TestDatabase
from forked import Victim
from many_invoices import many_invoices

UTC: Final = ZoneInfo("UTC")
SMALL: Final = Sizes(part_documents=3, stretch_documents=8, parts=2)
ZERO: Final = Decimal(0)


async def add_raw_invoices(db: TestDatabase, number: int, *, seed: int = 7) -> None:
    """Past the service and its trail, as a restore would."""
    rows = list(many_invoices(number, [new_id() for _ in range(5)], seed=seed))
    for position, row in enumerate(rows):
        row["invoiceNumber"] = f"20200101{position:05d}"
    await db.mongo["invoices"].insert_many(rows)


async def test_a_look_right_after_a_change_shows_it_in_every_process(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    here, there = DashboardReader(), DashboardReader()
    for _ in range(3):
        await an_issued_invoice(real_db, platform, a_customer())
        clock.move(seconds=1)
        assert (await here.read(real_db, UTC)).dashboard.open_invoices == (
            (await there.read(real_db, UTC)).dashboard.open_invoices
        )

    assert (await here.read(real_db, UTC)).dashboard.outstanding == Decimal("1500.00")


async def test_a_transaction_that_began_long_before_it_committed_is_counted(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    draft = await a_draft(real_db, platform, a_customer())
    readers = [DashboardReader(), DashboardReader()]

    async def issue_slowly(tx: Transaction) -> None:
        clock.move(seconds=SETTLED_SECONDS - 1)
        # Somebody looks, and with something to store, before the entry can be seen.
        await an_issued_invoice(real_db, platform, a_customer())
        for reader in readers:
            assert (await reader.read(real_db, UTC)).dashboard.open_invoices == 1
        await issue_invoice(tx, platform, TERMS, InvoiceId(draft.id))

    for reader in readers:
        await reader.read(real_db, UTC)
    await real_db.run(ADMIN, issue_slowly)

    expected = await recounted_figures(real_db, UTC)
    assert expected["openInvoices"] == 2
    for reader in (*readers, DashboardReader()):
        assert await shown_figures(reader, real_db, UTC) == expected


async def test_nothing_is_stored_or_counted_while_nothing_changes(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    await an_issued_invoice(real_db, platform, a_customer())
    reader = DashboardReader()
    await reader.read(real_db, UTC)
    stored = await real_db.mongo["accounting_figures"].find_one()
    assert stored is not None

    for _ in range(5):
        await reader.read(real_db, UTC)
        await DashboardReader().read(real_db, UTC)
    assert await real_db.mongo["accounting_figures"].find_one() == stored

    clock.move(seconds=2 * SETTLED_SECONDS)
    await reader.read(real_db, UTC)
    later = await real_db.mongo["accounting_figures"].find_one()
    assert later is not None
    assert later["since"] > stored["since"]
    assert later["entries"] == 0
    assert {**later, "since": 0, "entries": 0, "revision": 0} == (
        {**stored, "since": 0, "entries": 0, "revision": 0}
    )


@pytest.mark.timeout(120)
async def test_every_answer_is_of_one_moment_while_eight_write(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    real_db.clock = utc_now
    readers = [DashboardReader(SMALL) for _ in range(3)]
    writers = [asyncio.create_task(write(real_db, platform, seed)) for seed in range(8)]
    looks = 0

    async def look(reader: DashboardReader) -> None:
        nonlocal looks
        while not all(writer.done() for writer in writers):
            check_consistent(await shown_figures(reader, real_db, UTC))
            looks += 1

    await asyncio.gather(*writers, *(look(reader) for reader in readers))

    expected = await recounted_figures(real_db, UTC)
    for reader in (*readers, DashboardReader(SMALL)):
        assert await shown_figures(reader, real_db, UTC) == expected
    assert looks > 20
    assert expected["byStatus"]["PAID"]["count"] > 20


async def write(db: TestDatabase, platform: FakePlatform, seed: int) -> None:
    """Each of these leaves the sums of `check_consistent` as they are to each other."""
    dice, customer = random.Random(seed), platform.add_user(a_customer())
    for _ in range(12):
        invoice = await an_issued_invoice(db, platform, customer)
        row = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
        amount = Decimal(dice.choice(["500.00", "123.45"]))
        _, payment = await db.run(
            ADMIN, record_payment, platform, invoice.id, row.id, amount=amount
        )
        if dice.random() < 0.3:
            await db.run(ADMIN, remove_invoice_payment, payment.id, UTC)
            await db.run(ADMIN, cancel_invoice, invoice.id, "asked for")
            await db.run(ADMIN, delete_invoice, invoice.id)


def check_consistent(shown: dict[str, Any]) -> None:
    """What holds of invoices and payments at any one moment."""
    sums = shown["byStatus"]
    owed = sum(
        (
            Decimal(sums[name]["totalAmount"]) - Decimal(sums[name]["amountPaid"])
            for name in ("ISSUED", "OVERDUE")
        ),
        ZERO,
    )
    assert Decimal(shown["outstanding"]) == owed == sum(map(Decimal, shown["aging"].values()))
    collected = sum(Decimal(month["amount"]) for month in shown["collectedPerMonth"])
    assert collected == sum((Decimal(row["amountPaid"]) for row in sums.values()), ZERO)
    for row in sums.values():
        assert Decimal(row["totalAmount"]) == 500 * row["count"]


async def test_callers_who_come_together_share_one_look(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    await an_issued_invoice(real_db, platform, a_customer())
    reader = DashboardReader()

    readings = await asyncio.gather(*(reader.read(real_db, UTC) for _ in range(20)))

    # The first look was on its way when the others came, so theirs is the second.
    assert len({id(reading) for reading in readings}) == 2


async def test_a_caller_who_goes_away_does_not_hold_up_the_others(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    await an_issued_invoice(real_db, platform, a_customer())
    reader = DashboardReader()
    first = asyncio.create_task(reader.read(real_db, UTC))
    others = [asyncio.create_task(reader.read(real_db, UTC)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()

    for reading in await asyncio.gather(*others):
        assert reading.dashboard.open_invoices == 1


async def test_a_first_count_in_many_steps_is_gone_on_with_by_whoever_asks(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    steps = Sizes(part_documents=3, stretch_documents=8, parts=100)
    await add_raw_invoices(real_db, 100)
    shown, told = None, list[FiguresNotReady]()
    for _ in range(30):
        reader = DashboardReader(steps, patience_seconds=0)
        try:
            shown = await shown_figures(reader, real_db, UTC)
            break
        except FiguresNotReady as error:
            told.append(error)
        # While it goes on, so does the business: in parts that are there, and in later ones.
        await an_issued_invoice(real_db, platform, a_customer())

    assert shown == await recounted_figures(real_db, UTC)
    assert len(told) > 10
    assert told[0].code == "figures_not_ready"
    assert told[0].retry_after_seconds
    counted = [error.facts["counted"] for error in told]
    assert counted == sorted(counted)


async def test_a_process_that_was_killed_while_it_stored_holds_up_no_answer(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    await an_issued_invoice(real_db, platform, a_customer())
    reader = DashboardReader(SMALL)
    await reader.read(real_db, UTC)
    async with await real_db.mongo.client.start_session() as killed:
        killed.start_transaction()
        for name in ("accounting_figures", "accounting_figures_parts"):
            await real_db.mongo[name].update_many({}, {"$set": {"invoices": []}}, session=killed)

        for _ in range(3):
            await an_issued_invoice(real_db, platform, a_customer())
            expected = await recounted_figures(real_db, UTC)
            began = time.monotonic()
            assert await shown_figures(reader, real_db, UTC) == expected
            assert time.monotonic() - began < 5
        await killed.abort_transaction()

    assert await shown_figures(reader, real_db, UTC) == expected


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("short_lived_transactions")
async def test_counting_that_is_killed_at_any_moment_leaves_right_figures(
    real_db: TestDatabase, platform: FakePlatform, mongod: Server, tmp_path: Path
) -> None:
    real_db.clock = utc_now
    await add_raw_invoices(real_db, 3_000)
    dice = random.Random(4)

    async def count_stored() -> int:
        state = await find_state(None)
        return state.figures.documents if state else 0

    reached = [0]
    for _ in range(6):
        victim = Victim(refresh_work, mongod.uri, real_db.mongo.name, tmp_path)
        for _ in range(2_000):
            if await count_stored() > reached[-1] or not victim.is_running:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(dice.uniform(0, 0.15))
        victim.kill()
        reached.append(await count_stored())
        await an_issued_invoice(real_db, platform, a_customer())

    assert reached == sorted(reached)
    assert 0 < reached[1] < reached[-1] < 3_000, f"no kill came in the middle: {reached}"
    assert await shown_figures(DashboardReader(), real_db, UTC) == (
        await recounted_figures(real_db, UTC)
    )


async def test_another_business_zone_has_everything_counted_anew(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    customer = platform.add_user(a_customer())
    invoice = await an_issued_invoice(real_db, platform, customer)
    row = platform.add_cost_payment(a_cost_payment(customer, "500.00"))
    last_of_december = clock().replace(month=1, day=1, hour=3) - timedelta(0)
    await real_db.run(
        ADMIN, record_payment, platform, invoice.id, row.id, paid_date=last_of_december
    )
    reader = DashboardReader()

    in_utc = await shown_figures(reader, real_db, UTC)
    in_new_york = await shown_figures(reader, real_db, ZoneInfo("America/New_York"))
    again = await shown_figures(reader, real_db, UTC)

    assert in_utc["collectedPerMonth"][-1] == {"month": "2026-01", "amount": "500.00"}
    assert in_new_york["collectedPerMonth"][-2:] == [
        {"month": "2025-12", "amount": "500.00"},
        {"month": "2026-01", "amount": "0.00"},
    ]
    assert again == in_utc


async def test_nothing_of_the_former_parts_is_left_when_everything_is_counted_anew(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    reader = DashboardReader(SMALL)
    invoices = []
    for _ in range(14):
        invoices.append(await a_draft(real_db, platform, a_customer()))
        await reader.read(real_db, UTC)
    for draft in invoices[2:9]:
        await real_db.run(ADMIN, delete_invoice, draft.id)
    await reader.read(real_db, UTC)
    former = set(await find_first_ids(PartKind.INVOICES, None))

    oslo = ZoneInfo("Europe/Oslo")
    await reader.read(real_db, oslo)
    for draft in invoices[9:]:
        await real_db.run(ADMIN, delete_invoice, draft.id)

    assert former - set(await find_first_ids(PartKind.INVOICES, None))
    assert await shown_figures(reader, real_db, oslo) == await recounted_figures(real_db, oslo)


async def test_a_part_that_has_grown_is_cut(real_db: TestDatabase, platform: FakePlatform) -> None:
    reader = DashboardReader(SMALL)
    await reader.read(real_db, UTC)
    assert len(await find_first_ids(PartKind.INVOICES, None)) == 1

    await asyncio.gather(*(an_issued_invoice(real_db, platform, a_customer()) for _ in range(14)))

    assert (await reader.read(real_db, UTC)).dashboard.open_invoices == 14
    first_ids = await find_first_ids(PartKind.INVOICES, None)
    assert len(first_ids) >= 3
    assert first_ids[0] == ObjectId("0" * 24)


@pytest.mark.parametrize("is_more", [True, False])
async def test_documents_that_came_or_went_past_the_trail_are_seen_at_once(
    real_db: TestDatabase, platform: FakePlatform, is_more: bool
) -> None:
    for _ in range(5):
        await an_issued_invoice(real_db, platform, a_customer())
    reader = DashboardReader(SMALL)
    await reader.read(real_db, UTC)

    if is_more:
        await add_raw_invoices(real_db, 50)
    else:
        await real_db.mongo["invoices"].delete_one({})

    assert await shown_figures(reader, real_db, UTC) == await recounted_figures(real_db, UTC)


async def test_a_server_whose_own_number_is_wrong_is_not_believed(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    asked = 0

    async def wrong() -> int:
        nonlocal asked
        asked += 1
        return 999

    reader = DashboardReader(SMALL, estimate=wrong)
    await an_issued_invoice(real_db, platform, a_customer())
    assert (await reader.read(real_db, UTC)).dashboard.open_invoices == 1
    before, asked_before = await find_state(None), asked
    assert before is not None

    for _ in range(3):
        await reader.read(real_db, UTC)

    # Nothing was counted anew, and for a minute nobody asks again.
    assert await find_state(None) == before
    assert asked == asked_before


@pytest.mark.parametrize("collection", ["accounting_figures_parts", "accounting_figures"])
async def test_wrong_figures_are_found_by_the_daily_check_and_counted_anew(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock, collection: str
) -> None:
    await add_raw_invoices(real_db, 40)
    reader = DashboardReader(SMALL)
    await reader.read(real_db, UTC)
    clock.move(seconds=10 * SETTLED_SECONDS)
    await reader.read(real_db, UTC)
    sound = await examine_store(real_db, platform, TERMS)
    assert "figures" not in sound.counts

    damage = {"$inc": {"invoices.0.count": 1}}
    await real_db.mongo[collection].update_one({"kind": {"$ne": "TEMPLATES"}}, damage)
    report = await examine_store(real_db, platform, TERMS)

    [finding] = [found for found in report.findings if found.kind == "figures"]
    assert report.looked_at["figures"] == 40
    await repair_findings(real_db, ADMIN, [finding])
    assert await find_state(None) is None
    assert await shown_figures(reader, real_db, UTC) == await recounted_figures(real_db, UTC)
    mended = await examine_store(real_db, platform, TERMS)
    assert "figures" not in mended.counts


async def test_the_daily_check_does_not_mind_what_has_just_changed(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    invoices = [await an_issued_invoice(real_db, platform, a_customer()) for _ in range(9)]
    await DashboardReader(SMALL).read(real_db, UTC)
    await real_db.run(ADMIN, cancel_invoice, invoices[4].id, "asked for")

    report = await examine_store(real_db, platform, TERMS)

    assert "figures" not in report.counts
