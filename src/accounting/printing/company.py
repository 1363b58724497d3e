"""The company that bills, as its customers read it: out of a file of the operator's."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails

from accounting.errors import Misconfigured
from accounting.printing.logo import logo_as_svg
from accounting.wording import one_line

# Every PDF carries it, and every PDF is kept.
LOGO_BYTES_MAX: Final = 256 * 1024


def _to_one_line(value: object) -> object:
    return one_line(value) if isinstance(value, str) else value


def _to_lines(value: object) -> object:
    if isinstance(value, str):
        value = value.strip().splitlines()
    return tuple(map(_to_one_line, value)) if isinstance(value, Sequence) else value


def _to_svg(value: object, info: ValidationInfo) -> object:
    """In a company file the logo is a path, beside that file; in code it is the picture itself."""
    if not value or not isinstance(value, str) or not info.context:
        return value
    try:
        with (info.context["folder"] / value).open("rb") as file:
            content = file.read(LOGO_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{value} cannot be read: {error.strerror}") from None
    if len(content) > LOGO_BYTES_MAX:
        raise ValueError(f"{value} is larger than {LOGO_BYTES_MAX // 1024} KiB")
    return logo_as_svg(content)


Line: TypeAlias = Annotated[str, BeforeValidator(_to_one_line), Field(max_length=200)]
Name: TypeAlias = Annotated[Line, Field(min_length=1)]
Lines: TypeAlias = Annotated[tuple[Line, ...], BeforeValidator(_to_lines)]


class Company(BaseModel):
    """Who bills; all but the name can be left out. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    address: Annotated[Lines, Field(max_length=8)] = ()
    tax_id: Line = ""
    email: Line = ""
    logo: Annotated[str, BeforeValidator(_to_svg)] = ""
    """An SVG document."""
    payment_instructions: Annotated[Lines, Field(max_length=24)] = ()


def load_company(path: Path) -> Company:
    """Read the file that ACCOUNTING_COMPANY_FILE names; `docker/company/` has an example.

    Raises Misconfigured, with the variable, the file and every wrong field in its sentence.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        return Company.model_validate(fields, context={"folder": path.parent})
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except ValidationError as error:
        problem = "; ".join(map(_problem_of_field, error.errors()))
    except ValueError as error:  # not UTF-8, or not TOML
        problem = f"is not a TOML file: {error}"
    raise Misconfigured(f"ACCOUNTING_COMPANY_FILE: {path}: {problem}.")


def _problem_of_field(error: ErrorDetails) -> str:
    field = ".".join(map(str, error["loc"]))
    return f"{field}: {error['msg'].removeprefix('Value error, ')}"
