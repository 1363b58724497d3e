"""Sending an e-mail about many invoices in one run (spec section 5, `/invoices/bulk-send-email`).

The run's workers queue the e-mails; an item ends when its e-mail has ended. The run is told in
groups, about once a second while e-mails are sent, and when the last of them has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from accounting.actor import SYSTEM
from accounting.audit.service import record_all
from accounting.clock import after, business_day
from accounting.db.database import Database, Session, Transaction
from accounting.errors import AccountingError
from accounting.ids import ObjectId
from accounting.invoices.bulk import items_of
from accounting.invoices.documents import Invoice, find_invoices
from accounting.invoices.mailing import mail_on_demand
from accounting.invoices.rules import BillingTerms, InvoiceId, InvoiceNotFound
from accounting.invoices.trail import mail_entry
from accounting.notifications.documents import (
    InvoiceNotification,
    MailState,
    find_by_keys,
    find_states,
    is_any_pending,
)
from accounting.notifications.rules import NotificationId, NotificationStatus, NotificationType
from accounting.notifications.service import (
    NewNotification,
    queue_notifications,
    requeue_notification,
)
from accounting.payments.documents import InvoicePayment
from accounting.payments.service import list_payments
from accounting.platform.reader import Platform
from accounting.runs.documents import AccountingRun, RunItem, get_run
from accounting.runs.following import is_followed, list_followed, tell_results
from accounting.runs.rules import (
    DONE,
    ItemStatus,
    Outcome,
    RunId,
    RunKind,
    begun,
    failed,
    skipped,
)
from accounting.runs.service import start_run

BATCH_MAILS: Final = 100
TELL_EVERY_SECONDS: Final = 1.0
FOLLOWED_RUNS_MAX: Final = 100

FAILED_CODE: Final = "email_failed"
BOUNCED_CODE: Final = "email_bounced"
UNKNOWN_CODE: Final = "email_outcome_unknown"
UNSUBSCRIBED_CODE: Final = "unsubscribed"
DELETED_CODE: Final = "invoice_deleted"


async def start_bulk_send_email(
    tx: Transaction, invoice_ids: Sequence[InvoiceId], *, kind: NotificationType | None = None
) -> AccountingRun:
    """Queue a run that sends an e-mail about each invoice; without a kind, the one that fits it.

    Raises Invalid for no ids, or more than BULK_ITEMS_MAX.
    """
    items = await items_of(invoice_ids, session=tx.session)
    return await start_run(tx, RunKind.BULK_SEND_EMAIL, items, parameters={"type": kind})


async def queue_items(
    tx: Transaction,
    platform: Platform,
    terms: BillingTerms,
    run: AccountingRun,
    items: Sequence[RunItem],
) -> list[Outcome]:
    """Queue the e-mails of some items: each is begun, or has failed where there is none to send.

    One that this run queued before is queued anew if it was not sent, and never sent twice.
    """
    invoices = await find_invoices((item.id for item in items), session=tx.session)
    customers = await platform.find_users({invoice.user_id for invoice in invoices.values()})
    payments = await _payments_of(invoices, tx.session)
    kind = _kind_of(run)
    today = business_day(tx.now, terms.zone)
    outcomes: dict[ObjectId, Outcome] = {}
    mails: dict[ObjectId, NewNotification] = {}
    for item in items:
        try:
            invoice = _existing(invoices, item.id)
            mails[item.id] = mail_on_demand(
                invoice,
                customers.get(invoice.user_id),
                payments.get(item.id, ()),
                terms,
                today,
                kind,
                asked=run.run_id,
                run_id=run.run_id,
            )
        except AccountingError as error:
            outcomes[item.id] = failed(error.code, error.sentence)
    before = await find_by_keys((mail.dedupe_key for mail in mails.values()), session=tx.session)
    for invoice_id, mail in mails.items():
        if mail.dedupe_key in before:
            outcomes[invoice_id] = await _try_again(tx, before[mail.dedupe_key], mail.to)
    new = [mail for mail in mails.values() if mail.dedupe_key not in before]
    queued = await queue_notifications(tx, new)
    await record_all(tx, [mail_entry(invoices[row.invoice_id], row) for row in queued])
    outcomes |= {row.invoice_id: begun(NotificationId(row.id)) for row in queued}
    return [outcomes[item.id] for item in items]


async def tell_run(db: Database, run_id: RunId, *, at_once: bool = False) -> AccountingRun | None:
    """Tell a run how its e-mails have ended, unless it was told a moment ago; None then.

    Once the last has ended it is told in any case. The transaction that ends an e-mail does not
    write to the run: nothing that others do there may keep a sent e-mail from being noted as such.
    """
    is_any_left = not at_once and await is_any_pending(run_id)
    moment_ago = after(db.clock(), seconds=-TELL_EVERY_SECONDS)
    if not await is_followed(run_id, unmoved_since=moment_ago if is_any_left else None):
        return None
    return await db.run(SYSTEM, _tell_results, run_id)


async def tell_followed_runs(db: Database) -> list[AccountingRun]:
    """Tell every run that waits for e-mails how they have ended; what a dead worker has left."""
    waiting = await list_followed(limit=FOLLOWED_RUNS_MAX)
    told = [await tell_run(db, run_id, at_once=True) for run_id in waiting]
    return [run for run in told if run is not None]


async def _tell_results(tx: Transaction, run_id: RunId) -> AccountingRun:
    run = await get_run(run_id, session=tx.session)
    waited_for = run.positions_begun()
    states = await find_states(waited_for, session=tx.session)
    outcomes = {told: outcome_of(told, states.get(told)) for told in waited_for}
    ended = {
        told: outcome
        for told, outcome in outcomes.items()
        if outcome.status is not ItemStatus.PENDING
    }
    return await tell_results(tx, run, ended)


def outcome_of(notification_id: NotificationId, state: MailState | None) -> Outcome:
    """What the state of its e-mail means for an item; None when it was deleted with its invoice."""
    if state is None:
        return failed(DELETED_CODE, "The invoice was deleted, and its e-mail with it.")
    if state.status is NotificationStatus.PENDING:
        return begun(notification_id)
    outcome = DONE
    if state.status is NotificationStatus.UNSUBSCRIBED:
        outcome = skipped(UNSUBSCRIBED_CODE, state.reason)
    elif state.status is NotificationStatus.BOUNCED:
        outcome = failed(BOUNCED_CODE, state.reason)
    elif state.status is NotificationStatus.FAILED:
        outcome = failed(UNKNOWN_CODE if state.is_outcome_unknown else FAILED_CODE, state.reason)
    return replace(outcome, result_id=notification_id)


async def _try_again(tx: Transaction, row: InvoiceNotification, to: str) -> Outcome:
    if row.status in (NotificationStatus.FAILED, NotificationStatus.BOUNCED):
        row = await requeue_notification(tx, row, to=to)
    return outcome_of(NotificationId(row.id), row.state)


async def _payments_of(
    invoice_ids: Iterable[InvoiceId], session: Session | None
) -> Mapping[ObjectId, list[InvoicePayment]]:
    found: defaultdict[ObjectId, list[InvoicePayment]] = defaultdict(list)
    for payment in await list_payments(invoice_ids, session=session):
        found[payment.invoice_id].append(payment)
    return found


def _existing(invoices: Mapping[InvoiceId, Invoice], invoice_id: InvoiceId) -> Invoice:
    if invoice_id not in invoices:
        raise InvoiceNotFound(invoice_id)
    return invoices[invoice_id]


def _kind_of(run: AccountingRun) -> NotificationType | None:
    kind = run.parameters.get("type")
    return NotificationType(kind) if kind else None
