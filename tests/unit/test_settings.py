from __future__ import annotations

import pytest

from accounting.errors import Misconfigured
from accounting.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ACCOUNTING_{name.upper()}", raising=False)
    monkeypatch.setenv("ACCOUNTING_MONGODB_URI", "mongodb://127.0.0.1/hosting")


def test_the_database_name_comes_from_the_address_unless_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings().database_name == "hosting"

    monkeypatch.setenv("ACCOUNTING_MONGODB_DATABASE", "other")
    assert load_settings().database_name == "other"


def test_no_database_name_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCOUNTING_MONGODB_URI", "mongodb://127.0.0.1")

    with pytest.raises(Misconfigured, match="ACCOUNTING_MONGODB_DATABASE"):
        _ = load_settings().database_name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MONGODB_URI", "127.0.0.1:27017"),
        ("MONGODB_URI", "redis://127.0.0.1"),
        ("REDIS_URL", "mongodb://127.0.0.1"),
        ("SMTP_URL", "127.0.0.1:25"),
        ("TIMEZONE", "Mars/Olympus"),
        ("JWT_SECRET", "x" * 31),
        ("RATE_LIMIT", "600/day"),
        ("RATE_LIMIT", "0/minute"),
        ("DUE_DAYS", "-1"),
        ("DUE_DAYS", "soon"),
        ("SERIAL_WIDTH", "0"),
        ("PORT", "65536"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_value_stops_the_start_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ACCOUNTING_{name}", value)

    with pytest.raises(Misconfigured, match=f"ACCOUNTING_{name}"):
        load_settings()


def test_the_signing_secret_has_no_default() -> None:
    with pytest.raises(Misconfigured, match="ACCOUNTING_JWT_SECRET"):
        load_settings().require_jwt_secret()


def test_a_secret_of_32_bytes_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCOUNTING_JWT_SECRET", "x" * 32)

    assert load_settings().require_jwt_secret() == "x" * 32


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCOUNTING_ACTIVE_MINER_STATUSES", "AUTO, ACTIVE ,LOW")

    assert load_settings().active_miner_statuses == ("AUTO", "ACTIVE", "LOW")


def test_secrets_do_not_show_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCOUNTING_JWT_SECRET", "s3cret" * 6)
    monkeypatch.setenv("ACCOUNTING_MONGODB_URI", "mongodb://me:pa55word@127.0.0.1/hosting")

    text = repr(load_settings())

    assert "s3cret" not in text
    assert "pa55word" not in text
