from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from accounting.access.needs import PARTS, SERVICE, SETUP, Part
from accounting.access.review import Kind, RightsMissing, RightsTooWide, require_rights, review
from accounting.db.privileges import Privilege, Resource, Rights

Stated = Mapping[str, Any]

EVERY = {"db": "", "collection": ""}
WHOLE = {"db": "hosting", "collection": ""}
USERS = {"db": "hosting", "collection": "users"}
TRAIL = {"db": "hosting", "collection": "audit_logs"}


def rights(
    *more: tuple[Stated, set[str]],
    part: Part = SERVICE,
    without: tuple[str, str] | None = None,
    is_enforced: bool = True,
) -> Rights:
    """What the part needs in the database `hosting`, and more, or without one action."""
    held = [
        Privilege(
            Resource.of({"db": "hosting", "collection": name}),
            frozenset(action for action in need.actions if (name, action) != without),
        )
        for name, need in part.needs.items()
    ]
    held += [Privilege(Resource.of(stated), frozenset(actions)) for stated, actions in more]
    return Rights("me@hosting", (), tuple(held), is_enforced)


def found(of: Rights, part: Part = SERVICE) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.sentence) for finding in review(of, part, "hosting")]


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_exactly_what_is_needed_leaves_nothing_to_say(part: Part) -> None:
    exact = rights(part=part)

    assert review(exact, part, "hosting") == []
    require_rights(exact, part, "hosting", is_least_required=True)


@pytest.mark.parametrize(
    ("name", "action"),
    [(name, action) for name, need in SERVICE.needs.items() for action in sorted(need.actions)],
)
def test_each_missing_right_is_named_with_what_it_is_for(name: str, action: str) -> None:
    lacking = rights(without=(name, action))

    [(kind, sentence)] = found(lacking)
    assert kind is Kind.MISSING
    assert sentence.startswith(f"{action} on {name or 'the database hosting'} (")
    assert SERVICE.needs[name].purpose in sentence
    with pytest.raises(RightsMissing, match=f"me@hosting lacks .*{action} on"):
        require_rights(lacking, SERVICE, "hosting", is_least_required=False)


@pytest.mark.parametrize(
    ("stated", "covered", "not_covered"),
    [
        (USERS, [("hosting", "users")], [("hosting", "miners"), ("hosting", ""), ("x", "users")]),
        (
            WHOLE,
            [("hosting", "users"), ("hosting", "")],
            [("x", "users"), ("hosting", "system.js")],
        ),
        (EVERY, [("hosting", "users"), ("x", "y"), ("x", "")], [("admin", "system.users")]),
        ({"db": "", "collection": "users"}, [("x", "users")], [("x", "y"), ("x", "")]),
        ({"anyResource": True}, [("x", "y"), ("admin", "system.users"), ("x", "")], []),
        ({"cluster": True}, [], [("hosting", "users"), ("hosting", "")]),
        ({"db": "hosting", "system_buckets": "users"}, [], [("hosting", "users")]),
        (
            {"db": "hosting", "collection": "system.js"},
            [("hosting", "system.js")],
            [("hosting", "")],
        ),
    ],
)
def test_a_resource_covers_what_the_server_lets_it_cover(
    stated: Stated, covered: list[tuple[str, str]], not_covered: list[tuple[str, str]]
) -> None:
    resource = Resource.of(stated)

    assert [place for place in covered if not resource.covers(*place)] == []
    assert [place for place in not_covered if resource.covers(*place)] == []


@pytest.mark.parametrize("stated", [USERS, WHOLE, EVERY, {"db": "", "collection": "users"}])
@pytest.mark.parametrize(
    "action",
    ["insert", "update", "remove", "createIndex", "collMod", "dropCollection", "of a later server"],
)
def test_whatever_writes_to_the_platform_is_dangerous(stated: Stated, action: str) -> None:
    wide = rights((stated, {action}))

    kind, sentence = found(wide)[0]
    assert kind is Kind.DANGEROUS
    assert sentence.startswith("could write to the platform's users")
    assert action in sentence
    with pytest.raises(RightsTooWide, match="me@hosting could write to the platform's users"):
        require_rights(wide, SERVICE, "hosting", is_least_required=True)
    require_rights(wide, SERVICE, "hosting", is_least_required=False)


@pytest.mark.parametrize(
    "action", ["update", "remove", "createIndex", "collMod", "convertToCapped"]
)
def test_whatever_alters_the_trail_is_dangerous(action: str) -> None:
    wide = rights((TRAIL, {action}))

    assert (Kind.DANGEROUS, f"could alter audit_logs: {action}") in found(wide)
    with pytest.raises(RightsTooWide, match="could alter audit_logs"):
        require_rights(wide, SERVICE, "hosting", is_least_required=True)


@pytest.mark.parametrize(
    ("stated", "action"),
    [
        (WHOLE, "grantRole"),
        (WHOLE, "changePassword"),
        ({"db": "admin", "collection": ""}, "grantRole"),
        (EVERY, "grantRole"),
        ({"db": "admin", "collection": "system.users"}, "update"),
    ],
)
def test_whoever_can_give_himself_rights_is_dangerous(stated: Stated, action: str) -> None:
    kinds = dict(found(rights((stated, {action}))))

    assert kinds[Kind.DANGEROUS] == f"could give itself any right: {action}"


@pytest.mark.parametrize(
    ("stated", "actions", "said"),
    [
        (USERS, {"collStats"}, "collStats on users of hosting"),
        (WHOLE, {"find"}, "find on every collection of hosting"),
        (EVERY, {"find"}, "find on every collection of every database"),
        ({"db": "other", "collection": ""}, {"insert"}, "insert on every collection of other"),
        (
            {"db": "other", "collection": ""},
            {"grantRole"},
            "grantRole on every collection of other",
        ),
        ({"cluster": True}, {"shutdown"}, "shutdown on the server itself"),
        ({"anyResource": True}, {"listIndexes"}, "listIndexes on everything on the server"),
        (
            {"db": "hosting", "collection": "invoices"},
            {"collMod"},
            "collMod on invoices of hosting",
        ),
    ],
)
def test_what_is_beyond_need_and_harms_nobody_is_only_told(
    stated: Stated, actions: set[str], said: str
) -> None:
    wide = rights((stated, actions))

    assert found(wide) == [(Kind.SURPLUS, said)]
    require_rights(wide, SERVICE, "hosting", is_least_required=True)


def test_a_superuser_is_one_sentence() -> None:
    superuser = Rights(
        "root@admin", (), (Privilege(Resource.of({"anyResource": True}), frozenset({"anyAction"})),)
    )

    assert found(superuser)[0] == (
        Kind.DANGEROUS,
        "could do anything on this server: it is a superuser",
    )
    assert Kind.MISSING not in dict(found(superuser))


def test_a_server_that_enforces_nothing_lacks_nothing_and_protects_nothing() -> None:
    nobody = Rights("", (), (), is_enforced=False)

    assert [kind for kind, _ in found(nobody)] == [Kind.DANGEROUS]
    require_rights(nobody, SERVICE, "hosting", is_least_required=False)
    with pytest.raises(RightsTooWide, match="holds nobody to his rights"):
        require_rights(nobody, SERVICE, "hosting", is_least_required=True)


def test_the_setup_may_drop_the_trail_but_not_the_platform() -> None:
    assert found(rights(part=SETUP), SETUP) == []
    dropping = rights((USERS, {"dropCollection"}), part=SETUP)
    assert found(dropping, SETUP)[0][0] is Kind.DANGEROUS
