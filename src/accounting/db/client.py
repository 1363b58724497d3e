"""The MongoDB client: connection, codec options, and the check that the server can do its part."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from bson import Decimal128
from bson.codec_options import CodecOptions, TypeCodec, TypeRegistry
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from accounting.errors import Misconfigured, Unavailable

Client: TypeAlias = AsyncIOMotorClient[dict[str, Any]]
MongoDatabase: TypeAlias = AsyncIOMotorDatabase[dict[str, Any]]

# What the edges may catch without naming the driver.
DriverError = PyMongoError
ConnectionLost = ConnectionFailure
TimeLimitReached = ExecutionTimeout

SERVER_VERSION_MIN: Final = (5, 0)
# Used where the address does not say otherwise.
CLIENT_DEFAULTS: Final[Mapping[str, Any]] = {
    "appname": "accounting",
    "maxPoolSize": 100,
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
}


class NotAReplicaSet(Misconfigured):
    """The server runs alone; transactions need a replica set, of one node at least."""


class ServerTooOld(Misconfigured):
    """The server is older than the oldest one this service was built for."""


class _DecimalCodec(TypeCodec):
    """Decimal in Python, Decimal128 in MongoDB, both ways and everywhere."""

    python_type = Decimal
    bson_type = Decimal128

    def transform_python(self, value: Decimal) -> Decimal128:
        return Decimal128(value)

    def transform_bson(self, value: Decimal128) -> Decimal:
        return value.to_decimal()


CODEC_OPTIONS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True, type_registry=TypeRegistry([_DecimalCodec()])
)


def open_client(uri: str) -> Client:
    """Make the client; it connects on first use, in the event loop that runs then.

    Raises Misconfigured for an address that cannot be one.
    """
    try:
        return AsyncIOMotorClient(uri, tz_aware=True, **_defaults_beside(uri))
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise Misconfigured(f"ACCOUNTING_MONGODB_URI is not a MongoDB address: {error}.") from None


def open_database(client: Client, name: str) -> MongoDatabase:
    """The database with our codec options; a write counts once a majority has it."""
    try:
        return client.get_database(
            name,
            codec_options=CODEC_OPTIONS,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
        )
    except PyMongoError as error:
        raise Misconfigured(f"ACCOUNTING_MONGODB_DATABASE {name!r}: {error}.") from None


async def check_server(database: MongoDatabase) -> str:
    """Make sure that the server can keep our promises; returns a line that says what it is.

    Raises Unavailable when nothing answers, NotAReplicaSet, ServerTooOld, or Misconfigured when the
    server refuses our user.
    """
    try:
        hello = await database.client.admin.command("hello")
        build = await database.client.admin.command("buildInfo")
        await database.command("listCollections", nameOnly=True)
    except ConnectionFailure as error:
        raise Unavailable(f"MongoDB does not answer: {_first_line(error)}.") from None
    except OperationFailure as error:
        raise Misconfigured(f"MongoDB refuses this user: {_first_line(error)}.") from None
    if "setName" not in hello:
        raise NotAReplicaSet(
            "MongoDB runs as a standalone server, but accounting needs transactions and so a "
            "replica set; one node is enough: start mongod with --replSet and run rs.initiate()."
        )
    version = tuple(build["versionArray"][:2])
    if version < SERVER_VERSION_MIN:
        oldest = ".".join(map(str, SERVER_VERSION_MIN))
        raise ServerTooOld(f"MongoDB {build['version']} is too old; {oldest} or newer is needed.")
    return f"MongoDB {build['version']}, replica set {hello['setName']}"


async def is_primary_reachable(database: MongoDatabase) -> bool:
    """Whether a primary answers now, so that writes can succeed."""
    try:
        hello = await database.client.admin.command("hello")
    except PyMongoError:
        return False
    return bool(hello.get("isWritablePrimary"))


def _defaults_beside(uri: str) -> dict[str, Any]:
    # The driver would prefer our arguments to the operator's address.
    said = {name.lower() for name, _ in parse_qsl(urlsplit(uri).query)}
    return {name: value for name, value in CLIENT_DEFAULTS.items() if name.lower() not in said}


def _first_line(error: Exception) -> str:
    # The driver adds its settings and a dump of its whole topology.
    text = str(error).splitlines()[0]
    for tail in (" (configured timeouts", ", Timeout:", ", full error"):
        text = text.split(tail)[0]
    return text.rstrip(".")
