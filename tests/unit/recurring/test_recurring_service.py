"""Templates from creation to deletion, in memory and on the real server."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import history
from accounting.clock import as_stored_day
from accounting.db.document import StaleVersion
from accounting.db.paging import Window
from accounting.ids import ObjectId, new_id
from accounting.platform.rules import CustomerNotFound
from accounting.recurring.documents import RecurringInvoice, get_recurring_invoice
from accounting.recurring.rules import (
    AlreadyActive,
    AlreadyPaused,
    EndBeforeStart,
    RecurringInvoiceDeleted,
    RecurringInvoiceEnded,
    RecurringInvoiceNotFound,
    StartDateFixed,
    due_periods,
)
from accounting.recurring.service import (
    NewTemplate,
    TemplateChanges,
    create_recurring_invoice,
    delete_recurring_invoice,
    list_recurring_invoices,
    pause_recurring_invoice,
    resume_recurring_invoice,
    update_recurring_invoice,
)
from builders import ADMIN, TERMS, TODAY, a_customer
from fakes import FakePlatform, SettableClock, TestDatabase

CUSTOMER = a_customer()
ZONE = TERMS.zone
JAN_1 = date(2026, 1, 1)
TOMORROW = date(2026, 1, 13)


class Templates:
    """The use cases, on one database, by the id of a template."""

    def __init__(self, db: TestDatabase, platform: FakePlatform) -> None:
        self.db, self.platform = db, platform

    async def create(self, **changes: Any) -> RecurringInvoice:
        facts: dict[str, Any] = {"customer_id": CUSTOMER.id, "day_of_month": 5, "start_date": JAN_1}
        order = NewTemplate(**facts | changes)
        return await self.db.run(ADMIN, create_recurring_invoice, self.platform, ZONE, order)

    async def update(
        self, template: RecurringInvoice, version: int | None = None, **fields: Any
    ) -> RecurringInvoice:
        return await self.db.run(
            ADMIN,
            update_recurring_invoice,
            ObjectId(template.id),
            ZONE,
            TemplateChanges(fields),
            expected_version=version,
        )

    async def pause(self, template: RecurringInvoice) -> RecurringInvoice:
        return await self.db.run(ADMIN, pause_recurring_invoice, ObjectId(template.id), ZONE)

    async def resume(self, template: RecurringInvoice) -> RecurringInvoice:
        return await self.db.run(
            ADMIN, resume_recurring_invoice, self.platform, ObjectId(template.id), ZONE
        )

    async def delete(self, template: RecurringInvoice) -> RecurringInvoice:
        return await self.db.run(ADMIN, delete_recurring_invoice, ObjectId(template.id), ZONE)

    async def generated(self, template: RecurringInvoice, last: date) -> RecurringInvoice:
        """As after a run."""
        await RecurringInvoice.get_motor_collection().update_one(
            {"_id": template.id}, {"$set": {"lastGeneratedDate": as_stored_day(last)}}
        )
        return await get_recurring_invoice(ObjectId(template.id))


@pytest.fixture
def templates(db: TestDatabase, platform: FakePlatform) -> Templates:
    platform.add_user(CUSTOMER)
    return Templates(db, platform)


async def last_entry(template: RecurringInvoice) -> tuple[AuditAction, Any]:
    entries = await history(EntityType.RECURRING_INVOICE, ObjectId(template.id))
    return entries[-1].action, entries[-1].changes


async def test_a_template_is_stored_as_it_was_ordered(templates: Templates) -> None:
    created = await templates.create(
        unit_price=Decimal("45.00"), end_date=date(2026, 12, 31), auto_issue=True
    )

    stored = await get_recurring_invoice(ObjectId(created.id))
    assert (stored.user_id, stored.day_of_month) == (CUSTOMER.id, 5)
    assert (stored.start_date, stored.end_date) == (JAN_1, date(2026, 12, 31))
    assert (stored.unit_price, stored.auto_issue) == (Decimal("45.00"), True)
    assert (stored.is_active, stored.last_generated_date, stored.version) == (True, None, 1)
    action, changes = await last_entry(created)
    assert action is AuditAction.RECURRING_INVOICE_CREATED
    assert changes["before"] == {}
    assert changes["after"]["startDate"] == "2026-01-01"


async def test_without_a_start_date_a_template_starts_today_in_the_zone(
    templates: Templates,
) -> None:
    assert (await templates.create(start_date=None)).start_date == TODAY


async def test_only_a_customer_gets_a_template(templates: Templates) -> None:
    gone = templates.platform.add_user(a_customer(is_deleted=True))

    for user_id in (gone.id, new_id()):
        with pytest.raises(CustomerNotFound):
            await templates.create(customer_id=user_id)
    with pytest.raises(EndBeforeStart):
        await templates.create(end_date=date(2025, 12, 31))

    assert await RecurringInvoice.find_all().count() == 0


async def test_a_change_leaves_an_entry_with_what_differs(templates: Templates) -> None:
    template = await templates.create(unit_price=Decimal("45.00"))

    changed = await templates.update(template, day_of_month=28, unit_price=None, auto_issue=False)

    assert (changed.day_of_month, changed.unit_price, changed.version) == (28, None, 2)
    assert await last_entry(template) == (
        AuditAction.RECURRING_INVOICE_UPDATED,
        {
            "before": {"dayOfMonth": 5, "unitPrice": "45.00"},
            "after": {"dayOfMonth": 28, "unitPrice": None},
        },
    )


async def test_no_change_leaves_no_entry(templates: Templates) -> None:
    template = await templates.create()

    same = await templates.update(template, day_of_month=5, end_date=None)

    assert same.version == 1
    assert (await last_entry(template))[0] is AuditAction.RECURRING_INVOICE_CREATED


async def test_a_change_from_an_older_version_is_refused(templates: Templates) -> None:
    template = await templates.create()
    await templates.update(template, 1, day_of_month=6)

    with pytest.raises(StaleVersion):
        await templates.update(template, 1, day_of_month=7)


@pytest.mark.parametrize(
    "change",
    [{"end_date": date(2025, 12, 31)}, {"start_date": date(2027, 1, 1)}],
    ids=["end", "start"],
)
async def test_a_change_leaves_at_least_a_day(
    templates: Templates, change: dict[str, date]
) -> None:
    template = await templates.create(end_date=date(2026, 12, 31))

    with pytest.raises(EndBeforeStart):
        await templates.update(template, **change)


async def test_the_start_is_fixed_once_something_was_generated(templates: Templates) -> None:
    template = await templates.create()
    await templates.update(template, start_date=date(2026, 1, 2))
    await templates.generated(template, date(2026, 1, 5))

    with pytest.raises(StartDateFixed, match="the last for 2026-01-05"):
        await templates.update(template, start_date=date(2026, 1, 3))
    assert (await templates.update(template, day_of_month=6)).day_of_month == 6


async def test_a_resumed_template_starts_anew_and_never_bills_its_pause(
    templates: Templates, clock: SettableClock
) -> None:
    template = await templates.create()
    await templates.generated(template, date(2026, 1, 5))

    paused = await templates.pause(template)
    clock.move(days=90)  # 2026-04-12
    resumed = await templates.resume(template)

    assert not paused.is_active
    assert resumed.is_active
    assert resumed.start_date == date(2026, 4, 12)
    assert resumed.last_generated_date == date(2026, 1, 5)
    due = due_periods(resumed.schedule, date(2026, 5, 5))
    assert [occurrence.period for occurrence in due] == ["2026-05"]
    assert await last_entry(template) == (
        AuditAction.RECURRING_INVOICE_RESUMED,
        {
            "before": {"startDate": "2026-01-01", "isActive": False},
            "after": {"startDate": "2026-04-12", "isActive": True},
        },
    )


async def test_a_pause_before_the_start_does_not_move_it(templates: Templates) -> None:
    template = await templates.create(start_date=date(2026, 6, 1))

    await templates.pause(template)

    assert (await templates.resume(template)).start_date == date(2026, 6, 1)


async def test_pausing_and_resuming_twice_is_refused(templates: Templates) -> None:
    template = await templates.create()

    with pytest.raises(AlreadyActive):
        await templates.resume(template)
    await templates.pause(template)
    with pytest.raises(AlreadyPaused):
        await templates.pause(template)


async def test_a_template_of_a_customer_who_left_is_not_resumed(templates: Templates) -> None:
    template = await templates.create()
    await templates.pause(template)
    templates.platform.add_user(a_customer(id=CUSTOMER.id, is_deleted=True))

    with pytest.raises(CustomerNotFound):
        await templates.resume(template)


async def test_an_ended_template_goes_on_with_a_later_end_date(
    templates: Templates, clock: SettableClock
) -> None:
    template = await templates.create(end_date=TOMORROW)
    clock.move(days=2)

    with pytest.raises(RecurringInvoiceEnded):
        await templates.pause(template)
    with pytest.raises(RecurringInvoiceEnded):
        await templates.resume(template)
    await templates.update(template, end_date=None)

    assert not (await templates.pause(template)).is_active


@pytest.mark.parametrize(
    ("facts", "end_date"),
    [
        ({}, TODAY),
        ({"end_date": TODAY}, TODAY),
        ({"end_date": date(2026, 12, 31)}, TODAY),
        ({"end_date": date(2026, 1, 6)}, date(2026, 1, 6)),
        ({"start_date": date(2026, 6, 1)}, TODAY),
    ],
)
async def test_a_deleted_template_stays_and_ends_today_at_the_latest(
    templates: Templates, facts: dict[str, date], end_date: date
) -> None:
    template = await templates.create(**facts)

    deleted = await templates.delete(template)

    assert (deleted.is_active, deleted.end_date) == (False, end_date)
    action, changes = await last_entry(template)
    assert action is AuditAction.RECURRING_INVOICE_DELETED
    assert changes["after"]["isActive"] is False


@pytest.mark.parametrize("is_paused", [False, True])
async def test_nothing_can_be_done_with_a_deleted_template(
    templates: Templates, clock: SettableClock, is_paused: bool
) -> None:
    template = await templates.create()
    if is_paused:
        await templates.pause(template)
    await templates.delete(template)

    for _ in range(2):  # today, and ever after
        for action in (templates.pause, templates.resume, templates.delete):
            with pytest.raises(RecurringInvoiceDeleted, match="ended for good on 2026-01-12"):
                await action(template)
        with pytest.raises(RecurringInvoiceDeleted):
            await templates.update(template, end_date=None)
        clock.move(days=400)


async def test_a_template_that_is_paused_on_its_last_day_is_over(
    templates: Templates, clock: SettableClock
) -> None:
    template = await templates.create(end_date=TOMORROW)
    await templates.pause(template)
    clock.move(days=1)

    with pytest.raises(RecurringInvoiceDeleted):
        await templates.resume(template)


async def test_an_unknown_template_is_not_found(templates: Templates) -> None:
    unknown = (await templates.create()).model_copy(update={"id": new_id()})

    for action in (templates.pause, templates.resume, templates.delete, templates.update):
        with pytest.raises(RecurringInvoiceNotFound):
            await action(unknown)


async def test_lists_are_narrowed_and_newest_first(templates: Templates) -> None:
    other = templates.platform.add_user(a_customer())
    first = await templates.create()
    second = await templates.create(customer_id=other.id)
    third = await templates.create()
    await templates.delete(third)

    async def listed(**wanted: Any) -> list[ObjectId]:
        page = await list_recurring_invoices(Window(), **wanted)
        return [ObjectId(template.id) for template in page.items]

    assert await listed() == [third.id, second.id, first.id]
    assert await listed(is_active=True) == [second.id, first.id]
    assert await listed(is_active=False) == [third.id]
    assert await listed(user_id=CUSTOMER.id) == [third.id, first.id]
    assert await listed(user_id=CUSTOMER.id, is_active=True) == [first.id]
