from __future__ import annotations

from accounting.access.needs import OUR_COLLECTIONS, PARTS, SERVICE, SETUP
from accounting.bootstrap import collection_specs
from accounting.db.manifest import META
from accounting.platform.rules import PLATFORM_COLLECTIONS, TOKEN_BLACKLIST

WRITES = {"insert", "update", "remove"}


def test_every_collection_of_ours_has_its_line_and_no_other() -> None:
    assert set(OUR_COLLECTIONS) == {spec.name for spec in collection_specs()}


def test_nobody_needs_to_write_to_the_platform() -> None:
    for part in PARTS.values():
        for name in (*PLATFORM_COLLECTIONS, TOKEN_BLACKLIST):
            if name in part.needs:
                assert part.needs[name].actions <= {"find", "listIndexes"}


def test_the_trail_is_added_to_and_never_altered() -> None:
    for name in ("audit_logs", "audit_seals"):
        assert SERVICE.needs[name].actions & WRITES == {"insert"}


def test_the_service_changes_no_definition_and_the_setup_no_document() -> None:
    reading = {"find", "listIndexes", "listCollections"}
    for need in SERVICE.needs.values():
        assert need.actions <= reading | WRITES
    for name, need in SETUP.needs.items():
        # Its own record is all that the setup writes.
        assert name == META or not need.actions & WRITES


def test_a_role_names_each_collection_of_its_database() -> None:
    privileges = SERVICE.role.privileges("hosting")

    assert {privilege["resource"]["db"] for privilege in privileges} == {"hosting"}
    by_name = {held["resource"]["collection"]: held["actions"] for held in privileges}
    assert by_name["audit_logs"] == ["find", "insert", "listIndexes"]
    assert by_name["users"] == ["find"]
    assert by_name[""] == ["listCollections"]
