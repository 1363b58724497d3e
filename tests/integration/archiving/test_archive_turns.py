"""What meets an archive: changes at the same moment, another archive, a lost folder."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from accounting.archiving.documents import Archive, ArchiveStatus
from accounting.archiving.exporting import export, read_back
from accounting.archiving.removal import remove_saved
from accounting.archiving.service import (
    ArchiveFolderChanged,
    ArchiveFolderMissing,
    abandon_archive,
    archive_invoices,
    resume_archive,
)
from accounting.archiving.turns import (
    ArchiveAtWork,
    ArchiveTakenOver,
    Holder,
    begin,
    begin_removal,
)
from accounting.db.backup.failures import BackupDamaged
from accounting.db.backup.folder import Backup, open_backup
from accounting.db.client import MongoDatabase
from accounting.errors import AccountingError
from accounting.ids import ObjectId
from accounting.integrity.service import examine_store
from accounting.invoices.documents import Invoice
from accounting.invoices.drafts import delete_invoice
from accounting.invoices.rules import InvoiceId, InvoiceStatus
from accounting.invoices.settlement import refund_invoice, remove_invoice_payment
from accounting.notifications.rules import NotificationType
from accounting.notifications.service import NewNotification, queue_notifications
from accounting.payments.documents import InvoicePayment
from backups import names_in
from builders import ADMIN, NOW, TERMS, a_cost_payment, a_customer, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase
from old_books import (
    AGE,
    OldBooks,
    archive,
    documents_of,
    ids_of,
    pay,
    plan_of,
    send_all_mails,
    store_pdf,
    write_old_books,
)

ZONE = TERMS.zone


@pytest.fixture
async def books(real_db: TestDatabase, platform: FakePlatform, clock: SettableClock) -> OldBooks:
    return await write_old_books(real_db, platform, clock)


# What may happen to an invoice between its export and its removal.
Change = Callable[[TestDatabase, FakePlatform, Invoice], Awaitable[Any]]


async def refund(db: TestDatabase, platform: FakePlatform, invoice: Invoice) -> None:
    await db.run(ADMIN, refund_invoice, InvoiceId(invoice.id), "at the last moment")


async def remove_a_payment(db: TestDatabase, platform: FakePlatform, invoice: Invoice) -> None:
    link = await InvoicePayment.find_one({"invoiceId": invoice.id})
    assert link is not None
    await db.run(ADMIN, remove_invoice_payment, ObjectId(link.id), ZONE)


async def queue_a_mail(db: TestDatabase, platform: FakePlatform, invoice: Invoice) -> None:
    mail = NewNotification(
        NotificationType.INVOICE_ISSUED, ObjectId(invoice.id), "ada@example.com", (), "again"
    )
    await db.run(ADMIN, queue_notifications, [mail])


async def open_the_page(db: TestDatabase, platform: FakePlatform, invoice: Invoice) -> None:
    await db.mongo["invoice_notifications"].update_one(
        {"invoiceId": invoice.id}, {"$set": {"openedAt": NOW, "isRead": True}}
    )


async def make_its_pdf(db: TestDatabase, platform: FakePlatform, invoice: Invoice) -> None:
    await store_pdf(invoice)


async def edit_by_hand(db: TestDatabase, platform: FakePlatform, invoice: Invoice) -> None:
    await db.mongo["invoices"].update_one(
        {"_id": invoice.id}, {"$set": {"billingPeriod": "2021-03"}}
    )


CHANGES = [refund, remove_a_payment, queue_a_mail, open_the_page, make_its_pdf, edit_by_hand]


@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_changed_since_the_export_stays_whole(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    books: OldBooks,
    tmp_path: Path,
    change: Change,
) -> None:
    changed = books.old["paid by two"]
    holder, made, backup = await export_only(real_db, tmp_path / "archive")
    await change(real_db, platform, changed)
    before = await documents_of(real_mongo)

    made = await real_db.run(
        ADMIN, remove_saved, ObjectId(made.id), holder, list(read_back(backup)), ZONE
    )

    assert (made.removed, made.left) == (len(books.old) - 1, 1)
    after = await documents_of(real_mongo)
    assert after["invoices"].keys() == {*ids_of(books.staying), ObjectId(changed.id)}
    assert belonging_to(changed, after) == belonging_to(changed, before)
    await send_all_mails(real_mongo)
    assert (await examine_store(real_db, platform, TERMS)).findings == []


@pytest.mark.parametrize("change", [refund, remove_a_payment, queue_a_mail])
async def test_what_was_changed_between_plan_and_export_stays_whole(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    books: OldBooks,
    tmp_path: Path,
    change: Change,
) -> None:
    changed = books.old["paid by two"]
    plan = await plan_of(real_db)
    await change(real_db, platform, changed)
    before = await documents_of(real_mongo)

    made = await archive_invoices(real_db, ZONE, plan, AGE, tmp_path, holder=Holder())

    assert (made.removed, made.left) == (len(books.old) - 1, 1)
    after = await documents_of(real_mongo)
    assert belonging_to(changed, after) == belonging_to(changed, before)


def belonging_to(invoice: Invoice, documents: dict[str, dict[Any, Any]]) -> dict[str, Any]:
    pdfs = [
        row["_id"]
        for row in documents["invoice_pdfs.files"].values()
        if row["metadata"]["invoiceId"] == invoice.id
    ]
    owners = {invoice.id, *pdfs}
    return {
        name: [
            row
            for row in rows.values()
            if owners & {row["_id"], row.get("invoiceId"), row.get("files_id")}
        ]
        for name, rows in documents.items()
    }


async def export_only(db: TestDatabase, folder: Path) -> tuple[Holder, Archive, Backup]:
    """An archive up to the moment before it removes anything."""
    holder, plan = Holder(), await plan_of(db)
    made = await db.run(ADMIN, begin, holder, plan, AGE, folder)
    await export(db.mongo, plan, folder, now=NOW)
    backup = open_backup(folder)
    return holder, await db.run(ADMIN, begin_removal, ObjectId(made.id), holder, backup), backup


async def test_an_invoice_that_was_deleted_meanwhile_is_not_missed(
    real_db: TestDatabase, books: OldBooks, tmp_path: Path
) -> None:
    holder, made, backup = await export_only(real_db, tmp_path / "archive")
    await real_db.run(ADMIN, delete_invoice, InvoiceId(books.old["cancelled"].id))

    made = await real_db.run(
        ADMIN, remove_saved, ObjectId(made.id), holder, list(read_back(backup)), ZONE
    )

    assert (made.removed, made.left) == (len(books.old) - 1, 1)


async def test_refunds_at_the_same_moment_are_never_half_archived(
    real_db: TestDatabase,
    real_mongo: MongoDatabase,
    platform: FakePlatform,
    clock: SettableClock,
    tmp_path: Path,
) -> None:
    customer = platform.add_user(a_customer())
    row = platform.add_cost_payment(a_cost_payment(customer, "9000.00"))
    clock.now = datetime(2020, 1, 1, tzinfo=UTC)
    invoices = [
        await an_issued_invoice(real_db, platform, customer, total_miners=1) for _ in range(24)
    ]
    for invoice in invoices:
        await pay(real_db, platform, invoice, row)
    await send_all_mails(real_mongo)
    clock.now = NOW

    async def refund_some() -> list[bool]:
        done = []
        for invoice in invoices[::3]:
            try:
                await refund(real_db, platform, invoice)
                done.append(True)
            except AccountingError:  # it was archived before, or met the archive
                done.append(False)
            await asyncio.sleep(0.01)
        return done

    plan = await plan_of(real_db)
    made, refunded = await asyncio.gather(
        archive_invoices(real_db, ZONE, plan, AGE, tmp_path, holder=Holder(), batch_invoices=2),
        refund_some(),
    )

    left = await Invoice.find().to_list()
    assert made.removed + len(left) == len(invoices)
    assert [invoice.status for invoice in left] == [InvoiceStatus.REFUNDED] * sum(refunded)
    assert (await examine_store(real_db, platform, TERMS)).findings == []
    guard = await real_mongo["payment_allocations"].find_one({"_id": row.id})
    assert guard is not None
    assert guard["allocated"] == guard["archived"] == Decimal("100.00") * made.removed


async def test_of_two_at_once_only_one_archives(
    real_db: TestDatabase, books: OldBooks, tmp_path: Path
) -> None:
    plan = await plan_of(real_db)

    results = await asyncio.gather(
        *(archive_invoices(real_db, ZONE, plan, AGE, tmp_path, holder=Holder()) for _ in range(2)),
        return_exceptions=True,
    )

    [made] = [result for result in results if isinstance(result, Archive)]
    [refused] = [result for result in results if not isinstance(result, Archive)]
    assert isinstance(refused, ArchiveAtWork)
    assert made.removed == len(books.old)
    assert len(names_in(tmp_path)) == 1


async def test_one_that_was_taken_over_removes_nothing_more(
    real_db: TestDatabase, clock: SettableClock, books: OldBooks, tmp_path: Path
) -> None:
    holder, made, backup = await export_only(real_db, tmp_path / "archive")
    with pytest.raises(ArchiveAtWork):
        await resume_archive(real_db, ZONE, holder=Holder())
    clock.move(seconds=31)

    resumed = await resume_archive(real_db, ZONE, holder=Holder())

    assert resumed is not None
    assert (resumed.id, resumed.removed) == (made.id, len(books.old))
    with pytest.raises(ArchiveTakenOver):
        await real_db.run(
            ADMIN, remove_saved, ObjectId(made.id), holder, list(read_back(backup)), ZONE
        )


async def test_a_failure_gives_the_turn_back_at_once(
    real_db: TestDatabase, books: OldBooks, tmp_path: Path
) -> None:
    plan = await plan_of(real_db)
    with pytest.raises(Exception, match="No such file or directory"):
        await archive_invoices(real_db, ZONE, plan, AGE, tmp_path / "missing", holder=Holder())

    assert await resume_archive(real_db, ZONE, holder=Holder()) is None
    made = await archive_invoices(real_db, ZONE, plan, AGE, tmp_path, holder=Holder())
    assert made.removed == len(books.old)


async def interrupted(db: TestDatabase, clock: SettableClock, folder: Path) -> None:
    """An archive that was killed just before its first removal, long ago."""
    await export_only(db, folder)
    clock.move(minutes=5)


async def test_without_its_folder_nothing_is_removed(
    real_db: TestDatabase, clock: SettableClock, books: OldBooks, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    await interrupted(real_db, clock, folder)
    folder.rename(tmp_path / "elsewhere")

    with pytest.raises(ArchiveFolderMissing, match="--abandon"):
        await resume_archive(real_db, ZONE, holder=Holder())
    (tmp_path / "elsewhere").rename(folder)
    resumed = await resume_archive(real_db, ZONE, holder=Holder())

    assert resumed is not None
    assert resumed.removed == len(books.old)


async def test_from_a_damaged_folder_nothing_is_removed(
    real_db: TestDatabase, clock: SettableClock, books: OldBooks, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    await interrupted(real_db, clock, folder)
    [file] = folder.rglob("invoice_payments.bson.gz")
    file.write_bytes(file.read_bytes()[:-9])

    with pytest.raises(BackupDamaged):
        await resume_archive(real_db, ZONE, holder=Holder())

    assert await Invoice.count() == len(books.old) + len(books.staying)


async def test_from_another_folder_nothing_is_removed(
    real_db: TestDatabase, clock: SettableClock, books: OldBooks, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    await interrupted(real_db, clock, folder)
    shutil.rmtree(folder)
    await export(real_db.mongo, await plan_of(real_db), folder, now=NOW + timedelta(days=1))

    with pytest.raises(ArchiveFolderChanged):
        await resume_archive(real_db, ZONE, holder=Holder())

    assert await Invoice.count() == len(books.old) + len(books.staying)


async def test_an_abandoned_archive_leaves_the_rest_where_it_is(
    real_db: TestDatabase, clock: SettableClock, books: OldBooks, tmp_path: Path
) -> None:
    await interrupted(real_db, clock, tmp_path / "archive")

    abandoned = await abandon_archive(real_db, holder=Holder())

    assert abandoned is not None
    assert (abandoned.status, abandoned.removed) == (ArchiveStatus.ABANDONED, 0)
    assert await Invoice.count() == len(books.old) + len(books.staying)
    assert (await archive(real_db, tmp_path)).removed == len(books.old)
