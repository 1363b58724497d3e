"""The PDF of an invoice: made once, of the invoice as it was issued, and the same ever after."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from accounting.bootstrap import Services
from accounting.db.files import StoredFileDamaged
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.drafts import delete_invoice
from accounting.invoices.papers import (
    FREEZE_JOB,
    InvoiceNotIssued,
    InvoicePdf,
    InvoicePdfChunk,
)
from accounting.invoices.rules import InvoiceNotFound
from accounting.invoices.service import cancel_invoice
from accounting.invoices.settlement import record_payment, refund_invoice
from accounting.printing.company import Company
from accounting.worker.papers import freeze_one, frozen_pdf, kept_pdf
from api_app import settings
from builders import ADMIN, TERMS, a_cost_payment, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, JobList, SettableClock, TestDatabase
from pdf_reading import lines_of, text_of

NORTHERN = Company(name="Northern Hosting Ltd", payment_instructions=("IBAN: GB33 BUKB",))
SOUTHERN = Company(name="Southern Hosting Ltd")


def services_of(db: TestDatabase, platform: FakePlatform, company: Company = NORTHERN) -> Services:
    return Services(db=db, platform=platform, terms=TERMS, settings=settings(), company=company)


async def pay(db: TestDatabase, platform: FakePlatform, invoice: Invoice, amount: str) -> Invoice:
    customer = platform.users[invoice.user_id]
    money = platform.add_cost_payment(a_cost_payment(customer, amount))
    paid, _ = await db.run(ADMIN, record_payment, platform, ObjectId(invoice.id), money.id)
    return paid


async def test_the_paper_shows_the_invoice_as_it_was_issued(
    db: TestDatabase, platform: FakePlatform
) -> None:
    issued = await an_issued_invoice(
        db, platform, a_customer(), total_miners=25, unit_price=Decimal("49.95")
    )
    paid = await pay(db, platform, issued, "1000.00")

    pdf = await frozen_pdf(services_of(db, platform), paid)

    lines = lines_of(pdf)
    assert "Northern Hosting Ltd Invoice" in lines
    assert "Total USD 1,248.75" in lines
    assert "Amount paid USD 0.00" in lines
    assert "Balance due USD 1,248.75" in lines
    assert "ISSUED" in lines
    assert "IBAN: GB33 BUKB" in lines


async def test_later_changes_of_payments_company_and_customer_change_no_byte(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    customer = a_customer()
    issued = await an_issued_invoice(db, platform, customer)
    first = await frozen_pdf(services_of(db, platform), issued)

    paid = await pay(db, platform, issued, "500.00")
    refunded = await db.run(ADMIN, refund_invoice, ObjectId(issued.id), "Paid twice.")
    platform.add_user(a_customer(id=customer.id, name="Renamed"))
    clock.move(days=400)
    later = services_of(db, platform, SOUTHERN)

    assert await frozen_pdf(later, paid) == first
    assert await frozen_pdf(later, refunded) == first
    assert "Southern" in text_of(
        await frozen_pdf(later, await an_issued_invoice(db, platform, customer))
    )


async def test_the_stored_file_names_its_invoice_its_fingerprint_and_what_made_it(
    db: TestDatabase, platform: FakePlatform
) -> None:
    issued = await an_issued_invoice(db, platform, a_customer())

    content = await frozen_pdf(services_of(db, platform), issued)

    [stored] = await InvoicePdf.find_all().to_list()
    assert stored.filename == "invoice-2026011201.pdf"
    assert stored.length == len(content)
    assert stored.metadata.invoice_id == issued.id
    assert stored.metadata.sha256 == hashlib.sha256(content).hexdigest()
    assert re.fullmatch(r"typst [0-9.]+, accounting [0-9.]+", stored.metadata.renderer)


async def test_the_days_on_paper_are_those_of_the_business_zone(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    clock.move(hours=12)  # 21:30 UTC, and noon of the next day there
    issued = await an_issued_invoice(db, platform, a_customer())
    in_kiritimati = replace(
        services_of(db, platform), terms=replace(TERMS, zone=ZoneInfo("Pacific/Kiritimati"))
    )

    pdf = await frozen_pdf(in_kiritimati, issued)

    assert any("Invoice date 13 January 2026" in line for line in lines_of(pdf))


async def test_a_draft_has_no_pdf(db: TestDatabase, platform: FakePlatform) -> None:
    draft = await a_draft(db, platform, a_customer())

    with pytest.raises(InvoiceNotIssued, match="2026011201 is a draft"):
        await kept_pdf(services_of(db, platform), draft)

    assert await InvoicePdf.find_all().count() == 0


async def test_the_job_of_the_issue_makes_it_and_can_come_twice(
    db: TestDatabase, platform: FakePlatform, jobs: JobList
) -> None:
    issued = await an_issued_invoice(db, platform, a_customer())
    [job] = [job for job in jobs.sent if job.name == FREEZE_JOB]
    services = services_of(db, platform)

    first = await freeze_one(services, ObjectId(job.args[0]))
    second = await freeze_one(services, ObjectId(job.args[0]))

    assert first is not None
    assert first == second
    assert first.metadata.invoice_id == issued.id
    assert await InvoicePdf.find_all().count() == 1


async def test_the_job_of_an_invoice_that_is_gone_makes_nothing(
    db: TestDatabase, platform: FakePlatform
) -> None:
    assert await freeze_one(services_of(db, platform), new_id()) is None
    assert await InvoicePdf.find_all().count() == 0


async def test_a_deleted_invoice_takes_its_pdf_along(
    db: TestDatabase, platform: FakePlatform
) -> None:
    services = services_of(db, platform)
    kept = await an_issued_invoice(db, platform, a_customer())
    ended = await an_issued_invoice(db, platform, a_customer())
    for invoice in (kept, ended):
        await frozen_pdf(services, invoice)

    await db.run(ADMIN, cancel_invoice, ObjectId(ended.id), "Wrong customer.")
    await db.run(ADMIN, delete_invoice, ObjectId(ended.id))

    [stored] = await InvoicePdf.find_all().to_list()
    assert stored.metadata.invoice_id == kept.id
    assert await InvoicePdfChunk.find_all().count() == 1
    assert (await frozen_pdf(services, await get_invoice(ObjectId(kept.id)))).startswith(b"%PDF")


async def test_an_invoice_that_is_deleted_while_its_pdf_is_made_leaves_none(
    db: TestDatabase, platform: FakePlatform
) -> None:
    issued = await an_issued_invoice(db, platform, a_customer())
    await db.run(ADMIN, cancel_invoice, ObjectId(issued.id), "Wrong customer.")
    await db.run(ADMIN, delete_invoice, ObjectId(issued.id))

    with pytest.raises(InvoiceNotFound):
        await frozen_pdf(services_of(db, platform), issued)

    assert await InvoicePdf.find_all().count() == 0
    assert await InvoicePdfChunk.find_all().count() == 0


@pytest.mark.parametrize(
    "damage",
    [
        {"$set": {"data": b"%PDF-1.7 of somebody else"}},
        {"$set": {"n": 1}},
    ],
)
async def test_a_damaged_pdf_is_never_served(
    db: TestDatabase, platform: FakePlatform, damage: dict[str, dict[str, object]]
) -> None:
    services = services_of(db, platform)
    issued = await an_issued_invoice(db, platform, a_customer())
    await frozen_pdf(services, issued)
    await InvoicePdfChunk.get_motor_collection().update_many({}, damage)

    with pytest.raises(StoredFileDamaged, match=r"invoice-2026011201\.pdf\) is damaged"):
        await frozen_pdf(services, issued)


async def test_bytes_of_the_right_length_that_are_others_are_found_out(
    db: TestDatabase, platform: FakePlatform
) -> None:
    services = services_of(db, platform)
    issued = await an_issued_invoice(db, platform, a_customer())
    content = await frozen_pdf(services, issued)
    forged = content.replace(b"%PDF-1.7", b"%PDF-1.4")
    await InvoicePdfChunk.get_motor_collection().update_one({}, {"$set": {"data": forged}})

    with pytest.raises(StoredFileDamaged, match="its SHA-256 is"):
        await frozen_pdf(services, issued)
