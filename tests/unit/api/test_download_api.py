"""`GET /invoices/{id}/download`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from accounting.actor import Role
from accounting.ids import ObjectId, new_id
from accounting.invoices.documents import Invoice
from accounting.invoices.papers import InvoicePdf, InvoicePdfChunk
from api_app import a_token, an_api
from builders import ADMIN, a_customer, a_draft, an_issued_invoice
from fakes import FakePlatform, TestDatabase
from pdf_reading import lines_of


@pytest.fixture
async def api(db: TestDatabase, platform: FakePlatform) -> AsyncIterator[httpx.AsyncClient]:
    """The API with an admin's token."""
    platform.add_user(a_customer(id=ADMIN.user_id, role=Role.ADMIN))
    async with an_api(db, platform) as client:
        client.headers["Authorization"] = f"Bearer {a_token(ADMIN.user_id)}"
        yield client


@pytest.fixture
async def issued(db: TestDatabase, platform: FakePlatform) -> Invoice:
    return await an_issued_invoice(db, platform, a_customer())


def url(invoice: Invoice) -> str:
    return f"/invoices/{invoice.id}/download"


def as_customer(user_id: ObjectId) -> dict[str, str]:
    return {"Authorization": f"Bearer {a_token(user_id, Role.CLIENT)}"}


async def test_it_is_a_file_named_after_the_invoice(
    api: httpx.AsyncClient, issued: Invoice
) -> None:
    answer = await api.get(url(issued))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"] == 'attachment; filename="invoice-2026011201.pdf"'
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert "Balance due USD 500.00" in lines_of(answer.content)


async def test_it_is_the_same_each_time_and_stored_once(
    api: httpx.AsyncClient, issued: Invoice
) -> None:
    first, second = await api.get(url(issued)), await api.get(url(issued))

    assert first.content == second.content
    assert await InvoicePdf.find_all().count() == 1


async def test_a_customer_gets_his_own(api: httpx.AsyncClient, issued: Invoice) -> None:
    answer = await api.get(url(issued), headers=as_customer(issued.user_id))

    assert answer.content.startswith(b"%PDF")


async def test_to_other_customers_it_does_not_exist(
    api: httpx.AsyncClient, platform: FakePlatform, issued: Invoice
) -> None:
    other = platform.add_user(a_customer())

    refused = await api.get(url(issued), headers=as_customer(other.id))
    unknown = await api.get(f"/invoices/{new_id()}/download", headers=as_customer(other.id))

    assert refused.status_code == unknown.status_code == 404
    assert refused.json()["code"] == unknown.json()["code"] == "invoice_not_found"


async def test_a_draft_has_none_and_its_customer_does_not_learn_of_it(
    api: httpx.AsyncClient, db: TestDatabase, platform: FakePlatform
) -> None:
    draft = await a_draft(db, platform, a_customer())

    to_admin = await api.get(url(draft))
    to_customer = await api.get(url(draft), headers=as_customer(draft.user_id))

    assert (to_admin.status_code, to_admin.json()["code"]) == (409, "invoice_not_issued")
    assert to_admin.json()["invoiceNumber"] == "2026011201"
    assert (to_customer.status_code, to_customer.json()["code"]) == (404, "invoice_not_found")


@pytest.mark.parametrize("form", ["{tag}", "W/{tag}", '"other", {tag}', "*"])
async def test_whoever_has_it_already_is_told_so(
    api: httpx.AsyncClient, issued: Invoice, form: str
) -> None:
    tag = (await api.get(url(issued))).headers["etag"]
    # What is not read cannot be served.
    await InvoicePdfChunk.find_all().delete()

    answer = await api.get(url(issued), headers={"If-None-Match": form.format(tag=tag)})

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == tag
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("tag", ['"3"', "e5d3791aee", '""', "W/"])
async def test_another_tag_gets_the_whole_file(
    api: httpx.AsyncClient, issued: Invoice, tag: str
) -> None:
    answer = await api.get(url(issued), headers={"If-None-Match": tag})

    assert answer.status_code == 200
    assert answer.content.startswith(b"%PDF")


async def test_a_damaged_file_is_an_error_of_ours_and_named_in_the_log(
    api: httpx.AsyncClient, issued: Invoice, caplog: pytest.LogCaptureFixture
) -> None:
    await api.get(url(issued))
    chunks = InvoicePdfChunk.get_motor_collection()
    await chunks.update_one({}, {"$set": {"data": b"%PDF-1.7 of somebody else"}})

    with caplog.at_level(logging.ERROR):
        answer = await api.get(url(issued))

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert b"somebody else" not in answer.content
    assert "(invoice-2026011201.pdf) is damaged" in caplog.text
