"""`accounting …`: one group of commands, one clear sentence when something fails."""

from __future__ import annotations

import logging
import sys
from typing import Final

import click

from accounting.cli.archive import archive_command
from accounting.cli.audit import audit
from accounting.cli.db import db
from accounting.cli.demo import demo_command
from accounting.cli.doctor import doctor, numbers
from accounting.cli.jobs import jobs
from accounting.cli.run import beat, dev, serve, worker
from accounting.cli.simulate import simulate_command
from accounting.cli.token import token
from accounting.db.client import DriverError
from accounting.db.failures import explain
from accounting.errors import AccountingError

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="accounting")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def cli(debug: bool) -> None:
    """Accounting service: invoices, payments, audit trail and e-mail. Spec section 9."""


for command in (
    serve,
    worker,
    beat,
    dev,
    demo_command,
    db,
    jobs,
    simulate_command,
    audit,
    token,
    doctor,
    numbers,
    archive_command,
):
    cli.add_command(command)


def main() -> None:
    """Run the command; a failure is one sentence on stderr and an exit code other than 0."""
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT)
    is_debug = "--debug" in sys.argv
    try:
        exit_code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        exit_code = 130
    except click.ClickException as error:
        error.show()
        exit_code = error.exit_code
    except AccountingError as error:
        if is_debug:
            raise
        click.echo(f"accounting: {error.sentence}", err=True)
        exit_code = 1
    except DriverError as error:
        if is_debug:
            raise
        click.echo(f"accounting: {explain(error).sentence}", err=True)
        exit_code = 1
    except Exception as error:  # the edge of the program: anything else is a bug, said in a line
        if is_debug:
            raise
        click.echo(f"accounting: {type(error).__name__}: {_first_line(error)}", err=True)
        exit_code = 1
    sys.exit(exit_code if isinstance(exit_code, int) else 0)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no details"])[0]
