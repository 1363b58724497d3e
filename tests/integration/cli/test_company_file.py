"""A wrong company file stops every command that would print invoices, before it connects."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import SECRET, clean_environment, run_command


@pytest.mark.parametrize("command", [("serve",), ("worker",), ("jobs", "run", "deliver")])
def test_wrong_company_file_is_one_sentence_at_the_start(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "company.toml"
    path.write_text('name = "Northern Hosting"\ntax = "GB 123"\n')
    environment = clean_environment(
        MONGODB_URI="mongodb://127.0.0.1:9/unused",
        REDIS_URL="redis://127.0.0.1:9/0",
        JWT_SECRET=SECRET,
        COMPANY_FILE=str(path),
    )

    run = run_command(command, environment)

    assert run.returncode == 1
    assert run.stderr == (
        f"accounting: ACCOUNTING_COMPANY_FILE: {path}: tax: Extra inputs are not permitted.\n"
    )
