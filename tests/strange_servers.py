"""Servers that an address can lead to by mistake: an old MongoDB, a mute one, another protocol."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import bson

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_DOCUMENT_SECTION = b"\x00"
_NO_FLAGS = struct.pack("<i", 0)

Answer = Callable[[socket.socket], None]


@contextmanager
def listening(answer: Answer) -> Iterator[int]:
    """The port of a server on the loopback interface that answers each connection in this way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, answer), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        # Closing alone would not wake the thread.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def _accept(listener: socket.socket, answer: Answer) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, answer), daemon=True).start()


def _serve(connection: socket.socket, answer: Answer) -> None:
    with connection, suppress(OSError):
        answer(connection)


def mute(connection: socket.socket) -> None:
    """Takes what is sent and never says a word."""
    while connection.recv(4096):
        pass


def web_server(connection: socket.socket) -> None:
    """Speaks HTTP."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def old_mongod(version: str, wire_version: int) -> Answer:
    """As much of a primary of that version as a driver wants to see, in MongoDB's protocol."""
    numbers = [int(part) for part in version.split(".")]
    build = {"version": version, "versionArray": [*numbers, 0], "ok": 1.0}
    hello = {
        "ismaster": True,
        "isWritablePrimary": True,
        "setName": "rs0",
        "setVersion": 1,
        "minWireVersion": 0,
        "maxWireVersion": wire_version,
        "maxBsonObjectSize": 16 * 1024 * 1024,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "logicalSessionTimeoutMinutes": 30,
        "ok": 1.0,
    }

    def answer(connection: socket.socket) -> None:
        host, port = connection.getsockname()
        itself = {"hosts": [f"{host}:{port}"], "me": f"{host}:{port}"}
        while message := _receive(connection):
            request_id, code, command = message
            reply = build if "buildInfo" in command else {**hello, **itself}
            connection.sendall(_reply(request_id, code, reply))

    return answer


def _receive(connection: socket.socket) -> tuple[int, int, dict[str, Any]] | None:
    header = connection.recv(_HEADER.size, socket.MSG_WAITALL)
    if len(header) < _HEADER.size:
        return None
    length, request_id, _, code = _HEADER.unpack(header)
    body = connection.recv(length - _HEADER.size, socket.MSG_WAITALL)
    # The old form: flags, the name of a collection, two numbers, a document.
    start = body.index(b"\x00", 4) + 9 if code == _OP_QUERY else len(_NO_FLAGS + _DOCUMENT_SECTION)
    size = struct.unpack_from("<i", body, start)[0]
    return request_id, code, bson.decode(body[start : start + size])


def _reply(request_id: int, code: int, document: dict[str, Any]) -> bytes:
    encoded = bson.encode(document)
    if code == _OP_QUERY:
        # Flags, cursor, where it starts, how many documents.
        body, code = struct.pack("<iqii", 0, 0, 0, 1) + encoded, _OP_REPLY
    else:
        body = _NO_FLAGS + _DOCUMENT_SECTION + encoded
    return _HEADER.pack(_HEADER.size + len(body), 0, request_id, code) + body
