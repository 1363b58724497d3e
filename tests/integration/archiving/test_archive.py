"""What an archive takes, what stays, and that the books are right after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from accounting.archiving.documents import Archive, ArchiveStatus
from accounting.archiving.rules import Kept
from accounting.archiving.service import (
    archive_invoices,
)
from accounting.archiving.turns import (
    Holder,
)
from accounting.audit.rules import EntityType
from accounting.audit.service import history
from accounting.audit.verification import verify_trail
from accounting.db.backup.folder import open_backup
from accounting.db.backup.restoring import restore
from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.dev.processes import Server
from accounting.ids import ObjectId
from accounting.integrity.numbers import audit_all_numbers
from accounting.integrity.service import examine_store, repair_findings
from accounting.invoices.papers import tidy_papers
from accounting.invoices.settlement import remove_invoice_payment
from accounting.pages.hosted import find_hosted_invoice
from accounting.payments.documents import InvoicePayment
from accounting.payments.rules import CostPaymentSpent
from accounting.platform.rules import PLATFORM_COLLECTIONS
from accounting.recurring.documents import RecurringInvoice
from accounting.reports.account import read_statement
from accounting.reports.archived import RangeArchived
from accounting.reports.rules import Statement
from backups import names_in
from builders import ADMIN, TERMS, TODAY, a_customer
from fakes import FakePlatform, SettableClock, TestDatabase
from generating import generate_on, generated_invoices, periods_of, services_of
from old_books import (
    AGE,
    CUTOFF,
    WITH_INVOICES,
    OldBooks,
    archive,
    documents_of,
    ids_of,
    pay,
    plan_of,
    write_old_books,
)

TARGET = "archive_target"
ZONE = TERMS.zone


@pytest.fixture
async def books(real_db: TestDatabase, platform: FakePlatform, clock: SettableClock) -> OldBooks:
    return await write_old_books(real_db, platform, clock)


@pytest.fixture
async def target(mongod: Server) -> AsyncIterator[MongoDatabase]:
    client = open_client(mongod.uri)
    await client.drop_database(TARGET)
    yield open_database(client, TARGET)
    await client.drop_database(TARGET)
    client.close()


async def test_the_plan_tells_what_goes_and_why_others_stay(
    real_db: TestDatabase, real_mongo: MongoDatabase, books: OldBooks
) -> None:
    before = await documents_of(real_mongo)

    plan = await plan_of(real_db)

    assert plan.cutoff == CUTOFF
    assert set(plan.invoice_ids) == ids_of(books.old)
    assert {
        (status.value, year): (share.invoices, str(share.amount))
        for (status, year), share in plan.shares.items()
    } == {
        ("PAID", 2021): (4, "1200.00"),
        ("CANCELLED", 2021): (1, "500.00"),
        ("REFUNDED", 2021): (1, "200.00"),
    }
    assert (plan.payments, plan.pdfs, plan.more) == (6, 1, 0)
    assert plan.notifications == sum(
        row["invoiceId"] in ids_of(books.old) for row in before["invoice_notifications"].values()
    )
    # What was issued before the cutoff and paid after it is one of those that were closed later.
    assert plan.kept == {Kept.LAST_OF_TEMPLATE: 1}
    assert {status.value: count for status, count in plan.others.items() if count} == {
        "PAID": 1,
        "ISSUED": 2,
    }
    assert await documents_of(real_mongo) == before
    assert await Archive.count() == 0


async def test_what_is_exported_and_what_remains_is_the_original(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    books: OldBooks,
    target: MongoDatabase,
    tmp_path: Path,
) -> None:
    before = await documents_of(real_mongo)

    made = await archive(real_db, tmp_path)

    assert (made.status, made.removed, made.left) == (ArchiveStatus.DONE, len(books.old), 0)
    remaining = await documents_of(real_mongo)
    assert remaining["invoices"].keys() == ids_of(books.staying)
    await restore(target, open_backup(Path(made.folder)), platform_names=PLATFORM_COLLECTIONS)
    exported = await documents_of(target)
    assert exported["invoices"].keys() == ids_of(books.old)
    for name in WITH_INVOICES:
        assert exported[name]
        assert exported[name].keys().isdisjoint(remaining[name])
        assert exported[name] | remaining[name] == before[name]


async def test_the_store_is_sound_after_it(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    books: OldBooks,
    tmp_path: Path,
) -> None:
    numbers = await audit_all_numbers(real_mongo, 2)

    await archive(real_db, tmp_path)

    report = await examine_store(real_db, platform, TERMS)
    assert report.findings == []
    assert (await verify_trail(real_mongo)).findings == []
    after = await audit_all_numbers(real_mongo, 2)
    assert (after.duplicates, after.gaps) == ([], numbers.gaps)
    assert after.archived == len(books.old)
    assert after.numbers + after.archived == numbers.numbers
    assert await tidy_papers(real_db) == 0


async def test_a_number_of_an_archived_invoice_that_is_used_again_is_found(
    real_db: TestDatabase, real_mongo: MongoDatabase, books: OldBooks, tmp_path: Path
) -> None:
    await archive(real_db, tmp_path)
    number = books.old["paid"].invoice_number
    await real_mongo["invoices"].update_one(
        {"_id": books.staying["new"].id}, {"$set": {"invoiceNumber": number}}
    )

    assert (await audit_all_numbers(real_mongo, 2)).duplicates == [number]


async def test_each_chain_ends_with_where_its_invoice_is(
    real_db: TestDatabase, books: OldBooks, tmp_path: Path
) -> None:
    before = {
        invoice.id: len(await history(EntityType.INVOICE, ObjectId(invoice.id)))
        for invoice in books.old.values()
    }

    made = await archive(real_db, tmp_path)

    [folder] = names_in(tmp_path)
    for invoice in books.old.values():
        *earlier, last = await history(EntityType.INVOICE, ObjectId(invoice.id))
        assert len(earlier) == before[invoice.id]
        assert last.action.value == "INVOICE_DELETED"
        assert last.description == f"Invoice {invoice.invoice_number} archived in {folder}"
        assert last.changes is not None
        assert last.changes["after"] == {"archive": folder, "archiveSha256": made.sha256}
        assert last.changes["before"]["invoiceNumber"] == invoice.invoice_number
        assert last.changes["before"]["totalAmount"] == str(invoice.total_amount)


async def test_money_that_was_spent_stays_spent(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    books: OldBooks,
    tmp_path: Path,
) -> None:
    await archive(real_db, tmp_path)

    guard = await real_mongo["payment_allocations"].find_one({"_id": books.wallet.id})
    assert guard is not None
    assert (str(guard["allocated"]), str(guard["archived"])) == ("850.00", "540.00")
    with pytest.raises(CostPaymentSpent):
        await pay(real_db, platform, books.staying["open"], books.wallet, "150.01")
    await pay(real_db, platform, books.staying["open"], books.wallet)
    [link] = await InvoicePayment.find({"invoiceId": books.staying["open"].id}).to_list()
    assert link.amount_paid == Decimal("150.00")
    # A live payment can be taken back still, and only its own amount is free then.
    await real_db.run(ADMIN, remove_invoice_payment, ObjectId(link.id), ZONE)
    report = await examine_store(real_db, platform, TERMS)
    assert report.findings == []


async def test_a_wrong_guard_is_repaired_with_what_is_archived(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    books: OldBooks,
    tmp_path: Path,
) -> None:
    await archive(real_db, tmp_path)
    guards = real_mongo["payment_allocations"]
    await guards.update_one({"_id": books.wallet.id}, {"$set": {"allocated": Decimal("310.00")}})

    report = await examine_store(real_db, platform, TERMS)
    assert [finding.kind.value for finding in report.findings] == ["allocation_wrong"]
    await repair_findings(real_db, ADMIN, report.findings)

    guard = await guards.find_one({"_id": books.wallet.id})
    assert guard is not None
    assert str(guard["allocated"]) == "850.00"


async def test_a_ledger_row_that_pays_archived_invoices_only_may_vanish(
    real_db: TestDatabase, platform: FakePlatform, books: OldBooks, tmp_path: Path
) -> None:
    await archive(real_db, tmp_path)
    [other] = [row.id for row in platform.cost_payments.values() if row.amount == Decimal("560.00")]
    del platform.cost_payments[other]

    report = await examine_store(real_db, platform, TERMS)

    assert report.findings == []


async def statement(platform: FakePlatform, books: OldBooks, first: date) -> Statement:
    return await read_statement(platform, books.ada.id, first, TODAY, ZONE)


async def test_statements_from_the_day_after_the_last_archived_entry_are_as_before(
    real_db: TestDatabase, platform: FakePlatform, books: OldBooks, tmp_path: Path
) -> None:
    # Everything of hers that goes ended on 2021-03-11.
    days = [date(2021, 3, 12), date(2022, 1, 1), CUTOFF, date(2025, 6, 1), date(2026, 1, 1)]
    before = [await statement(platform, books, day) for day in days]

    await archive(real_db, tmp_path)

    assert [await statement(platform, books, day) for day in days] == before
    # The open one and the one that was paid late.
    assert before[0].opening_balance == Decimal("600.00")


@pytest.mark.parametrize("first", [date(2021, 3, 11), date(2021, 1, 1), date(2020, 6, 1)])
async def test_a_statement_that_lacks_archived_entries_is_refused(
    real_db: TestDatabase,
    platform: FakePlatform,
    books: OldBooks,
    tmp_path: Path,
    first: date,
) -> None:
    await archive(real_db, tmp_path)

    with pytest.raises(RangeArchived, match="from before 2021-03-12 were archived") as refused:
        await statement(platform, books, first)
    assert refused.value.facts["earliestFrom"] == "2021-03-12"


async def test_customers_of_whom_nothing_was_archived_are_not_concerned(
    real_db: TestDatabase, platform: FakePlatform, books: OldBooks, tmp_path: Path
) -> None:
    nobody = platform.add_user(a_customer(name="New One"))

    await archive(real_db, tmp_path)

    drawn = await read_statement(platform, nobody.id, date(2018, 1, 1), TODAY, ZONE)
    assert drawn.closing_balance == Decimal("0.00")


async def test_a_second_archive_moves_the_day_on_and_never_back(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    clock: SettableClock,
    books: OldBooks,
    tmp_path: Path,
) -> None:
    await archive(real_db, tmp_path)
    clock.now = datetime(2029, 1, 1, tzinfo=UTC)

    made = await archive(real_db, tmp_path)

    # The one that was paid late; the new one is not paid in full.
    assert made.removed == 1
    account = await real_mongo["archived_accounts"].find_one({"userId": books.ada.id})
    assert account is not None
    assert account["statementFrom"] == datetime(2025, 6, 2, tzinfo=UTC)
    assert account["invoices"] == 5
    assert (await examine_store(real_db, platform, TERMS)).findings == []


async def test_no_month_of_a_template_is_billed_again(
    real_db: TestDatabase,
    platform: FakePlatform,
    books: OldBooks,
    tmp_path: Path,
) -> None:
    await archive(real_db, tmp_path)
    # What keeps it from billing them is the month that it knows of, not the invoices.
    await RecurringInvoice.get_motor_collection().update_one({}, {"$set": {"endDate": None}})

    await generate_on(services_of(real_db, platform), date(2021, 9, 30))

    # The last month stayed.
    assert periods_of(await generated_invoices()) == ["2021-06", "2021-07", "2021-08", "2021-09"]


async def test_the_link_of_an_archived_invoice_leads_nowhere(
    real_db: TestDatabase, real_mongo: MongoDatabase, books: OldBooks, tmp_path: Path
) -> None:
    mail = await real_mongo["invoice_notifications"].find_one({"invoiceId": books.old["paid"].id})
    assert mail is not None
    assert await find_hosted_invoice(mail["viewToken"]) is not None

    await archive(real_db, tmp_path)

    assert await find_hosted_invoice(mail["viewToken"]) is None


async def test_there_is_nothing_left_for_a_second_archive(
    real_db: TestDatabase, books: OldBooks, tmp_path: Path
) -> None:
    await archive(real_db, tmp_path)

    assert (await plan_of(real_db)).invoice_ids == []


async def test_what_one_folder_does_not_take_comes_next(
    real_db: TestDatabase,
    books: OldBooks,
    tmp_path: Path,
) -> None:
    first = await plan_of(real_db, most=2)
    assert (first.invoices, len(first.invoice_ids), first.more) == (6, 2, 4)
    assert first.taken.invoices == 2

    made = await archive_invoices(real_db, ZONE, first, AGE, tmp_path, holder=Holder())

    assert made.removed == 2
    assert (await plan_of(real_db)).invoices == 4
