"""What memory cannot show of PDFs: several makers at once, killed ones, and the real GridFS."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import gridfs
import pymongo
import pytest
from bson import ObjectId as RawId
from pymongo.errors import WriteError

from accounting.bootstrap import Services, collection_specs
from accounting.db.client import MongoDatabase
from accounting.db.comparison import find_differences
from accounting.db.files import store_file
from accounting.dev.processes import Server
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.drafts import delete_invoice
from accounting.invoices.papers import InvoicePdf, InvoicePdfChunk, tidy_papers
from accounting.invoices.service import cancel_invoice
from accounting.printing.company import Company
from accounting.worker.papers import frozen_pdf
from api_app import settings
from builders import ADMIN, NOW, TERMS, a_customer, an_issued_invoice
from fakes import FakePlatform, SettableClock, TestDatabase

MAKERS = 8


def services_of(db: TestDatabase, platform: FakePlatform, name: str = "Northern") -> Services:
    company = Company(name=f"{name} Hosting Ltd")
    return Services(db=db, platform=platform, terms=TERMS, settings=settings(), company=company)


async def stored_chunks() -> list[dict[str, Any]]:
    return [raw async for raw in InvoicePdfChunk.get_motor_collection().find({}, {"data": 0})]


async def an_upload_that_was_killed(at: datetime) -> None:
    """What is left when a process dies between the chunks and the document that names them."""
    chunk = {"_id": RawId.from_datetime(at), "files_id": new_id(), "n": 0, "data": b"%PDF-1.7"}
    await InvoicePdfChunk.get_motor_collection().insert_one(chunk)


async def delete(db: TestDatabase, invoice: Invoice) -> None:
    await db.run(ADMIN, cancel_invoice, ObjectId(invoice.id), "Wrong customer.")
    await db.run(ADMIN, delete_invoice, ObjectId(invoice.id))


async def test_of_many_makers_at_once_one_is_heard_and_the_others_leave_nothing(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    issued = await an_issued_invoice(real_db, platform, a_customer())
    # Each would print another name, so that the same bytes are no accident.
    makers = [services_of(real_db, platform, f"Maker {number}") for number in range(MAKERS)]

    pdfs = await asyncio.gather(*(frozen_pdf(maker, issued) for maker in makers))

    assert len(set(pdfs)) == 1
    [file] = await InvoicePdf.find_all().to_list()
    assert [chunk["files_id"] for chunk in await stored_chunks()] == [file.id]


async def test_a_killed_upload_is_never_served_and_keeps_nobody_from_another(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    issued = await an_issued_invoice(real_db, platform, a_customer())
    await an_upload_that_was_killed(NOW)

    content = await frozen_pdf(services_of(real_db, platform), issued)

    assert len(content) > 1_000
    assert await InvoicePdf.find_all().count() == 1


async def test_what_killed_uploads_left_is_deleted_an_hour_later(
    real_db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    clock.now = datetime.now(tz=NOW.tzinfo)  # GridFS stamps its chunks by the machine's clock
    issued = await an_issued_invoice(real_db, platform, a_customer())
    content = await frozen_pdf(services_of(real_db, platform), issued)
    await an_upload_that_was_killed(clock.now - timedelta(minutes=59))
    await an_upload_that_was_killed(clock.now - timedelta(minutes=61))
    await an_upload_that_was_killed(clock.now - timedelta(days=7))

    assert await tidy_papers(real_db) == 2
    clock.move(minutes=2)
    assert await tidy_papers(real_db) == 1
    clock.move(hours=2)
    assert await tidy_papers(real_db) == 0

    assert await frozen_pdf(services_of(real_db, platform), issued) == content
    assert len(await stored_chunks()) == 1


async def test_a_pdf_that_outlived_its_invoice_is_deleted(
    real_db: TestDatabase, platform: FakePlatform
) -> None:
    services = services_of(real_db, platform)
    kept = await an_issued_invoice(real_db, platform, a_customer())
    content = await frozen_pdf(services, kept)
    gone = await an_issued_invoice(real_db, platform, a_customer())
    await delete(real_db, gone)
    # Stored at the very moment when the invoice was deleted, and seen by neither side.
    metadata = {"invoiceId": gone.id, "renderer": "typst"}
    assert await store_file(InvoicePdf, "invoice-1.pdf", b"%PDF", metadata)

    assert await tidy_papers(real_db) == 1
    assert await tidy_papers(real_db) == 0

    [file] = await InvoicePdf.find_all().to_list()
    assert file.metadata.invoice_id == kept.id
    assert await frozen_pdf(services, kept) == content


async def test_every_driver_reads_it_as_a_file_of_the_bucket(
    real_db: TestDatabase, platform: FakePlatform, mongod: Server
) -> None:
    issued = await an_issued_invoice(real_db, platform, a_customer())
    content = await frozen_pdf(services_of(real_db, platform), issued)

    with pymongo.MongoClient[dict[str, Any]](mongod.uri) as client:
        bucket = gridfs.GridFSBucket(client[real_db.mongo.name], "invoice_pdfs")
        read = bucket.open_download_stream_by_name("invoice-2026011201.pdf").read()

    assert read == content
    # It found the indexes that it wants, and made none of its own.
    changes = await find_differences(real_db.mongo, collection_specs())
    assert [str(change) for change in changes if "invoice_pdfs" in change.collection] == []


async def test_a_pdf_larger_than_a_chunk_is_kept_whole(real_db: TestDatabase) -> None:
    content = bytes(range(256)) * 3_000
    metadata = {"invoiceId": new_id(), "renderer": "typst"}

    assert await store_file(InvoicePdf, "invoice-1.pdf", content, metadata)
    assert not await store_file(InvoicePdf, "invoice-1.pdf", content, metadata)

    [file] = await InvoicePdf.find_all().to_list()
    chunks = await stored_chunks()
    assert file.length == len(content)
    assert sorted(chunk["n"] for chunk in chunks) == [0, 1, 2]
    assert {chunk["files_id"] for chunk in chunks} == {file.id}


@pytest.mark.parametrize("missing", ["sha256", "invoiceId"])
async def test_the_database_refuses_a_file_that_nobody_could_check(
    real_mongo: MongoDatabase, missing: str
) -> None:
    metadata = {"sha256": "0" * 64, "invoiceId": new_id(), "renderer": "typst"}
    del metadata[missing]
    file = {"filename": "x.pdf", "length": 1, "chunkSize": 1, "uploadDate": NOW}

    with pytest.raises(WriteError, match="Document failed validation"):
        await real_mongo["invoice_pdfs.files"].insert_one({**file, "metadata": metadata})
