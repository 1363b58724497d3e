"""Many documents in one write on the real server: bytes, refusals, races, round trips."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import WriteError

from accounting.bootstrap import DOCUMENTS
from accounting.db.client import MongoDatabase
from accounting.db.database import DuplicateValue, Transaction
from accounting.db.document import BaseDocument, DocumentChanged
from accounting.dev.processes import Server
from accounting.ids import new_id
from accounting.invoices.documents import AccountingCounter, Invoice
from accounting.recurring.documents import RecurringInvoice
from builders import ADMIN, a_customer, a_draft, a_price, a_template, an_issued_invoice
from commands import Commands, watched_database
from fakes import FakePlatform, TestDatabase

WRITERS = 6


async def raw_bytes(mongo: MongoDatabase, document: type[BaseDocument]) -> list[bytes]:
    options: CodecOptions[RawBSONDocument] = CodecOptions(RawBSONDocument)
    name = document.Settings.name  # type: ignore[attr-defined]
    found = mongo.get_collection(name, codec_options=options).find().sort("_id", 1)
    return [raw.raw async for raw in found]


async def some_templates(
    db: TestDatabase, platform: FakePlatform, count: int
) -> list[RecurringInvoice]:
    return [await a_template(db, platform, a_customer()) for _ in range(count)]


async def test_every_kind_of_document_has_the_bytes_that_a_single_insert_gives_it(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    customer = a_customer()
    await a_price(real_db, platform, customer)
    await an_issued_invoice(real_db, platform, customer, unit_price=None)
    await an_issued_invoice(real_db, platform, customer)
    await a_template(real_db, platform, customer)
    seen = 0

    for kind in DOCUMENTS:
        documents = await kind.find_all().sort("_id").to_list()
        await kind.find_all().delete()
        for document in documents:
            await real_db.run(ADMIN, document.add)
        one_by_one = await raw_bytes(real_db.mongo, kind)
        await kind.find_all().delete()
        await real_db.run(ADMIN, kind.add_many, documents)

        assert await raw_bytes(real_db.mongo, kind) == one_by_one
        seen += bool(documents)

    assert seen >= 7  # invoices, templates, prices, entries, their heads, e-mails, counters


async def test_a_duplicate_key_among_many_runs_the_use_case_again_and_is_then_named(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    taken = await a_draft(real_db, platform, a_customer())
    attempts: Counter[str] = Counter()
    fresh = taken.model_copy(update={"id": new_id(), "invoice_number": "2026011298"})
    twin = taken.model_copy(update={"id": new_id()})

    async def add_both(tx: Transaction) -> None:
        attempts["tried"] += 1
        await Invoice.add_many(tx, [fresh, twin])

    with pytest.raises(DuplicateValue) as refused:
        await real_db.run(ADMIN, add_both)

    assert refused.value.fields == ("invoiceNumber",)
    assert attempts["tried"] > 1
    assert await Invoice.find_all().to_list() == [taken]


async def test_a_duplicate_that_another_has_just_written_is_seen_at_the_second_look(
    real_db: TestDatabase,
) -> None:
    counters = [AccountingCounter(id=name, value=1) for name in ("a", "b", "c")]

    async def add_missing(tx: Transaction) -> int:
        known = await AccountingCounter.find_all(session=tx.session).to_list()
        if not known:
            await real_db.run(ADMIN, counters[1].add)
        missing = [one for one in counters if one.id not in {other.id for other in known}]
        await AccountingCounter.add_many(tx, missing)
        return len(missing)

    assert await real_db.run(ADMIN, add_missing) == 2
    assert await AccountingCounter.find_all().count() == 3


async def test_a_duplicate_key_among_many_changes_is_named_and_undoes_all(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    first, second = [await a_draft(real_db, platform, a_customer()) for _ in range(2)]

    with pytest.raises(DuplicateValue, match="invoiceNumber"):
        await real_db.run(
            ADMIN,
            Invoice.change_many,
            [(first, {"total_miners": 9}), (second, {"invoice_number": first.invoice_number})],
        )

    assert await Invoice.find_all().sort("_id").to_list() == [first, second]


async def test_the_database_refuses_a_wrong_value_among_many(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    draft = await a_draft(real_db, platform, a_customer())
    wrong = draft.model_copy(update={"id": new_id(), "invoice_number": "2", "total_miners": 0})

    with pytest.raises(WriteError, match="failed validation"):
        await real_db.run(ADMIN, Invoice.add_many, [wrong])
    with pytest.raises(WriteError, match="failed validation"):
        await real_db.run(ADMIN, Invoice.change_many, [(draft, {"total_miners": 0})])

    assert await Invoice.find_all().to_list() == [draft]


async def test_one_stale_document_undoes_the_change_of_all(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    templates = await some_templates(real_db, platform, 4)
    stale = templates[2]
    await real_db.run(ADMIN, stale.change, day_of_month=9)

    with pytest.raises(DocumentChanged, match=str(stale.id)):
        await real_db.run(
            ADMIN, RecurringInvoice.change_many, [(t, {"day_of_month": 8}) for t in templates]
        )

    found = await RecurringInvoice.find_all().sort("_id").to_list()
    assert [template.day_of_month for template in found] == [5, 5, 9, 5]


async def test_many_changes_meet_another_writer_and_are_run_again(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    templates = await some_templates(real_db, platform, 3)
    attempts: Counter[str] = Counter()

    async def move_all(tx: Transaction) -> list[RecurringInvoice]:
        attempts["tried"] += 1
        found = await RecurringInvoice.find_all(session=tx.session).sort("_id").to_list()
        if attempts["tried"] == 1:
            await real_db.run(ADMIN, templates[1].change, day_of_month=20)
        return await RecurringInvoice.change_many(
            tx, [(template, {"day_of_month": template.day_of_month + 1}) for template in found]
        )

    moved = await real_db.run(ADMIN, move_all)

    assert attempts["tried"] == 2
    assert [(template.day_of_month, template.version) for template in moved] == [
        (6, 2),
        (21, 3),
        (6, 2),
    ]


async def test_writers_of_the_same_documents_at_once_lose_nothing(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    await some_templates(real_db, platform, 10)

    async def move_all(tx: Transaction) -> None:
        found = await RecurringInvoice.find_all(session=tx.session).to_list()
        await RecurringInvoice.change_many(
            tx, [(template, {"day_of_month": template.day_of_month + 1}) for template in found]
        )

    await asyncio.gather(*(real_db.run(ADMIN, move_all) for _ in range(WRITERS)))

    found = await RecurringInvoice.find_all().to_list()
    assert {(t.day_of_month, t.version) for t in found} == {(5 + WRITERS, 1 + WRITERS)}


@pytest.fixture
async def commands(mongod: Server, real_mongo: MongoDatabase) -> AsyncIterator[Commands]:
    async with watched_database(mongod, real_mongo.name) as watched:
        yield watched


@pytest.mark.parametrize("count", [1, 60])
async def test_the_round_trips_do_not_grow_with_the_documents(
    commands: Commands, platform: FakePlatform, count: int
) -> None:
    [template] = await some_templates(commands.db, platform, 1)
    templates = [template.model_copy(update={"id": new_id()}) for _ in range(count)]

    inserts = await commands.sent_by(RecurringInvoice.add_many, templates)
    changes = await commands.sent_by(
        RecurringInvoice.change_many, [(template, {"day_of_month": 8}) for template in templates]
    )

    assert inserts == ["insert recurring_invoices"]
    assert changes == ["update recurring_invoices", "find recurring_invoices"]
