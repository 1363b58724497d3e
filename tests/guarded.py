"""A MongoDB with access control, and the service's users on it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

from pymongo import MongoClient

from accounting.dev.mongod import start_mongod
from accounting.dev.processes import Server, free_port
from service import clean_environment, run_command

ADMINISTRATOR = "administrator"
PASSWORD = "administrators-own"
SERVICE_USER = "accounting"
SETUP_USER = "accounting_setup"
SERVICE_PASSWORD = "a password of the service: with / and @"
SETUP_PASSWORD = "another one"
NAMED_USERS = ("--service-user", SERVICE_USER, "--setup-user", SETUP_USER)


@dataclass(frozen=True)
class WithRoles:
    """The two users of a database, and what the command said when it made them."""

    service_uri: str
    setup_uri: str
    output: str


@dataclass(frozen=True)
class GuardedMongod:
    """A replica set that holds everybody to his rights; `uri` is its administrator's."""

    server: Server

    @property
    def uri(self) -> str:
        return self.server.uri

    def uri_of(self, name: str, password: str, *, source: str) -> str:
        """The address of another user, who was made in the database `source`."""
        address = urlsplit(self.uri).netloc.rpartition("@")[2]
        login = f"{quote_plus(name)}:{quote_plus(password)}"
        return f"mongodb://{login}@{address}/?replicaSet=rs0&authSource={source}"

    @property
    def uri_of_nobody(self) -> str:
        """The address without a user."""
        return f"mongodb://{urlsplit(self.uri).netloc.rpartition('@')[2]}/?replicaSet=rs0"

    def with_roles(self, database: str) -> WithRoles:
        """Make roles and both users with `accounting db roles --create`, as an administrator."""
        made = run_command(
            ("db", "roles", "--create", *NAMED_USERS),
            clean_environment(
                MONGODB_URI=self.uri,
                MONGODB_DATABASE=database,
                SERVICE_USER_PASSWORD=SERVICE_PASSWORD,
                SETUP_USER_PASSWORD=SETUP_PASSWORD,
            ),
        )
        assert made.returncode == 0, made.stderr
        return WithRoles(
            service_uri=self.uri_of(SERVICE_USER, SERVICE_PASSWORD, source=database),
            setup_uri=self.uri_of(SETUP_USER, SETUP_PASSWORD, source=database),
            output=made.stdout,
        )

    def make_role(self, name: str, privileges: list[dict[str, Any]], database: str) -> str:
        """A role with these privileges, made anew; returns its name."""
        with MongoClient[dict[str, Any]](self.uri) as client:
            roles = client[database]
            if roles.command("rolesInfo", name)["roles"]:
                roles.command("dropRole", name)
            roles.command("createRole", name, privileges=privileges, roles=[])
        return name

    def make_user(self, name: str, *roles: object, database: str) -> str:
        """A user with these roles, made anew; returns his address."""
        with MongoClient[dict[str, Any]](self.uri) as client:
            users = client[database]
            if users.command("usersInfo", name)["users"]:
                users.command("dropUser", name)
            users.command("createUser", name, pwd="a password", roles=list(roles))
        return self.uri_of(name, "a password", source=database)


@contextmanager
def guarded_mongod(data_dir: Path) -> Iterator[GuardedMongod]:
    """Make the administrator on a server that is still open, and start it again with its guard."""
    port = free_port()
    with (
        start_mongod(data_dir, port=port) as server,
        MongoClient[dict[str, Any]](server.uri) as client,
    ):
        client["admin"].command("createUser", ADMINISTRATOR, pwd=PASSWORD, roles=["root"])
    key_file = data_dir / "key"
    key_file.write_text(base64.b64encode(secrets.token_bytes(96)).decode())
    key_file.chmod(0o600)
    with start_mongod(
        data_dir,
        port=port,
        login=f"{ADMINISTRATOR}:{PASSWORD}",
        extra_args=["--keyFile", str(key_file)],
    ) as server:
        yield GuardedMongod(server)
