"""Queuing the reminders of a day (spec section 6); `dunning` says which are due."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from zoneinfo import ZoneInfo

from accounting.actor import SYSTEM
from accounting.audit.service import record_all
from accounting.clock import as_stored_day, business_day
from accounting.db.database import Database, DuplicateValue, Session, TooBusy, Transaction
from accounting.invoices.documents import Invoice
from accounting.invoices.dunning import ReminderStep, due_dates_in_sequence, due_step
from accounting.invoices.mail import address_of
from accounting.invoices.rules import OPEN_STATUSES, BillingTerms, InvoiceId, InvoiceStatus
from accounting.invoices.trail import mail_entry
from accounting.notifications.documents import find_dedupe_keys
from accounting.notifications.notes import note_unsubscribed
from accounting.notifications.rules import NotificationType, dedupe_key
from accounting.notifications.service import NewNotification, queue_notifications
from accounting.optouts.service import find_opted_out
from accounting.platform.reader import Platform

logger = logging.getLogger(__name__)

REMINDER_BATCH_INVOICES: Final = 100


@dataclass(frozen=True, slots=True)
class _Reminder:
    """A step that is due for an invoice."""

    invoice: Invoice
    step: ReminderStep

    @property
    def dedupe_key(self) -> str:
        return dedupe_key(self.step.notification_type, self.invoice_id, self.step.key)

    @property
    def invoice_id(self) -> InvoiceId:
        return InvoiceId(self.invoice.id)


async def queue_reminders(
    db: Database,
    platform: Platform,
    terms: BillingTerms,
    today: date,
    *,
    on_progress: Callable[[int], None] = lambda queued: None,
) -> Counter[NotificationType]:
    """Queue every reminder that is due on `today` and was not queued before; counts by kind.

    The daily job: however often and at once it runs, each step of an invoice is queued once. In
    batches of one transaction each. One to a customer who has unsubscribed is noted as such, and is
    not sent or counted. Spec: section 6, "reminders".
    `on_progress` gets the number queued so far.
    """
    queued: Counter[NotificationType] = Counter()
    async for invoice_ids in _batches(terms.zone, today):
        queued.update(await _queue_patiently(db, platform, terms, today, invoice_ids))
        on_progress(queued.total())
    return queued


async def _batches(zone: ZoneInfo, today: date) -> AsyncIterator[list[InvoiceId]]:
    """The invoices with a reminder to queue, so many at a time that one transaction takes them."""
    batch: list[InvoiceId] = []
    async for reminders in _due_reminders(zone, today):
        batch += [reminder.invoice_id for reminder in await _not_queued(reminders)]
        while len(batch) >= REMINDER_BATCH_INVOICES:
            yield batch[:REMINDER_BATCH_INVOICES]
            del batch[:REMINDER_BATCH_INVOICES]
    if batch:
        yield batch


async def _due_reminders(zone: ZoneInfo, today: date) -> AsyncIterator[list[_Reminder]]:
    """What is due, queued before or not; one read of the database at a time is in memory."""
    first, last = due_dates_in_sequence(today)
    due_dates = {"$gte": as_stored_day(first), "$lte": as_stored_day(last)}
    # In this order, so that an invoice which becomes overdue meanwhile is not missed.
    for status in (InvoiceStatus.ISSUED, InvoiceStatus.OVERDUE):
        rows = (
            Invoice.get_motor_collection()
            .find({"status": status, "dueDate": due_dates})
            .sort([("dueDate", 1), ("_id", 1)])
            .batch_size(REMINDER_BATCH_INVOICES)
        )
        while found := await rows.to_list(REMINDER_BATCH_INVOICES):
            yield _due_of((Invoice.model_validate(raw) for raw in found), zone, today)


def _due_of(invoices: Iterable[Invoice], zone: ZoneInfo, today: date) -> list[_Reminder]:
    reminders = []
    for invoice in invoices:
        issued = business_day(invoice.issued_date or invoice.created_at, zone)
        step = due_step(invoice.due_date, issued=issued, today=today)
        if step is not None:
            reminders.append(_Reminder(invoice, step))
    return reminders


async def _not_queued(
    reminders: Sequence[_Reminder], *, session: Session | None = None
) -> list[_Reminder]:
    queued = await find_dedupe_keys(
        (reminder.dedupe_key for reminder in reminders), session=session
    )
    return [reminder for reminder in reminders if reminder.dedupe_key not in queued]


async def _queue_patiently(
    db: Database,
    platform: Platform,
    terms: BillingTerms,
    today: date,
    invoice_ids: Sequence[InvoiceId],
) -> Counter[NotificationType]:
    """Queue a batch; where others stay in its way, one by one, leaving out what cannot be had.

    What is left out is still due at the next run, and one invoice holds up no other.
    """
    try:
        return await db.run(SYSTEM, _queue_batch, platform, terms, today, invoice_ids)
    except (TooBusy, DuplicateValue) as error:
        if len(invoice_ids) == 1:
            logger.warning("invoice %s is not reminded now: %s", invoice_ids[0], error.sentence)
            return Counter()
    queued: Counter[NotificationType] = Counter()
    for invoice_id in invoice_ids:
        queued.update(await _queue_patiently(db, platform, terms, today, [invoice_id]))
    return queued


async def _queue_batch(
    tx: Transaction,
    platform: Platform,
    terms: BillingTerms,
    today: date,
    invoice_ids: Sequence[InvoiceId],
) -> Counter[NotificationType]:
    # Read again inside the transaction: some may have been paid, cancelled or reminded meanwhile.
    open_ones = await Invoice.find(
        {"_id": {"$in": list(invoice_ids)}, "status": {"$in": sorted(OPEN_STATUSES)}},
        session=tx.session,
    ).to_list()
    due = await _not_queued(_due_of(open_ones, terms.zone, today), session=tx.session)
    customers = await platform.find_users({reminder.invoice.user_id for reminder in due})
    addressed = [
        (reminder, _mail(reminder, to, terms))
        for reminder in due
        if (to := address_of(reminder.invoice, customers.get(reminder.invoice.user_id)))
    ]
    opted_out = await find_opted_out(
        {reminder.invoice.user_id for reminder, _ in addressed}, session=tx.session
    )
    wanted = [pair for pair in addressed if pair[0].invoice.user_id not in opted_out]
    unwanted = [pair for pair in addressed if pair[0].invoice.user_id in opted_out]
    rows = await queue_notifications(tx, [mail for _, mail in wanted])
    rows += await note_unsubscribed(tx, [mail for _, mail in unwanted])
    entries = [
        mail_entry(reminder.invoice, row, reminder.step.key)
        for (reminder, _), row in zip([*wanted, *unwanted], rows, strict=True)
    ]
    # The entry is also where this meets a payment of the same invoice at the same time: both
    # continue its chain, so that one of them runs again and sees the other.
    await record_all(tx, entries)
    return Counter(reminder.step.notification_type for reminder, _ in wanted)


def _mail(reminder: _Reminder, to: str, terms: BillingTerms) -> NewNotification:
    return NewNotification(
        reminder.step.notification_type,
        reminder.invoice_id,
        to=to,
        cc=terms.mail_cc,
        dedupe_key=reminder.dedupe_key,
    )
