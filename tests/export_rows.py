"""A row of an export, and files as a reader sees them."""

from __future__ import annotations

import csv
import io
from datetime import date
from decimal import Decimal
from typing import Any

from python_calamine import CalamineWorkbook

from accounting.reports.export import COLUMNS, Row

NAMES = [column.name for column in COLUMNS]


def a_row(**changes: Any) -> Row:
    facts: dict[str, Any] = {
        "invoiceNumber": "2026011201",
        "status": "ISSUED",
        "isOverdue": True,
        "customerName": "Ada Holm",
        "customerEmail": "ada@example.com",
        "customerCompany": None,
        "customerId": "66f0c0ffee00000000000101",
        "billingPeriod": "2026-01",
        "totalMiners": 5,
        "unitPrice": Decimal("100.00"),
        "totalAmount": Decimal("500.00"),
        "amountPaid": Decimal("0.10"),
        "balanceDue": Decimal("499.90"),
        "currency": "USD",
        "invoiceGeneratedDate": date(2026, 1, 12),
        "issuedDate": date(2026, 1, 12),
        "dueDate": date(2026, 2, 11),
        "paidDate": None,
        "cancelledDate": None,
        "refundedDate": None,
    } | changes
    assert list(facts) == NAMES
    return tuple(facts.values())


def read_csv(content: bytes) -> list[dict[str, str]]:
    """The rows of a CSV export by the names of their columns."""
    assert content.startswith(b"\xef\xbb\xbf")
    text = content.decode("utf-8-sig")
    lines = list(csv.reader(io.StringIO(text, newline="")))
    assert lines[0] == NAMES
    return [dict(zip(NAMES, line, strict=True)) for line in lines[1:]]


def read_xlsx(content: bytes) -> dict[str, list[dict[str, Any]]]:
    """The rows of each sheet of a workbook by the names of their columns."""
    workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
    sheets = {}
    for name in workbook.sheet_names:
        lines = workbook.get_sheet_by_name(name).to_python()
        assert lines[0] == NAMES
        sheets[name] = [dict(zip(NAMES, line, strict=True)) for line in lines[1:]]
    return sheets
