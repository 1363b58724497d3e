"""`accounting dev` as a newcomer uses it: start, paste the curls, stop, start again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from service import clean_environment

READY_SECONDS_MAX = 90
STOP_SECONDS_MAX = 30


@contextmanager
def started_stack(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, with what it printed up to `ready`; stopped by Ctrl-C at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "accounting", "dev", "--data-dir", str(data_dir)],
        env=clean_environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    try:
        deadline = time.monotonic() + READY_SECONDS_MAX
        for line in process.stdout:
            printed += line
            if line.startswith("ready") or time.monotonic() > deadline:
                break
        assert "ready" in printed, printed
        yield process, printed
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_SECONDS_MAX)


def descendants(pid: int) -> set[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rsplit(") ")[-1].split()[1]
            )
        except (OSError, ValueError):
            continue
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def paste(printed: str) -> str:
    """Run the printed curl lines in one shell, as if pasted."""
    lines = [line.strip() for line in printed.splitlines() if "curl " in line]
    assert len(lines) == 3, printed
    pasted = subprocess.run(
        ["bash", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60, check=True
    )
    return pasted.stdout


def addresses(printed: str) -> list[str]:
    return re.findall(r"http://[0-9.:]+[/a-z-]*", printed)


def admin_api(printed: str) -> httpx.Client:
    token = re.findall(r"eyJ[\w.-]+", printed)[0]
    [base_url] = {url for url in addresses(printed) if url.endswith("/api/accounting")}
    return httpx.Client(base_url=base_url, headers={"Authorization": f"Bearer {token}"})


def listed_invoices(printed: str) -> list[dict[str, Any]]:
    """The newest ones, the newest first."""
    with admin_api(printed) as api:
        return list(api.get("/invoices", params={"limit": 100}).json()["invoices"])


def test_the_pasted_lines_pay_an_invoice_and_a_second_start_finds_it(tmp_path: Path) -> None:
    with started_stack(tmp_path / "data") as (process, printed):
        children = descendants(process.pid)
        assert len(children) >= 6
        demo = listed_invoices(printed)
        assert {"DRAFT", "ISSUED", "OVERDUE", "PAID"} <= {found["status"] for found in demo}
        paste(printed)
        invoice, *others = listed_invoices(printed)
        assert others == demo
        assert (invoice["status"], invoice["totalAmount"]) == ("PAID", "500.00")
        mail_url = next(
            url for url in addresses(printed) if "api" not in url and "schema" not in url
        )
        deadline = time.monotonic() + 20
        while not (mails := httpx.get(f"{mail_url.rstrip('/')}/mails").json()):
            assert time.monotonic() < deadline, "no mail came"
            time.sleep(0.1)
        assert {invoice["invoiceNumber"] in mail["subject"] for mail in mails} == {True}
    assert process.returncode == 0
    assert [pid for pid in children if is_running(pid)] == []

    with started_stack(tmp_path / "data") as (process, printed):
        assert [found["id"] for found in listed_invoices(printed)] == [
            found["id"] for found in (invoice, *others)
        ]
    assert process.returncode == 0
