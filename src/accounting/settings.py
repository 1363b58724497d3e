"""Configuration from `ACCOUNTING_*` environment variables (spec section 9; table in README.md)."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from accounting.errors import Misconfigured

JWT_SECRET_BYTES_MIN: Final = 32
_RATE_LIMIT = re.compile(r"^([1-9][0-9]{0,8})/(second|minute|hour)$")
_SCHEMES: Final = {
    "mongodb_uri": ("mongodb", "mongodb+srv"),
    "redis_url": ("redis", "rediss"),
    "smtp_url": ("smtp", "smtps"),
}
_SECONDS_OF: Final = {"second": 1, "minute": 60, "hour": 3600}

CommaList = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Every setting of the service; the environment variable is `ACCOUNTING_` + the upper name."""

    model_config = SettingsConfigDict(env_prefix="ACCOUNTING_", env_ignore_empty=True, frozen=True)

    mongodb_uri: SecretStr
    mongodb_database: str = ""
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    jwt_secret: SecretStr | None = None
    timezone: str = "UTC"
    smtp_url: SecretStr = SecretStr("smtp://127.0.0.1:25")
    mail_from: str = "Accounting <accounting@localhost>"
    mail_cc: CommaList = ()
    company_file: Path | None = None
    public_url: str = "http://127.0.0.1:8000"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    rate_limit: str = "600/minute"
    due_days: int = Field(default=30, ge=0, le=3650)
    serial_width: int = Field(default=2, ge=1, le=9)
    active_miner_statuses: CommaList = ("AUTO", "ACTIVE")
    allowed_origins: CommaList = ()
    log_level: str = "INFO"
    require_least_privilege: bool = False

    @field_validator("mail_cc", "active_miner_statuses", "allowed_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Berlin") from None
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value().encode()) < JWT_SECRET_BYTES_MIN:
            raise ValueError(f"must have at least {JWT_SECRET_BYTES_MIN} bytes")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _known_rate(cls, value: str) -> str:
        if not _RATE_LIMIT.match(value):
            raise ValueError("must look like 600/minute (second, minute or hour)")
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
            raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
        return value.upper()

    @field_validator("mongodb_uri", "redis_url", "smtp_url")
    @classmethod
    def _known_scheme(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        schemes = _SCHEMES[str(info.field_name)]
        if urlsplit(value.get_secret_value()).scheme not in schemes:
            raise ValueError(f"must be an address that starts with {schemes[0]}://")
        return value

    @cached_property
    def zone(self) -> ZoneInfo:
        """The business time zone."""
        return ZoneInfo(self.timezone)

    @cached_property
    def rate(self) -> tuple[int, int]:
        """Requests allowed per user, and the seconds in which they are counted."""
        count, unit = self.rate_limit.split("/")
        return int(count), _SECONDS_OF[unit]

    @cached_property
    def database_name(self) -> str:
        """The database to use: the setting, else the one that the MongoDB address names."""
        name = self.mongodb_database or urlsplit(self.mongodb_uri.get_secret_value()).path[1:]
        if not name:
            raise Misconfigured(
                "ACCOUNTING_MONGODB_DATABASE is not set and the MongoDB address names no database."
            )
        return name

    def require_jwt_secret(self) -> str:
        """The platform's signing secret. Raises Misconfigured where it is missing: no default."""
        if self.jwt_secret is None:
            raise Misconfigured("ACCOUNTING_JWT_SECRET is not set; it has no default.")
        return self.jwt_secret.get_secret_value()


def load_settings() -> Settings:
    """Read the environment. Raises Misconfigured naming every wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        problems = [
            f"ACCOUNTING_{str(problem['loc'][0]).upper()}: "
            + problem["msg"].removeprefix("Value error, ")
            for problem in error.errors()
        ]
        raise Misconfigured("Wrong configuration: " + "; ".join(problems) + ".") from None
