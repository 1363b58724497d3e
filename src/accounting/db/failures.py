"""What the driver says went wrong, as one sentence for an operator."""

from __future__ import annotations

import re
from typing import Final

from pymongo.errors import ConfigurationError, ConnectionFailure, PyMongoError

from accounting.errors import AccountingError, Misconfigured, Unavailable

SERVER_VERSION_MIN: Final = (5, 0)
UNAUTHORIZED: Final = 13
AUTHENTICATION_FAILED: Final = 18

NO_PRIMARY: Final = (
    "The replica set has no primary: it was not initiated (run rs.initiate()), or too few of its "
    "members are up."
)

_OLDEST: Final = ".".join(map(str, SERVER_VERSION_MIN))
_DENIED = re.compile(r'not authorized on (\S+) to execute command \{ (\w+): (?:"([^"]*)")?')
_NO_MEMBER = re.compile(r'No replica set members available for replica set name "([^"]*)"')
# The driver adds its settings and a dump of its whole topology.
_TAILS: Final = (" (configured timeouts", ", Timeout:", ", full error")


class NotAReplicaSet(Misconfigured):
    """The server runs alone; transactions need a replica set, of one node at least."""


class ServerTooOld(Misconfigured):
    """The server is older than the oldest one this service was built for."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is too old; MongoDB {_OLDEST} or newer is needed.")


class CredentialsMissing(Misconfigured):
    """The server wants to know who is asking, and the address does not say it."""

    def __init__(self) -> None:
        super().__init__(
            "MongoDB wants a user and a password, and ACCOUNTING_MONGODB_URI has none: "
            "mongodb://USER:PASSWORD@HOST/DATABASE."
        )


class CredentialsWrong(Misconfigured):
    """The server knows no such user, or another password."""

    def __init__(self) -> None:
        super().__init__(
            "MongoDB does not take the user and password in ACCOUNTING_MONGODB_URI; check both, "
            "and that `authSource` names the database in which the user was made."
        )


class RightMissing(Misconfigured):
    """The server refuses a command to this user."""

    def __init__(self, refused: str) -> None:
        super().__init__(
            f"The MongoDB user in ACCOUNTING_MONGODB_URI may not {refused}; "
            "`accounting db check` lists what the service lacks, with --for setup what the setup "
            "lacks; a restore needs an administrator."
        )


def explain(error: PyMongoError) -> AccountingError:
    """The same failure as one of ours: Unavailable, or a Misconfigured that says what to correct.

    By the driver's words where it has no code: each of them is tested on the real thing.
    """
    text, code = _first_line(error), getattr(error, "code", None)
    if code == AUTHENTICATION_FAILED or text.startswith("Authentication failed"):
        return CredentialsWrong()
    if code == UNAUTHORIZED:
        return _denied(text)
    match error:
        case ConfigurationError() if "wire version" in text:
            return ServerTooOld("The server at this address")
        case ConfigurationError():
            return Misconfigured(f"ACCOUNTING_MONGODB_URI: {text}.")
        case ConnectionFailure():
            return _silent(text)
    return Misconfigured(f"MongoDB: {type(error).__name__}: {text}.")


def _denied(text: str) -> Misconfigured:
    if "requires authentication" in text:
        return CredentialsMissing()
    if denied := _DENIED.search(text):
        database, command, collection = denied.groups()
        return RightMissing(f"run {command} on {database}{f'.{collection}' if collection else ''}")
    return RightMissing(f"do this: {text}")


def _silent(text: str) -> AccountingError:
    if no_member := _NO_MEMBER.search(text):
        name = no_member[1]
        return NotAReplicaSet(
            f'The server at this address is no member of the replica set "{name}": it is a '
            f"standalone server, which has no transactions (start mongod with --replSet {name} "
            "and run rs.initiate()), or its set has another name."
        )
    if 'match selector "Primary()"' in text:
        return Unavailable(NO_PRIMARY)
    if "Got response id" in text:
        return Unavailable("What answers at the address in ACCOUNTING_MONGODB_URI is no MongoDB.")
    if text == "No servers found yet":
        text = "none of the hosts in ACCOUNTING_MONGODB_URI said anything in time"
    return Unavailable(f"MongoDB does not answer: {text}.")


def _first_line(error: Exception) -> str:
    text = (str(error).splitlines() or ["no details"])[0]
    for tail in _TAILS:
        text = text.split(tail)[0]
    return text.rstrip(".")
