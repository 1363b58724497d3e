"""`accounting db roles` and `accounting db check`: who may do what in the database (section 8)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote_plus

import click

from accounting.access.needs import PARTS, SERVICE, SETUP, Part
from accounting.access.review import Finding, Kind, review
from accounting.bootstrap import open_mongo
from accounting.db.client import MongoDatabase, check_server
from accounting.db.privileges import Rights, read_rights
from accounting.db.roles import (
    Done,
    grant_role,
    has_user,
    mongosh_script,
    put_role,
    put_user,
)
from accounting.settings import load_settings

_PASSWORD_VARIABLES: Final[Mapping[str, str]] = {
    SERVICE.name: "ACCOUNTING_SERVICE_USER_PASSWORD",
    SETUP.name: "ACCOUNTING_SETUP_USER_PASSWORD",
}
_USED_BY: Final[Mapping[str, str]] = {
    SERVICE.name: "`accounting serve`, `worker`, `beat`, `jobs`, `audit` and `doctor`, together "
    "with ACCOUNTING_REQUIRE_LEAST_PRIVILEGE=true",
    SETUP.name: "`accounting db plan`, `apply`, `verify`, `backup` and `rollback`",
}


@click.command(short_help="Print the two roles for mongosh, or make them.")
@click.option("--create", is_flag=True, help="Make them, or bring them up to date; asks passwords.")
@click.option("--service-user", metavar="NAME", help="A user for the service, with its role.")
@click.option("--setup-user", metavar="NAME", help="A user for the setup command, with its role.")
def roles(create: bool, service_user: str | None, setup_user: str | None) -> None:
    """Print the two roles as a mongosh script, or make them with --create.

    The service's role reads the platform's collections and writes to ours, but cannot alter the
    audit trail. The setup's role makes and drops our collections. Neither writes to the platform's.
    Passwords come from ACCOUNTING_SERVICE_USER_PASSWORD and ACCOUNTING_SETUP_USER_PASSWORD, or are
    asked for; a user that exists keeps its own.
    """
    if service_user and service_user == setup_user:
        raise click.UsageError("The service and its setup need users of different names.")
    named = {SERVICE.name: service_user, SETUP.name: setup_user}
    users = {part: name for part, name in named.items() if name}
    settings = load_settings()
    if create:
        asyncio.run(_create(users))
        return
    role_of = {name: PARTS[part].role_name for part, name in users.items()}
    click.echo(
        mongosh_script(settings.database_name, [part.role for part in PARTS.values()], role_of)
    )


@click.command(short_help="Check the server and our user's rights.")
@click.option(
    "--for",
    "part_name",
    type=click.Choice(list(PARTS)),
    help="Whose needs to compare with; the setup's for a user with its role, else the service's.",
)
@click.option("--strict", is_flag=True, help="Fail also when the user may do more than needed.")
def check(part_name: str | None, strict: bool) -> None:
    """Check the server, and whether our user may do what is needed, and nothing else.

    Exit code 1 when a right is missing; for a dangerous one with --strict or
    ACCOUNTING_REQUIRE_LEAST_PRIVILEGE=true, and for any other beyond need with --strict.
    """
    settings = load_settings()
    server, rights = asyncio.run(_look())
    part = PARTS[part_name] if part_name else _part_of(rights, settings.database_name)
    click.echo(f"ok        {server}")
    for line in _who(rights, part):
        click.echo(f"ok        {line}")
    findings = review(rights, part, settings.database_name)
    for finding in findings:
        click.echo(f"{finding.kind:10}{finding.sentence}")
    if not findings:
        click.echo(f"ok        it has every right that the {part.name} needs, and no other")
        return
    click.echo(f"next      {_advice(rights, part)}")
    fatal = {Kind.MISSING}
    if strict or settings.require_least_privilege:
        fatal.add(Kind.DANGEROUS)
    if strict:
        fatal.add(Kind.SURPLUS)
    _fail_for([finding for finding in findings if finding.kind in fatal])


async def _look() -> tuple[str, Rights]:
    async with open_mongo(load_settings()) as mongo:
        return await check_server(mongo), await read_rights(mongo)


def _part_of(rights: Rights, database_name: str) -> Part:
    has_setup, has_service = (
        f"{part.role_name}@{database_name}" in rights.roles for part in (SETUP, SERVICE)
    )
    return SETUP if has_setup and not has_service else SERVICE


def _who(rights: Rights, part: Part) -> Iterator[str]:
    if rights.user:
        held = ", ".join(rights.roles) or "no role"
        yield f"user {rights.user} ({held}), compared with what the {part.name} needs"


def _advice(rights: Rights, part: Part) -> str:
    if not rights.is_enforced:
        return "start mongod with --auth, or --keyFile for a replica set; see README, Operations"
    return (
        f"`accounting db roles --create --{part.name}-user NAME`, run as an administrator, makes "
        "a user with exactly the rights that are needed"
    )


def _fail_for(findings: Sequence[Finding]) -> None:
    counts = {kind: sum(finding.kind is kind for finding in findings) for kind in Kind}
    words = {
        Kind.MISSING: "missing rights",
        Kind.DANGEROUS: "dangerous rights",
        Kind.SURPLUS: "other rights beyond need",
    }
    told = [f"{counts[kind]} {words[kind]}" for kind in Kind if counts[kind]]
    if told:
        raise click.ClickException(f"The MongoDB user is not the right one: {', '.join(told)}.")


async def _create(users: Mapping[str, str]) -> None:
    async with open_mongo(load_settings()) as mongo:
        # Asked for first: nothing is half done when somebody has no answer.
        passwords = {
            name: _password(part_name, name)
            for part_name, name in users.items()
            if not await has_user(mongo, name)
        }
        for part in PARTS.values():
            done = await put_role(mongo, part.role)
            click.echo(f"{done:10}role {part.role_name} of {mongo.name}")
        for part_name, name in users.items():
            await _put_user(mongo, PARTS[part_name], name, passwords.get(name))
    for part_name, name in users.items():
        click.echo(f"next      {_USED_BY[part_name]}: ACCOUNTING_MONGODB_URI={_uri(mongo, name)}")
    click.echo(
        "next      `accounting db check` as each of them"
        if users
        else "next      give the roles to users, or run this with --service-user and --setup-user"
    )


async def _put_user(mongo: MongoDatabase, part: Part, name: str, password: str | None) -> None:
    made = (
        await grant_role(mongo, name, part.role)
        if password is None
        else await put_user(mongo, name, part.role, password)
    )
    kept = "" if made.done is Done.CREATED else "; its password was left as it is"
    click.echo(f"{made.done:10}user {name} of {mongo.name} with the role {part.role_name}{kept}")
    if made.other_roles:
        click.echo(
            f"note      user {name} has other roles as well, which were left alone: "
            f"{', '.join(made.other_roles)}"
        )


def _password(part: str, name: str) -> str:
    variable = _PASSWORD_VARIABLES[part]
    if password := os.environ.get(variable):
        return password
    if not sys.stdin.isatty():
        raise click.UsageError(f"Set {variable}: there is no terminal to ask for the password at.")
    asked: str = click.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True)
    return asked


def _uri(mongo: MongoDatabase, user: str) -> str:
    return f"mongodb://{quote_plus(user)}:PASSWORD@HOST/{mongo.name}?replicaSet=SET"
