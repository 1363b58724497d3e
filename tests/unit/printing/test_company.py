"""Who bills: what a company file may say, and how a wrong one is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from accounting.bootstrap import check_settings, company_of
from accounting.errors import Misconfigured
from accounting.printing.company import LOGO_BYTES_MAX, Company, load_company
from accounting.settings import Settings
from pictures import a_png, a_svg

EXAMPLE = Path(__file__).parents[3] / "docker" / "company" / "company.example.toml"


def configured(company_file: Path | None = None, **changes: str) -> Settings:
    facts = {"mongodb_uri": "mongodb://127.0.0.1/hosting", "company_file": company_file}
    return Settings(**facts | changes)  # type: ignore[arg-type]


def a_file(folder: Path, text: str) -> Path:
    path = folder / "company.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_example_file_is_valid_and_shows_every_field() -> None:
    company = load_company(EXAMPLE)

    assert company.name == "Northern Hosting Ltd"
    assert company.address == ("14 Harbour Street", "Belfast BT1 4NX", "United Kingdom")
    assert len(company.payment_instructions) == 3
    assert company.logo.startswith("<svg")
    assert tomllib.loads(EXAMPLE.read_text()).keys() == Company.model_fields.keys()


def test_a_name_is_enough(tmp_path: Path) -> None:
    assert load_company(a_file(tmp_path, 'name = "山田 株式会社"')) == Company(name="山田 株式会社")


def test_without_a_file_the_sender_of_our_mail_bills_and_says_not_how_to_pay() -> None:
    named = company_of(configured(mail_from="Northern Hosting <billing@example.com>"))
    unnamed = company_of(configured(mail_from="billing@example.com"))

    assert named == Company(name="Northern Hosting", email="billing@example.com")
    assert named.payment_instructions == ()
    assert unnamed.name == "billing@example.com"


def test_lines_are_kept_as_they_are_to_be_printed(tmp_path: Path) -> None:
    text = (
        'name = "A"\naddress = ["1 Road", "Town"]\npayment_instructions = """\n a  b \n\nc\t\n"""'
    )

    company = load_company(a_file(tmp_path, text))

    assert company.address == ("1 Road", "Town")
    assert company.payment_instructions == ("a b", "", "c")


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ("", "name", "Field required"),
        ('name = ""', "name", "at least 1"),
        ('name = " \\u0007 "', "name", "at least 1"),
        (f'name = "{"n" * 201}"', "name", "at most 200"),
        ("name = 5", "name", "valid string"),
        ('name = "A"\nadress = "x"', "adress", "Extra inputs"),
        (f'name = "A"\ntax_id = "{"9" * 201}"', "tax_id", "at most 200"),
        ('name = "A"\naddress = """\n' + "x\n" * 9 + '"""', "address", "at most 8"),
        ('name = "A"\naddress = 5', "address", "valid tuple"),
        (f'name = "A"\naddress = "a\\n{"b" * 201}"', "address.1", "at most 200"),
        (
            'name = "A"\npayment_instructions = """\n' + "x\n" * 25 + '"""',
            "payment_instructions",
            "at most 24",
        ),
        ('name = "A"\nlogo = "none.png"', "logo", "none.png cannot be read: No such file"),
        ('name = "A"\nlogo = "."', "logo", "cannot be read"),
        ('name = "A"\nlogo = "company.toml"', "logo", "must be a PNG or SVG picture"),
    ],
)
def test_wrong_field_is_named_with_variable_and_file(
    tmp_path: Path, text: str, field: str, problem: str
) -> None:
    path = a_file(tmp_path, text)

    with pytest.raises(Misconfigured) as refused:
        check_settings(configured(path))

    assert refused.value.sentence.startswith(f"ACCOUNTING_COMPANY_FILE: {path}: {field}: ")
    assert problem in refused.value.sentence


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    path = a_file(tmp_path, 'tax_id = 5\nlogo = "none.png"')

    with pytest.raises(Misconfigured, match=r"name: .*; tax_id: .*; logo: "):
        load_company(path)


@pytest.mark.parametrize("content", [b"name = ", b"name = 'A'\nname = 'B'", b"name = '\xff'"])
def test_what_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "company.toml"
    path.write_bytes(content)

    with pytest.raises(Misconfigured, match=r"ACCOUNTING_COMPANY_FILE: .* is not a TOML file: "):
        load_company(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"company\.toml: cannot be read: No such file"):
        check_settings(configured(tmp_path / "company.toml"))


def test_logo_is_read_from_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(a_png(width=30, height=10))

    company = load_company(a_file(tmp_path, 'name = "A"\nlogo = "logo.png"'))

    assert 'viewBox="0 0 30 10"' in company.logo


def test_largest_logo_is_taken_and_a_larger_one_is_not(tmp_path: Path) -> None:
    svg = a_svg()
    path = a_file(tmp_path, 'name = "A"\nlogo = "logo.svg"')
    logo = tmp_path / "logo.svg"

    logo.write_bytes(svg + b" " * (LOGO_BYTES_MAX - len(svg)))
    assert len(load_company(path).logo) == LOGO_BYTES_MAX

    logo.write_bytes(svg + b" " * (LOGO_BYTES_MAX - len(svg) + 1))
    with pytest.raises(Misconfigured, match=r"logo: logo\.svg is larger than 256 KiB"):
        load_company(path)
