"""Many documents in one write: what is stored and returned is what single writes would give."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from accounting.audit.documents import AuditHead
from accounting.db.database import Transaction
from accounting.db.document import DocumentChanged
from accounting.ids import ObjectId, new_id
from accounting.recurring.documents import RecurringInvoice
from builders import ADMIN, a_customer, a_template
from fakes import FakePlatform, SettableClock, TestDatabase

HASHES = [digit * 64 for digit in "0123"]


async def some_templates(
    db: TestDatabase, platform: FakePlatform, count: int
) -> list[RecurringInvoice]:
    return [await a_template(db, platform, a_customer()) for _ in range(count)]


async def stored(template: RecurringInvoice) -> RecurringInvoice:
    found = await RecurringInvoice.find_one({"_id": template.id})
    assert found is not None
    return found


async def raw(template: RecurringInvoice) -> dict[str, Any] | None:
    found: dict[str, Any] | None = await RecurringInvoice.get_motor_collection().find_one(
        {"_id": template.id}
    )
    return found


async def test_many_are_inserted_as_one_by_one(db: TestDatabase, platform: FakePlatform) -> None:
    templates = await some_templates(db, platform, 3)
    one_by_one = [await raw(template) for template in templates]
    await RecurringInvoice.find_all().delete()

    await db.run(ADMIN, RecurringInvoice.add_many, templates)

    assert [await raw(template) for template in templates] == one_by_one
    assert await RecurringInvoice.find_all().to_list() == templates


async def test_many_are_changed_as_one_by_one(
    db: TestDatabase, platform: FakePlatform, clock: SettableClock
) -> None:
    templates = await some_templates(db, platform, 3)
    changes: list[dict[str, object]] = [
        {"day_of_month": 7, "unit_price": Decimal("12.30")},
        {"last_generated_date": date(2026, 1, 7)},
        {"is_active": False, "unit_price": None},
    ]
    given = list(zip(templates, changes, strict=True))
    originals = [await raw(template) for template in templates]
    clock.move(seconds=1)

    async def change_each(tx: Transaction) -> list[RecurringInvoice]:
        return [await template.change(tx, **fields) for template, fields in given]

    one_by_one = await db.run(ADMIN, change_each)
    stored_one_by_one = [await raw(template) for template in templates]
    await RecurringInvoice.find_all().delete()
    await RecurringInvoice.get_motor_collection().insert_many(originals)  # type: ignore[arg-type]
    changed = await db.run(ADMIN, RecurringInvoice.change_many, given)

    assert changed == one_by_one
    assert [await raw(template) for template in templates] == stored_one_by_one
    assert changed == [await stored(template) for template in templates]
    assert {(t.version, t.updated_by, t.updated_at) for t in changed} == {
        (2, ADMIN.user_id, clock.now)
    }


async def test_the_changed_ones_come_in_the_order_in_which_they_were_given(
    db: TestDatabase, platform: FakePlatform
) -> None:
    templates = (await some_templates(db, platform, 5))[::-1]

    changed = await db.run(
        ADMIN, RecurringInvoice.change_many, [(t, {"auto_issue": True}) for t in templates]
    )

    assert [template.id for template in changed] == [template.id for template in templates]


@pytest.mark.parametrize("which", [0, 2, 4])
@pytest.mark.parametrize("is_deleted", [False, True])
async def test_one_that_is_not_the_same_any_more_is_named(
    db: TestDatabase, platform: FakePlatform, which: int, is_deleted: bool
) -> None:
    templates = await some_templates(db, platform, 5)
    victim = templates[which]
    if is_deleted:
        await victim.delete()
    else:  # in the same millisecond and by the same actor
        await db.run(ADMIN, victim.change, day_of_month=9)

    with pytest.raises(DocumentChanged, match=f"RecurringInvoice {victim.id} was changed"):
        await db.run(
            ADMIN, RecurringInvoice.change_many, [(t, {"day_of_month": 8}) for t in templates]
        )


async def test_a_document_that_is_given_twice_is_no_longer_the_same_the_second_time(
    db: TestDatabase, platform: FakePlatform
) -> None:
    other, template = await some_templates(db, platform, 2)
    days = [(other, 6), (template, 7), (template, 8)]

    with pytest.raises(DocumentChanged):
        await db.run(
            ADMIN, RecurringInvoice.change_many, [(t, {"day_of_month": day}) for t, day in days]
        )


async def test_the_very_same_change_by_another_is_a_change(
    db: TestDatabase, platform: FakePlatform
) -> None:
    [template] = await some_templates(db, platform, 1)
    await db.run(ADMIN, template.change, day_of_month=8)

    with pytest.raises(DocumentChanged, match=str(template.id)):
        await db.run(ADMIN, RecurringInvoice.change_many, [(template, {"day_of_month": 8})])


async def test_rows_are_put_by_their_key_whether_they_are_there_or_not(db: TestDatabase) -> None:
    heads = [AuditHead(id=new_id(), entity_type="A", entity_id=new_id(), seq=1, hash=HASHES[0])]
    await db.run(ADMIN, AuditHead.add_many, heads)
    [old], absent = heads, new_id()

    await db.run(
        ADMIN,
        AuditHead.put_many,
        [
            ({"entityType": "A", "entityId": old.entity_id}, {"seq": 2, "hash": HASHES[1]}),
            ({"entityType": "A", "entityId": absent}, {"seq": 3, "hash": HASHES[2]}),
            ({"entityType": "B", "entityId": absent}, {"seq": 4, "hash": HASHES[3]}),
        ],
    )

    found = await AuditHead.find_all().sort("seq").to_list()
    assert [(head.entity_type, head.entity_id, head.seq, head.hash) for head in found] == [
        ("A", old.entity_id, 2, HASHES[1]),
        ("A", absent, 3, HASHES[2]),
        ("B", absent, 4, HASHES[3]),
    ]
    assert found[0].id == old.id
    assert all(isinstance(head.id, ObjectId) for head in found)


async def test_no_documents_are_no_write(db: TestDatabase) -> None:
    assert await db.run(ADMIN, RecurringInvoice.change_many, []) == []
    await db.run(ADMIN, RecurringInvoice.add_many, [])
    await db.run(ADMIN, AuditHead.put_many, [])

    assert await RecurringInvoice.find_all().count() == 0
    assert await AuditHead.find_all().count() == 0


async def test_unversioned_documents_are_changed_by_their_id(db: TestDatabase) -> None:
    heads = [
        AuditHead(id=new_id(), entity_type="A", entity_id=new_id(), seq=1, hash=HASHES[0])
        for _ in range(3)
    ]
    await db.run(ADMIN, AuditHead.add_many, heads[:2])

    changed = await db.run(ADMIN, AuditHead.change_many, [(head, {"seq": 2}) for head in heads[:2]])

    assert [(head.id, head.seq) for head in changed] == [(head.id, 2) for head in heads[:2]]
    with pytest.raises(DocumentChanged, match=f"AuditHead {heads[2].id} "):
        await db.run(ADMIN, AuditHead.change_many, [(head, {"seq": 3}) for head in heads])
