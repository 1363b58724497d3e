"""The MongoDB client: connection, codec options, and the check that the server can do its part."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from decimal import Decimal
from struct import Struct
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

from accounting.db.failures import (
    NO_PRIMARY,
    SERVER_VERSION_MIN,
    UNAUTHORIZED,
    CredentialsMissing,
    NotAReplicaSet,
    ServerTooOld,
    explain,
)
from accounting.errors import Misconfigured, Unavailable

Client: TypeAlias = AsyncIOMotorClient[dict[str, Any]]
MongoDatabase: TypeAlias = AsyncIOMotorDatabase[dict[str, Any]]

# What the edges may catch without naming the driver.
DriverError = PyMongoError
ConnectionLost = ConnectionFailure
TimeLimitReached = ExecutionTimeout

# Used where the address does not say otherwise.
CLIENT_DEFAULTS: Final[Mapping[str, Any]] = {
    "appname": "accounting",
    "maxPoolSize": 100,
    "serverSelectionTimeoutMS": 5_000,
    # Shorter than the wait for a server: what is wrong with it shall be known when that wait ends.
    "connectTimeoutMS": 3_500,
}


# A Decimal128 as the server sends it: the coefficient's low half, and above it sign, exponent and
# the rest of the coefficient.
_HALVES: Final = Struct("<QQ")
_CENT: Final = Decimal("0.01")
_, _WHOLE_CENTS = _HALVES.unpack(Decimal128(_CENT).bid)


class _DecimalCodec(TypeCodec):
    """Decimal in Python, Decimal128 in MongoDB, both ways and everywhere."""

    python_type = Decimal
    bson_type = Decimal128

    def transform_python(self, value: Decimal) -> Decimal128:
        return Decimal128(value)

    def transform_bson(self, value: Decimal128) -> Decimal:
        # Nearly every one is an amount of money, not below zero and in cents. The driver's own way
        # takes fourteen times as long, which was half of the time of reading an invoice.
        low, high = _HALVES.unpack(value.bid)
        return low * _CENT if high == _WHOLE_CENTS else value.to_decimal()


CODEC_OPTIONS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True, type_registry=TypeRegistry([_DecimalCodec()])
)


def open_client(uri: str) -> Client:
    """Make the client; it connects on first use, in the event loop that runs then.

    Raises Misconfigured for an address that cannot be one.
    """
    try:
        with warnings.catch_warnings():
            # The driver would ignore an option that it does not know, or whose value is none.
            warnings.filterwarnings("error", category=UserWarning, module=r"pymongo\.")
            return AsyncIOMotorClient(uri, tz_aware=True, **_defaults_beside(uri))
    except (InvalidURI, ConfigurationError, ValueError, UserWarning) as error:
        why = str(error).rstrip(".")
        raise Misconfigured(f"ACCOUNTING_MONGODB_URI is not a MongoDB address: {why}.") from None


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

    Raises Unavailable when nothing answers, NotAReplicaSet, ServerTooOld, CredentialsMissing,
    CredentialsWrong, or Misconfigured for an address that leads nowhere.
    """
    try:
        hello = await database.client.admin.command("hello")
        build = await database.client.admin.command("buildInfo")
        if hello.get("isreplicaset"):  # as a member says that has no set yet
            raise Unavailable(NO_PRIMARY)
        if "setName" not in hello:
            raise NotAReplicaSet(
                "MongoDB runs as a standalone server, but accounting needs transactions and so a "
                "replica set; one node is enough: start mongod with --replSet and run "
                "rs.initiate()."
            )
        if tuple(build["versionArray"][:2]) < SERVER_VERSION_MIN:
            raise ServerTooOld(f"MongoDB {build['version']}")
        await _check_known(database)
    except PyMongoError as error:
        raise explain(error) from None
    return f"MongoDB {build['version']}, replica set {hello['setName']}"


async def _check_known(database: MongoDatabase) -> None:
    """Raises CredentialsMissing when the server asks who we are, and the address does not say.

    What we may do once it knows us is another question: see `privileges`.
    """
    status = await database.client.admin.command("connectionStatus")
    if status["authInfo"]["authenticatedUsers"]:
        return
    try:
        await database.command("listCollections", nameOnly=True)
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        raise CredentialsMissing from None


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
