"""What `accounting db plan`, `apply` and `verify` say, for people and for programs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from accounting.db.comparison import Change, ChangeKind
from accounting.db.indexing import guard_of
from accounting.db.obstacles import Obstacle, counted
from accounting.db.planning import CollectionPlan, SetupPlan
from accounting.db.reference import Reference, Verdict
from accounting.db.schema_changes import schema_changes

RULE_CHANGES_SHOWN_MAX: Final = 12
MOMENT: Final = "%Y-%m-%d %H:%M:%S UTC"
_COLOURS: Final = {"+": "green", "~": "yellow", "!": "red", "-": "red"}
# What a person should know of a change beside what it is.
_HOW: Final = {
    ChangeKind.CHANGE_INDEX: "changed where it is, in use all the time",
    ChangeKind.REPLACE_INDEX: "dropped and built again: what reads by it is slow or fails until "
    "it is there, so choose a quiet hour",
    ChangeKind.DROP_GUARD: "left behind by an interrupted apply; dropped",
    ChangeKind.OBSOLETE_INDEX: "made by an older version, not needed any more: left alone",
    ChangeKind.UNKNOWN_INDEX: "not made by accounting: left alone",
    ChangeKind.FINISH_RECORD: "an earlier apply was interrupted, or is still at work: it will be "
    "finished",
}


def say(line: str) -> None:
    """A line on stdout, its first sign or word in colour on a terminal that wants colours."""
    sign = line.lstrip()[:1]
    colour = None if "NO_COLOR" in os.environ else _COLOURS.get(sign)
    click.echo(click.style(line, fg=colour) if colour else line)


def show_plan(plan: SetupPlan) -> None:
    """A block for each collection that differs: what is there and what will be."""
    as_needed = 0
    for found in plan.collections:
        if found.changes or found.obstacles:
            for line in _block(found):
                say(line)
        else:
            as_needed += 1
    if as_needed:
        say(f"= {as_needed} collections are as this version needs them")


def plan_as_json(plan: SetupPlan) -> str:
    """The same for programs; `changesNeeded` 0 and `isBlocked` false mean nothing to do."""
    return json.dumps(
        {
            "database": plan.database,
            "changesNeeded": len(plan.needed),
            "isBlocked": bool(plan.blocking),
            "collections": [_collection_as_json(found) for found in plan.collections],
        },
        indent=2,
    )


def show_obstacles(obstacles: Sequence[Obstacle]) -> None:
    """What stands in the way, with the documents that do, on stderr."""
    for obstacle in obstacles:
        sign = "!" if obstacle.is_blocking else "?"
        click.echo(f"{sign} {obstacle.sentence}", err=True)
        for detail in obstacle.details:
            click.echo(f"    {detail}", err=True)


def show_announcement(plan: SetupPlan) -> None:
    """What `apply` is about to do, and which offending documents it was told to leave."""
    touched = sum(bool(found.needed) for found in plan.collections)
    click.echo(f"will do   {len(plan.needed)} changes to {touched} collections of accounting")
    show_obstacles([obstacle for found in plan.collections for obstacle in found.obstacles])


def show_done(changes: Sequence[Change]) -> None:
    """What was done, a line for each collection."""
    by_collection: dict[str, list[ChangeKind]] = {}
    for change in changes:
        by_collection.setdefault(change.collection, []).append(change.kind)
    for name, kinds in by_collection.items():
        counted = Counter(kinds)
        if counted.pop(ChangeKind.CREATE_COLLECTION, 0):
            built = counted.pop(ChangeKind.CREATE_INDEX, 0)
            indexes = f" and {built} index{'es' if built > 1 else ''}" if built else ""
            click.echo(f"made      {name:26}with its rules{indexes}")
        for kind, count in counted.items():
            click.echo(f"done      {name:26}{kind}{f' ({count})' if count > 1 else ''}")


def show_references(references: Sequence[Reference]) -> None:
    """The fingerprints that were recorded, for whoever wants to keep them elsewhere as well."""
    for found in references:
        if found.content is None:
            click.echo(f"absent    {found.name:20}this platform has no such collection")
            continue
        click.echo(
            f"recorded  {found.name:20}{found.content.documents:>12,} documents, sha256 "
            f"{found.content.sha256}{_without(found)}"
        )


def show_verdict(verdict: Verdict) -> None:
    """One of the platform's collections, held against what was recorded."""
    for word, sentence in _sentences(verdict):
        line = f"{word:10}{verdict.name:20}{sentence}"
        is_wrong = word == "DIFFERS" and "NO_COLOR" not in os.environ
        click.echo(click.style(line, fg="red") if is_wrong else line)


