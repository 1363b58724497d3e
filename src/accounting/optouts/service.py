"""Stopping the reminders to a customer, and starting them again, with the link in an e-mail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accounting.audit.rules import AuditAction, EntityType
from accounting.audit.service import record
from accounting.db.database import Session, Transaction
from accounting.ids import ObjectId
from accounting.optouts.documents import MailOptout
from accounting.platform.rules import UserId


@dataclass(frozen=True, slots=True)
class UsedLink:
    """The e-mail whose link was used: whose it is, where it went and which invoice it is about."""

    notification_id: ObjectId
    sent_to: str
    customer_id: UserId
    invoice_id: ObjectId
    invoice_number: str


async def opt_out(tx: Transaction, link: UsedLink) -> MailOptout:
    """Stop the reminders to a customer; once stopped they stay so, and nothing is recorded again.

    Two at once meet at the `_id`, and the second one sees the first. Spec: section 6.
    """
    optout = await _find_optout(link.customer_id, tx.session)
    if optout is None:
        optout = MailOptout(
            id=link.customer_id,
            notification_id=link.notification_id,
            sent_to=link.sent_to,
            created_at=tx.now,
        )
        await optout.add(tx)
        await _record(tx, link, are_wanted=False)
    return optout


async def opt_in(tx: Transaction, link: UsedLink) -> None:
    """Take an opt-out back; where there is none, nothing is done and nothing recorded."""
    optout = await _find_optout(link.customer_id, tx.session)
    if optout is not None:
        await optout.remove(tx)
        await _record(tx, link, are_wanted=True)


async def find_opted_out(
    customer_ids: Iterable[UserId], *, session: Session | None = None
) -> set[UserId]:
    """Those of these customers who want no reminders."""
    found = MailOptout.get_motor_collection().find(
        {"_id": {"$in": list(customer_ids)}}, {"_id": 1}, session=session
    )
    return {raw["_id"] async for raw in found}


async def is_opted_out(customer_id: UserId, *, session: Session | None = None) -> bool:
    """Whether this customer wants no reminders."""
    return customer_id in await find_opted_out([customer_id], session=session)


async def _find_optout(customer_id: UserId, session: Session | None) -> MailOptout | None:
    optout: MailOptout | None = await MailOptout.find_one({"_id": customer_id}, session=session)
    return optout


async def _record(tx: Transaction, link: UsedLink, *, are_wanted: bool) -> None:
    """An entry of the invoice that the e-mail was about.

    The seed has no action for it. This is the one of its dealings with a customer about an invoice.
    """
    what = "started again" if are_wanted else "stopped"
    await record(
        tx,
        AuditAction.INVOICE_SENT_TO_CUSTOMER,
        (EntityType.INVOICE, link.invoice_id),
        f"Invoice {link.invoice_number}: reminders to its customer {what} with the link sent to "
        f"{link.sent_to}",
        before={"remindersWanted": not are_wanted},
        after={"remindersWanted": are_wanted, "notificationId": link.notification_id},
    )
