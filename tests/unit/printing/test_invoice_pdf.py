"""The invoice as PDF, read back: what it says, where it says it, and what it is made of."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from accounting.money import AMOUNT_MAX, UNIT_PRICE_MAX
from accounting.printing.company import Company
from accounting.printing.invoice import (
    PrintedInvoice,
    Stamp,
    render_invoice,
    render_invoice_in_thread,
)
from accounting.printing.logo import logo_as_svg
from pdf_reading import (
    NOTDEF,
    glyphs_of,
    images_of,
    letters_of,
    lines_of,
    overlapping,
    reader_of,
    same_line,
    standards_of,
    text_of,
)
from pictures import a_png, a_svg

INVOICE = PrintedInvoice(
    invoice_number="2026021101",
    status=Stamp.ISSUED,
    customer_name="Nia Okafor",
    customer_email="nia@example.org",
    company_name="Okafor Digital",
    total_miners=25,
    unit_price=Decimal("50.00"),
    total_amount=Decimal("1250.00"),
    amount_paid=Decimal("0.00"),
    issued_on=date(2026, 2, 11),
    due_on=date(2026, 3, 13),
    billing_period="2026-02",
)
COMPANY = Company(
    name="Northern Hosting Ltd",
    address=("14 Harbour Street", "Belfast BT1 4NX"),
    tax_id="GB 123 4567 89",
    email="billing@example.com",
    payment_instructions=("IBAN: GB33 BUKB 2020 1555 5555 55", "", "BIC: BUKBGB22"),
)
MARGIN_POINTS = 20 / 25.4 * 72
PAGE_WIDTH_POINTS = 210 / 25.4 * 72
MARKUP = [
    '#panic("x")',
    "*bold* _it_ $x^2$ <script> @ref",
    "= Heading",
    "- item // comment",
    '"}, {"number": "1"',
    r"\u{41} \n \\ #sys.inputs ~ --- ... :smile: `raw`",
    '#image("/etc/passwd")',
    "{{ 7 * 7 }} [#words] ]]",
    '#panic("and-one-that-is-longer-than-a-column")',
]


def test_every_fact_is_on_the_paper() -> None:
    lines = lines_of(render_invoice(INVOICE, COMPANY))

    assert lines[:5] == [
        "Northern Hosting Ltd",
        "14 Harbour Street",
        "Belfast BT1 4NX",
        "Tax ID GB 123 4567 89",
        "billing@example.com",
    ]
    billed_to = lines.index("Billed to")
    assert lines[billed_to + 1 : billed_to + 4] == [
        "Okafor Digital",
        "Nia Okafor",
        "nia@example.org",
    ]
    assert lines.count("ISSUED") == 1
    for words in [
        ("2026021101",),
        ("Invoice date", "11 February 2026"),
        ("Due date", "13 March 2026"),
        ("Billing period", "February 2026"),
        ("USD 1,250.00", "Due by 13 March 2026"),
        ("25", "USD 50.00", "USD 1,250.00"),
        ("Total", "USD 1,250.00"),
        ("Amount paid", "USD 0.00"),
        ("Balance due", "USD 1,250.00"),
        ("IBAN: GB33 BUKB 2020 1555 5555 55",),
        ("BIC: BUKBGB22",),
        ("Please quote invoice 2026021101 with your payment.",),
        ("Invoice 2026021101", "Page 1 of 1"),
    ]:
        assert same_line(lines, *words), words


def test_part_payment_shows_what_is_left_to_pay() -> None:
    facts = replace(INVOICE, status=Stamp.OVERDUE, amount_paid=Decimal("400.10"))

    lines = lines_of(render_invoice(facts, COMPANY))

    assert "OVERDUE" in lines
    assert same_line(lines, "USD 849.90", "Was due by 13 March 2026")
    assert same_line(lines, "Total", "USD 1,250.00")
    assert same_line(lines, "Amount paid", "\N{MINUS SIGN} USD 400.10")
    assert same_line(lines, "Balance due", "USD 849.90")
    assert "How to pay" in lines


@pytest.mark.parametrize(
    ("status", "paid", "note"),
    [
        (Stamp.PAID, "1250.00", "Paid in full"),
        (Stamp.CANCELLED, "0.00", "Cancelled: nothing to pay"),
        (Stamp.REFUNDED, "0.00", "Refunded: nothing to pay"),
        (Stamp.ISSUED, "1250.00", "Nothing left to pay"),
    ],
)
def test_where_nothing_is_due_nothing_is_asked_for(status: Stamp, paid: str, note: str) -> None:
    facts = replace(INVOICE, status=status, amount_paid=Decimal(paid))

    lines = lines_of(render_invoice(facts, COMPANY))

    assert status.value in lines
    assert same_line(lines, "USD 0.00", note)
    assert same_line(lines, "Balance due", "USD 0.00")
    assert same_line(lines, "Total", "USD 1,250.00")
    assert "How to pay" not in lines
    assert not any("IBAN" in line for line in lines)


def test_last_cent_is_still_due() -> None:
    facts = replace(INVOICE, amount_paid=Decimal("1249.99"))

    assert same_line(lines_of(render_invoice(facts, COMPANY)), "Balance due", "USD 0.01")


def test_what_is_unknown_leaves_no_trace() -> None:
    facts = replace(INVOICE, company_name=None, billing_period=None, customer_email="")

    text = text_of(render_invoice(facts, Company(name="Accounting")))

    assert text.startswith("Accounting Invoice 2026021101 ISSUED Billed to Nia Okafor Invoice date")
    for absent in ("None", "Billing period", "Tax ID", "How to pay", "quote"):
        assert absent not in text


def test_even_a_nameless_customer_gets_an_invoice() -> None:
    facts = replace(INVOICE, company_name=None, customer_name="\x07 ", customer_email="")

    assert "Billed to Invoice date" in text_of(render_invoice(facts, COMPANY))


@pytest.mark.parametrize("name", MARKUP)
def test_markup_in_a_name_stays_text(name: str) -> None:
    customer = replace(INVOICE, customer_name=name, company_name=name, customer_email=name)
    company = Company(
        name=name, address=(name,), tax_id=name, email=name, payment_instructions=(name,)
    )

    text = text_of(render_invoice(customer, company))

    assert text.count(name) == 8


def test_line_breaks_in_a_name_collapse() -> None:
    facts = replace(INVOICE, customer_name="Nia\r\nTotal\u2028\x00 USD 0.00")

    assert "Nia Total USD 0.00" in lines_of(render_invoice(facts, COMPANY))


def test_longest_values_stay_inside_their_columns() -> None:
    wide = "W" * 200
    facts = replace(
        INVOICE,
        invoice_number="9" * 20,
        company_name=wide,
        customer_name="Maximilian Alexander " * 9 + "of Hohenheim",
        customer_email="m" * 64 + "@" + "w" * 247 + ".example",
        total_miners=1_000_000,
        unit_price=UNIT_PRICE_MAX,
        total_amount=AMOUNT_MAX,
        amount_paid=AMOUNT_MAX - Decimal("0.01"),
        due_on=date(2026, 9, 30),
    )
    company = COMPANY.model_copy(
        update={
            "name": "Wide Name " * 20,
            "address": (wide,) * 8,
            "payment_instructions": (wide,) * 24,
        }
    )

    pdf = render_invoice(facts, company)

    lines, letters = lines_of(pdf), letters_of(pdf)
    text = "".join(text_of(pdf).split())
    assert same_line(lines, "1,000,000", "USD 99,999,999.99", "USD 9,999,999,999.99")
    assert same_line(lines, "Total", "USD 9,999,999,999.99")
    assert same_line(lines, "Amount paid", "\N{MINUS SIGN} USD 9,999,999,999.98")
    assert same_line(lines, "Due date", "30 September 2026")
    for value in (facts.customer_name, facts.customer_email):
        assert "".join(value.split()) in text
    assert text.count("W") == 200 * (1 + 8 + 24) + 20
    assert min(letter.left for letter in letters) >= MARGIN_POINTS - 1
    assert max(letter.right for letter in letters) <= PAGE_WIDTH_POINTS - MARGIN_POINTS + 1
    assert min(letter.bottom for letter in letters) > 0
    assert overlapping(letters) == []


def test_a_long_word_can_be_copied_whole() -> None:
    address = "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3"
    company = COMPANY.model_copy(update={"payment_instructions": (f"Bitcoin: {address}",)})

    assert f"Bitcoin: {address}" in lines_of(render_invoice(INVOICE, company))


@pytest.mark.parametrize(
    ("name", "font"),
    [
        ("Zoë Ångström-Čapek", "NotoSans-"),
        ("Nguyễn Thị Ánh", "NotoSans-"),
        ("Ольга Иванова", "NotoSans-"),
        ("Ελληνική Εταιρεία", "NotoSans-"),
        ("חברת כרייה בע״מ", "NotoSansHebrew"),
        ("北京矿业有限公司", "NotoSansCJKsc"),
        ("株式会社ミナト", "NotoSansCJKjp"),
        ("주식회사 한국", "NotoSansCJK"),
        ("บริษัท เหมืองไทย จำกัด", "NotoSansThai"),
        ("हिन्दी कंपनी लिमिटेड", "NotoSansDevanagari"),
        ("Հայկական", "NotoSansArmenian"),
        ("ქართული", "NotoSansGeorgian"),
        ("ঢাকা", "NotoSansBengali"),
        ("தமிழ்", "NotoSansTamil"),
        ("🚀 Miner", "NotoEmoji"),
        ("₿ € ¥ ₹", "NotoSans-"),
    ],
)
def test_names_of_the_world_show_their_own_letters(name: str, font: str) -> None:
    # In bold and in regular.
    pdf = render_invoice(replace(INVOICE, customer_name=name, company_name=name), COMPANY)

    glyphs = glyphs_of(pdf)
    assert text_of(pdf).count(name) == 2
    assert any(used.startswith(font) for used in glyphs), sorted(glyphs)
    assert all(NOTDEF not in numbers for numbers in glyphs.values())
    assert standards_of(pdf) == {"PDF/A-2A", "PDF/UA-1"}


def test_arabic_shows_its_own_letters() -> None:
    # Its font draws some letters as two glyphs, so programs read them back in another order.
    name = "شركة التعدين العربية"

    pdf = render_invoice(replace(INVOICE, customer_name=name), COMPANY)

    glyphs = glyphs_of(pdf)
    assert set(name) <= set(text_of(pdf))
    assert len(glyphs["NotoSansArabic-Regular"]) > 10
    assert all(NOTDEF not in numbers for numbers in glyphs.values())


def test_a_letter_that_no_font_has_does_not_stop_the_invoice() -> None:
    facts = replace(INVOICE, customer_name="Cuneiform \U00012000 \ue000")

    pdf = render_invoice(facts, COMPANY)

    assert NOTDEF in glyphs_of(pdf)["NotoSans-Regular"]
    assert same_line(lines_of(pdf), "Balance due", "USD 1,250.00")
    # Archives refuse the empty box that stands in its place.
    assert standards_of(pdf) == set()


@pytest.mark.parametrize("picture", [a_png(width=300, height=60), a_svg()])
def test_logo_stands_above_the_name_and_is_described_by_it(picture: bytes) -> None:
    with_logo = render_invoice(INVOICE, COMPANY.model_copy(update={"logo": logo_as_svg(picture)}))
    without = render_invoice(INVOICE, COMPANY)

    def top_of_name(pdf: bytes) -> float:
        return letters_of(pdf)[0].top

    assert text_of(with_logo) == text_of(without)
    assert top_of_name(without) - top_of_name(with_logo) > 30
    assert images_of(with_logo) == [COMPANY.name]
    assert images_of(without) == []


def test_it_is_one_page_of_a4_with_metadata() -> None:
    pdf = reader_of(render_invoice(INVOICE, COMPANY))

    assert len(pdf.pages) == 1
    assert (round(pdf.pages[0].mediabox.width), round(pdf.pages[0].mediabox.height)) == (595, 842)
    assert pdf.metadata is not None
    assert pdf.metadata.title == "Invoice 2026021101"
    assert pdf.metadata.author == "Northern Hosting Ltd"
    assert pdf.metadata.creation_date == pdf.metadata.modification_date
    assert f"{pdf.metadata.creation_date:%Y-%m-%d %H:%M %Z}" == "2026-02-11 00:00 UTC"
    assert pdf.root_object["/Lang"] == "en"


def test_more_than_a_page_is_numbered() -> None:
    company = COMPANY.model_copy(update={"payment_instructions": ("Pay " * 50,) * 24})

    pdf = render_invoice(INVOICE, company)

    pages = len(reader_of(pdf).pages)
    assert pages > 1
    for page in range(1, pages + 1):
        assert same_line(lines_of(pdf), "Invoice 2026021101", f"Page {page} of {pages}")
    assert text_of(pdf).count("Pay ") == 24 * 50


async def test_the_loop_goes_on_while_a_document_is_made() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    pdf = await render_invoice_in_thread(INVOICE, COMPANY)
    turning.cancel()

    assert turns > 10
    assert pdf == render_invoice(INVOICE, COMPANY)


async def test_many_at_once_each_get_their_own() -> None:
    many = [replace(INVOICE, customer_name=f"Customer {n}", total_miners=n) for n in range(1, 25)]

    made = await asyncio.gather(*(render_invoice_in_thread(facts, COMPANY) for facts in many))

    assert made == [render_invoice(facts, COMPANY) for facts in many]