def _block(found: CollectionPlan) -> Iterator[str]:
    name, present = found.spec.name, found.present
    if present is None:
        yield f"+ {name:26}is not there; will be made with its rules"
    else:
        sign = "!" if any(obstacle.is_blocking for obstacle in found.obstacles) else "~"
        yield f"{sign} {name:26}{counted(found.documents, 'document')}, {_origin(found)}"
    for change in found.changes:
        yield from _change_lines(found, change)
    for obstacle in found.obstacles:
        sign = "!" if obstacle.is_blocking else "?"
        yield f"    {sign} {obstacle.sentence}"
        yield from (f"        {detail}" for detail in obstacle.details)


def _change_lines(found: CollectionPlan, change: Change) -> Iterator[str]:
    match change.kind:
        case ChangeKind.CREATE_COLLECTION:
            return
        case ChangeKind.CREATE_INDEX:
            yield f"    + index {change.name:40} {change.after}"
        case ChangeKind.SET_VALIDATOR if found.present is not None:
            yield "    ~ rules, by which the database refuses documents"
            lines = schema_changes(found.present.validator, found.spec.validator)
            if not lines:
                lines = ["~ they are there, but switched off"]
            yield from (f"        {line}" for line in lines[:RULE_CHANGES_SHOWN_MAX])
            if (more := len(lines) - RULE_CHANGES_SHOWN_MAX) > 0:
                yield f"        and {more} more"
        case ChangeKind.CHANGE_INDEX | ChangeKind.REPLACE_INDEX:
            yield f"    ~ index {change.name:40} {change.after}"
            yield f"        is now: {change.before}"
            yield f"        {_HOW[change.kind]}"
            if change.kind is ChangeKind.REPLACE_INDEX and change.index and guard_of(change.index):
                yield "        meanwhile another index refuses duplicates"
        case ChangeKind.ADOPT_COLLECTION:
            yield "    ~ taken into use as it is; rollback will not drop it"
        case ChangeKind.RECORD_COLLECTION:
            yield "    ~ has our rules, so we have made it: recorded as ours"
        case ChangeKind.FINISH_RECORD:
            yield f"    ~ {_HOW[change.kind]}"
        case ChangeKind.DROP_GUARD:
            yield f"    - index {change.name:40} {_HOW[change.kind]}"
        case _:
            yield f"    ? index {change.name:40} {change.before}: {_HOW[change.kind]}"


def _origin(found: CollectionPlan) -> str:
    recorded = found.recorded
    if recorded is None:
        return "the record of accounting itself" if found.is_record else "not recorded as ours"
    made = "made by" if recorded.created_by_us else "taken into use by"
    return f"{made} accounting {recorded.version} on {recorded.created_at:{MOMENT}}"


def _collection_as_json(found: CollectionPlan) -> dict[str, Any]:
    return {
        "name": found.spec.name,
        "exists": found.present is not None,
        "documents": found.documents,
        "createdByUs": found.recorded.created_by_us if found.recorded else None,
        "changes": [
            {
                "kind": change.kind.name,
                "name": change.name,
                "before": change.before,
                "after": change.after,
                "isNeeded": change.is_needed,
            }
            for change in found.changes
        ],
        "obstacles": [
            {
                "kind": obstacle.kind.name,
                "isBlocking": obstacle.is_blocking,
                "sentence": obstacle.sentence,
                "details": list(obstacle.details),
            }
            for obstacle in found.obstacles
        ],
    }


def _sentences(verdict: Verdict) -> Iterator[tuple[str, str]]:
    reference, content = verdict.reference, verdict.content
    if reference is None:
        yield "unknown", "was never recorded: `accounting db apply --record-platform` does it"
        return
    for line in verdict.definition_changes:
        yield "DIFFERS", line
    if verdict.has_come_since:
        yield "note", f"was made by the platform after {reference.recorded_at:{MOMENT}}"
    elif not verdict.exists and not verdict.definition_changes:
        yield "absent", "this platform has no such collection, and had none before"
    if content is None:
        return
    since = f"{reference.recorded_at:{MOMENT}}{_without(reference)}"
    if content.is_grown:
        new = counted(content.now - content.before, "new document")
        yield "ok", f"{new}; the {content.before:,} of {since} are unchanged"
    elif content.is_kept:
        yield "ok", f"{content.now:,} documents, byte for byte those of {since}"
    if content.touched_at_least:
        yield (
            "note",
            f"at least {content.touched_at_least:,} of the {content.before:,} documents of {since} "
            f"were changed or removed; there are {content.now:,} now",
        )
    if content.unclear:
        yield "note", f"whether {content.unclear:,} documents are unchanged cannot be told"


def _without(reference: Reference) -> str:
    return f" (without {', '.join(reference.without)}, never read)" if reference.without else ""
