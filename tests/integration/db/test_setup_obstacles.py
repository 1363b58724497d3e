"""What stops `apply` before it changes anything, and what an operator may decide about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from accounting.db.client import MongoDatabase, open_client, open_database
from accounting.db.comparison import ChangeKind
from accounting.db.document import index
from accounting.db.manifest import META, read_manifest
from accounting.db.obstacles import ObstacleKind, SetupObstructed
from accounting.db.planning import Choices, plan_setup
from accounting.db.schema import CollectionSpec
from accounting.db.setup import apply_changes, is_set_up
from accounting.dev.processes import Server
from setups import NEW_SPECS, PAGES, SHEETS, everything_of, set_up_old

DATABASE = "setup_obstacles_test"
UNIQUE = CollectionSpec(SHEETS, {}, (index("number", "kind", unique=True, name="unique"),))


@pytest.fixture
async def empty(mongod: Server) -> AsyncIterator[MongoDatabase]:
    client = open_client(mongod.uri)
    await client.drop_database(DATABASE)
    yield open_database(client, DATABASE)
    await client.drop_database(DATABASE)
    client.close()


async def refused(mongo: MongoDatabase, *specs: CollectionSpec) -> SetupObstructed:
    """Try to apply; nothing of the database may be different after it."""
    names = sorted(await mongo.list_collection_names())
    with pytest.raises(SetupObstructed) as error:
        await apply_changes(mongo, specs)
    assert sorted(await mongo.list_collection_names()) == names
    assert "\n" not in error.value.sentence
    return error.value


async def test_a_collection_that_was_there_is_no_business_of_ours(empty: MongoDatabase) -> None:
    await empty[PAGES].insert_many([{"theirs": 1}, {"theirs": 2}])

    error = await refused(empty, *NEW_SPECS)

    assert error.code == "setup_obstructed"
    assert [found.kind for found in error.obstacles] == [ObstacleKind.NAME_TAKEN]
    assert "pages is there with 2 documents, and accounting has not made it" in error.sentence
    assert "--adopt pages" in error.sentence


async def test_an_adopted_collection_is_used_and_never_ours_to_drop(empty: MongoDatabase) -> None:
    await empty[PAGES].insert_one({"sheet": 1})
    await empty[PAGES].create_index("theirs", name="theirs")

    await apply_changes(empty, NEW_SPECS, choices=Choices(adopted=frozenset({PAGES})))

    manifest = await read_manifest(empty)
    recorded = manifest.collection(PAGES)
    assert await is_set_up(empty, NEW_SPECS)
    assert manifest.made_by_us == (SHEETS,)
    assert manifest.indexes_of(PAGES) == ("sheet_1",)
    assert recorded is not None
    assert recorded.is_adopted
    assert '"theirs"' in (recorded.before or "")
    # Known from now on: nobody is asked again.
    assert (await plan_setup(empty, NEW_SPECS)).blocking == []


async def test_an_empty_bare_collection_is_taken_but_not_ours_to_drop(empty: MongoDatabase) -> None:
    await empty.create_collection(PAGES)

    await apply_changes(empty, NEW_SPECS)

    assert (await read_manifest(empty)).made_by_us == (SHEETS,)


async def test_an_empty_collection_that_somebody_prepared_is_not_taken(
    empty: MongoDatabase,
) -> None:
    await empty[PAGES].create_index("theirs")

    assert (await refused(empty, *NEW_SPECS)).obstacles[0].kind is ObstacleKind.NAME_TAKEN


async def test_one_with_our_rules_and_no_record_was_made_by_us(empty: MongoDatabase) -> None:
    await apply_changes(empty, NEW_SPECS)
    await empty.drop_collection(META)

    planned = (await plan_setup(empty, NEW_SPECS)).needed
    await apply_changes(empty, NEW_SPECS)

    kinds = [change.kind for change in planned]
    assert kinds == [ChangeKind.CREATE_COLLECTION, *[ChangeKind.RECORD_COLLECTION] * 2]
    assert set((await read_manifest(empty)).made_by_us) == {SHEETS, PAGES}


async def test_one_that_took_the_name_of_ours_is_not_ours(empty: MongoDatabase) -> None:
    await apply_changes(empty, NEW_SPECS)
    await empty.drop_collection(PAGES)
    await empty[PAGES].insert_one({"theirs": True})

    assert (await read_manifest(empty)).made_by_us == (SHEETS,)
    assert (await refused(empty, *NEW_SPECS)).obstacles[0].kind is ObstacleKind.NAME_TAKEN


async def test_ours_without_its_rules_is_still_ours(empty: MongoDatabase) -> None:
    await apply_changes(empty, NEW_SPECS)
    await empty.command("collMod", PAGES, validator={})

    assert (await read_manifest(empty)).made_by_us == (SHEETS, PAGES)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda mongo: mongo.create_collection(PAGES, viewOn=SHEETS), "view"),
        (
            lambda mongo: mongo.create_collection(PAGES, timeseries={"timeField": "at"}),
            "timeseries",
        ),
        (lambda mongo: mongo.create_collection(PAGES, capped=True, size=9), "capped collection"),
    ],
)
async def test_only_an_ordinary_collection_will_do(
    empty: MongoDatabase, make: Callable[[MongoDatabase], Awaitable[object]], kind: str
) -> None:
    await make(empty)

    assert f"pages is a {kind}" in (await refused(empty, *NEW_SPECS)).sentence


async def test_a_stranger_under_the_name_of_the_record_stops_everything(
    empty: MongoDatabase,
) -> None:
    await empty[META].insert_one({"kind": "setup"})

    error = await refused(empty, *NEW_SPECS)

    assert error.sentence.startswith("Nothing was changed. accounting_meta is there and is not")
    assert not (await read_manifest(empty)).exists


async def test_duplicates_are_named_before_anything_is_touched(empty: MongoDatabase) -> None:
    await set_up_old(empty)
    before = await everything_of(empty)
    await empty[SHEETS].insert_many([{"_id": -1, "number": 5, "kind": "early", "code": 7}])

    error = await refused(empty, *NEW_SPECS)

    [number, code] = error.obstacles
    assert number.kind is code.kind is ObstacleKind.DUPLICATES
    assert set(number.details[0].split(", ids ")[1].split(", ")) == {"-1", "5"}
    assert set(code.details[0].split(", ids ")[1].split(", ")) == {"-1", "7"}
    await empty[SHEETS].delete_one({"_id": -1})
    assert await everything_of(empty) == before


async def test_the_first_twenty_groups_of_duplicates_are_listed(empty: MongoDatabase) -> None:
    await apply_changes(empty, [CollectionSpec(SHEETS, {}, ())])
    rows = [{"number": number % 30} for number in range(210)]
    await empty[SHEETS].insert_many(rows)

    [found] = (await refused(empty, UNIQUE)).obstacles

    assert "more than 20 values of number, kind" in found.sentence
    assert len(found.details) == 20
    # Without a kind is one kind, to a unique index as well.
    assert found.details[0].startswith("number 0, kind None: 7 documents, ids ")
    assert found.details[0].endswith(", …")
    assert len(found.details[0].split(", ids ")[1].split(", ")) == 6  # five, and a sign of more


@pytest.mark.parametrize(
    "rows",
    [
        [{"number": 1, "kind": "a"}, {"number": 1, "kind": "b"}, {"number": 2, "kind": "a"}],
        [{"number": 1}, {"number": 2}],
    ],
)
async def test_different_values_are_no_duplicates(
    empty: MongoDatabase, rows: list[dict[str, object]]
) -> None:
    await apply_changes(empty, [CollectionSpec(SHEETS, {}, ())])
    await empty[SHEETS].insert_many(rows)

    await apply_changes(empty, [UNIQUE])

    assert await is_set_up(empty, [UNIQUE])


async def test_documents_that_the_new_rules_refuse_are_counted_and_named(
    empty: MongoDatabase,
) -> None:
    await apply_changes(empty, [CollectionSpec(PAGES, {}, ())])
    await empty[PAGES].insert_many([{"_id": at, "text": at} for at in range(25)])
    await empty[PAGES].insert_one({"sheet": 1})

    [found] = (await refused(empty, CollectionSpec(PAGES, NEW_SPECS[1].validator, ()))).obstacles

    assert found.kind is ObstacleKind.REFUSED_DOCUMENTS
    assert "pages has 25 documents that its new rules refuse" in found.sentence
    assert found.details == (*(f"_id {at}" for at in range(20)), "and 5 more")


async def test_refused_documents_may_be_kept_as_they_are(empty: MongoDatabase) -> None:
    spec = CollectionSpec(PAGES, NEW_SPECS[1].validator, ())
    await apply_changes(empty, [CollectionSpec(PAGES, {}, ())])
    await empty[PAGES].insert_one({"_id": 1})

    await apply_changes(empty, [spec], choices=Choices(keep_refused=True))

    assert await empty[PAGES].find().to_list(None) == [{"_id": 1}]
    assert await is_set_up(empty, [spec])


async def test_our_index_under_another_name_is_said_with_the_way_out(empty: MongoDatabase) -> None:
    await apply_changes(empty, [CollectionSpec(SHEETS, {}, ())])
    await empty[SHEETS].create_index([("number", 1), ("kind", 1)], name="by hand", unique=True)

    [found] = (await refused(empty, UNIQUE)).obstacles

    assert found.kind is ObstacleKind.INDEX_UNDER_ANOTHER_NAME
    assert "getCollection('sheets').dropIndex('by hand')" in found.sentence
    await empty[SHEETS].drop_index("by hand")
    await apply_changes(empty, [UNIQUE])
    assert await is_set_up(empty, [UNIQUE])
