"""Exports of the running service: over a real connection, with readers of all kinds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any

import httpx
import pytest

from accounting.api.exports import EXPORTS_AT_ONCE_MAX
from accounting.db.client import CODEC_OPTIONS
from accounting.dev.mail_catcher import MailCatcher
from accounting.dev.processes import Server
from accounting.ids import ObjectId, new_id
from export_rows import read_csv, read_xlsx
from many_invoices import many_invoices
from service import Service, running_service, service_environment

NUMBER = 30_000
WAIT_SECONDS_MAX = 20.0
# The last one of the list, and without anything that a row is made of.
BROKEN = {
    "_id": new_id(),
    "invoiceNumber": "2000010101",
    "status": "DRAFT",
    "createdAt": datetime(2000, 1, 1, tzinfo=UTC),
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service has its temporary files."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def many(
    mongod: Server,
    redis_server: Server,
    mail_catcher: MailCatcher,
    scratch: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service with so many invoices that no connection swallows an export at once."""
    environment = service_environment(
        mongod, redis_url=redis_server.uri, smtp_url=mail_catcher.uri, database="export_test"
    )
    environment["TMPDIR"] = str(scratch)
    customers = [ObjectId(f"{serial:024x}") for serial in range(1, 50)]
    with running_service(environment, tmp_path_factory.mktemp("service")) as running:
        invoices = running.mongo.get_collection("invoices", codec_options=CODEC_OPTIONS)
        invoices.insert_many(many_invoices(NUMBER, customers), ordered=False)
        yield running


def url(**parameters: str) -> Any:
    return httpx.URL("/invoices/export", params=parameters)


def begin(stack: ExitStack, service: Service) -> httpx.Response:
    """An export whose reader has seen its first bytes and takes no more."""
    # The system would take some megabytes for him.
    transport = httpx.HTTPTransport(socket_options=[(SOL_SOCKET, SO_RCVBUF, 4_096)])
    client = stack.enter_context(
        httpx.Client(base_url=service.api.base_url, timeout=30, transport=transport)
    )
    answer = stack.enter_context(client.stream("GET", url(), headers=service.as_admin()))
    if answer.status_code == 200:
        # Kept until the end: with its iterator the connection would be gone.
        parts = answer.iter_raw()
        stack.callback(parts.close)  # type: ignore[attr-defined]
        next(parts)
    return answer


def export(service: Service, **parameters: str) -> bytes:
    answer = service.api.get(url(**parameters), headers=service.as_admin())
    assert answer.status_code == 200, answer.text
    return answer.content


def test_every_invoice_is_exported_once_and_in_order(many: Service) -> None:
    rows = read_csv(export(many, sortBy="invoiceNumber", sortDirection="asc"))

    numbers = [row["invoiceNumber"] for row in rows]
    assert len(numbers) == NUMBER
    assert numbers == sorted(set(numbers))


def test_both_kinds_of_file_have_the_same_rows(many: Service) -> None:
    rows = read_csv(export(many, sortBy="totalAmount"))
    [(_, cells)] = read_xlsx(export(many, sortBy="totalAmount", format="xlsx")).items()

    assert [row["invoiceNumber"] for row in rows] == [row["invoiceNumber"] for row in cells]
    assert [row["totalAmount"] for row in rows] == [f"{row['totalAmount']:.2f}" for row in cells]


def test_readers_who_go_away_leave_their_places(many: Service) -> None:
    for _ in range(3):
        with ExitStack() as stack:
            running = [begin(stack, many).status_code for _ in range(EXPORTS_AT_ONCE_MAX)]
            refused = begin(stack, many)
            assert running == [200] * EXPORTS_AT_ONCE_MAX
            assert refused.status_code == 503
            assert b'"exports_busy"' in refused.read()
            # Slow readers are in nobody's way.
            assert many.api.get("/invoices", headers=many.as_admin()).status_code == 200
        wait_until(lambda: is_a_place_free(many))


def is_a_place_free(service: Service) -> bool:
    answer = service.api.get(url(q="nobody"), headers=service.as_admin())
    return answer.status_code == 200


def wait_until(is_so: Callable[[], bool], seconds_max: float = WAIT_SECONDS_MAX) -> None:
    give_up_at = time.monotonic() + seconds_max
    while not is_so():
        assert time.monotonic() < give_up_at, "it takes too long"
        time.sleep(0.05)


def test_nothing_is_held_on_the_server_for_a_slow_reader(many: Service) -> None:
    with ExitStack() as stack:
        begin(stack, many)
        time.sleep(0.5)
        cursors = many.mongo.client.admin.command("serverStatus")["metrics"]["cursor"]["open"]

    assert cursors["total"] == 0


@pytest.fixture
def broken(many: Service) -> Iterator[None]:
    """A list whose last invoice cannot be made a row of."""
    many.mongo.command("insert", "invoices", documents=[BROKEN], bypassDocumentValidation=True)
    yield
    many.mongo["invoices"].delete_one({"_id": BROKEN["_id"]})


@pytest.mark.usefixtures("broken")
def test_a_failure_on_the_way_breaks_the_connection(many: Service) -> None:
    received: list[int] = []

    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message"):
        download(many, received)

    assert sum(received) > 100_000


def download(service: Service, received: list[int]) -> None:
    with service.api.stream("GET", url(), headers=service.as_admin()) as answer:
        assert answer.status_code == 200
        for part in answer.iter_raw():
            received.append(len(part))


@pytest.mark.usefixtures("broken")
def test_a_workbook_that_fails_is_an_answer_like_any_and_leaves_nothing(
    many: Service, scratch: Path
) -> None:
    answer = many.api.get(url(format="xlsx"), headers=many.as_admin())

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (files_in(scratch), is_a_place_free(many)) == ([], True)


def test_a_workbook_comes_with_its_length_and_leaves_nothing(many: Service, scratch: Path) -> None:
    answer = many.api.get(url(format="xlsx"), headers=many.as_admin())

    assert int(answer.headers["content-length"]) == len(answer.content)
    wait_until(lambda: files_in(scratch) == [])


def test_a_workbook_is_given_up_when_its_readers_go_away(many: Service, scratch: Path) -> None:
    def ask() -> None:
        with httpx.Client(base_url=many.api.base_url, timeout=3) as client:
            client.get(url(format="xlsx"), headers=many.as_admin())

    with ThreadPoolExecutor(EXPORTS_AT_ONCE_MAX) as pool:
        readers = [pool.submit(ask) for _ in range(EXPORTS_AT_ONCE_MAX)]
        wait_until(lambda: len([*scratch.glob("accounting-export-*")]) == EXPORTS_AT_ONCE_MAX)
        assert not is_a_place_free(many)
    for reader in readers:
        assert isinstance(reader.exception(), httpx.ReadTimeout)

    # Both together would be written for many times as long.
    wait_until(lambda: is_a_place_free(many) and files_in(scratch) == [], seconds_max=1.5)


def files_in(folder: Path) -> list[str]:
    """The API's files there, and those that no longer have a name but are still open."""
    found = [str(path) for path in folder.rglob("*")]
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            path = os.readlink(descriptor)
        except OSError:
            continue
        if path.startswith(f"{folder}/"):
            found.append(path)
    # The worker's own.
    return [path for path in found if "/pymp-" not in path]
