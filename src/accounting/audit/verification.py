"""Reading the whole trail again, and naming every entry that is not the one recorded (section 7).

Two passes over the entries, each a plain index scan with one batch in memory: by chain, against
the hashes and the heads; by time, against the seals.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from accounting.audit.chains import (
    ChainEnd,
    ChainWalk,
    chain_end,
    chain_of,
    compare_with_head,
)
from accounting.audit.documents import AuditHead, AuditLog
from accounting.audit.faults import Found, is_readable_head
from accounting.audit.findings import Finding, FindingKind, TrailReport
from accounting.audit.seal_check import check_seals
from accounting.db.client import MongoDatabase
from accounting.db.found import find_at_one_moment, read_as_found

OnProgress = Callable[[int, int], None]

_CHAIN: Final = ("entityType", "entityId")


async def verify_trail(
    mongo: MongoDatabase, *, on_progress: OnProgress = lambda done, total: None
) -> TrailReport:
    """Check every entry, chain and seal; safe while the service is writing. Spec: section 7.

    `on_progress` gets the entries read so far and how many reads there will be, about.
    """
    report = TrailReport()
    total = await mongo[AuditLog.Settings.name].estimated_document_count()
    await _check_chains(mongo, report, lambda done: on_progress(done, 2 * total))
    await check_seals(mongo, report, lambda done: on_progress(total + done, 2 * total))
    on_progress(2 * total, 2 * total)
    return report


async def _check_chains(
    mongo: MongoDatabase, report: TrailReport, on_read: Callable[[int], None]
) -> None:
    walk = ChainWalk(report)
    heads = _HeadWalk(mongo, report)
    entries = read_as_found(mongo, AuditLog.Settings.name, {}, sort=(*_CHAIN, "seq"))
    async for batch in entries:
        for entry in batch:
            if ended := walk.take(entry):
                await heads.pass_chain(ended)
        on_read(report.entries)
    if ended := walk.finish():
        await heads.pass_chain(ended)
    await heads.finish()


class _HeadWalk:
    """Goes through the heads beside the chains; both come in the same order."""

    def __init__(self, mongo: MongoDatabase, report: TrailReport) -> None:
        self._mongo = mongo
        self._report = report
        self._heads = self._readable_heads()
        self._next: Found | None = None
        self._is_started = False

    async def pass_chain(self, end: ChainEnd) -> None:
        """Compare a chain with its head, and report the heads before it whose chains are gone."""
        if end.key is None:
            return  # an edited entry, reported as one; no chain has such a key
        if not self._is_started:
            await self._advance()
        while self._next and _key(self._next) < end.key:
            await self._settle(None, self._next)
            await self._advance()
        if self._next and _key(self._next) == end.key:
            await self._settle(end, self._next)
            await self._advance()
        else:
            await self._settle(end, None)

    async def finish(self) -> None:
        """Report the heads after the last chain."""
        if not self._is_started:
            await self._advance()
        while self._next:
            await self._settle(None, self._next)
            await self._advance()

    async def _settle(self, end: ChainEnd | None, head: Found | None) -> None:
        if compare_with_head(end, head) is None:
            return
        # The two were read at different times, and the service may be writing: look again at both
        # at one moment.
        entity_type, entity_id = end.key if end and end.key else _key(head or {})
        chain = {"entityType": entity_type, "entityId": entity_id}
        end, head = await _chain_end_and_head(self._mongo, chain)
        if finding := compare_with_head(end, head):
            self._report.add(finding)

    async def _advance(self) -> None:
        self._is_started = True
        self._next = await anext(self._heads, None)

    async def _readable_heads(self) -> AsyncIterator[Found]:
        async for batch in read_as_found(self._mongo, AuditHead.Settings.name, {}, sort=_CHAIN):
            for head in batch:
                if is_readable_head(head):
                    yield head
                else:
                    self._report.add(_unreadable(head))


async def _chain_end_and_head(
    mongo: MongoDatabase, chain: dict[str, object]
) -> tuple[ChainEnd | None, Found | None]:
    last, head = await find_at_one_moment(
        mongo,
        # A comparison with a number leaves out what is none.
        (AuditLog.Settings.name, {**chain, "seq": {"$gte": 1}}, "-seq"),
        (AuditHead.Settings.name, chain, "_id"),
    )
    return chain_end(last) if last else None, head if head and is_readable_head(head) else None


def _key(head: Found) -> tuple[str, Any]:
    return head["entityType"], head["entityId"]


def _unreadable(head: Found) -> Finding:
    entity_type, entity_id = chain_of(head)
    return Finding(
        FindingKind.HEAD_EDITED,
        f"The record of where the chain of {entity_type} {entity_id} ends was edited.",
        entity_type,
        entity_id,
    )
