"""Making, changing and deleting drafts (spec section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from accounting.actor import Actor
from accounting.audit.rules import AuditAction
from accounting.clock import business_day
from accounting.db.database import Database, DuplicateValue, Transaction
from accounting.ids import new_id
from accounting.invoices.documents import Invoice, PricingSnapshot, get_invoice
from accounting.invoices.numbers import catch_up_counter, take_numbers
from accounting.invoices.papers import delete_pdf
from accounting.invoices.rules import (
    BillingPeriodFixed,
    BillingTerms,
    InvoiceAction,
    InvoiceId,
    NoActiveMiners,
    check_allowed,
    due_date,
)
from accounting.invoices.trail import record_change
from accounting.money import line_total
from accounting.notifications.service import delete_notifications
from accounting.payments.service import delete_payments
from accounting.platform.reader import Platform, get_customer
from accounting.platform.rules import UserId
from accounting.pricing.rules import NoPriceInEffect, PriceSource
from accounting.pricing.service import find_price_in_effect

_NUMBER_ATTEMPTS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class NewInvoice:
    """What a draft is made from; what is left out is looked up."""

    customer_id: UserId
    total_miners: int | None = None
    unit_price: Decimal | None = None
    due_date: date | None = None
    billing_period: str | None = None
    generated_date: date | None = None


@dataclass(frozen=True, slots=True)
class DraftChanges:
    """The fields of a draft to change, by their Python names; the others stay as they are."""

    fields: dict[str, Any] = field(default_factory=dict)


async def create_invoice(
    db: Database, actor: Actor, platform: Platform, terms: BillingTerms, order: NewInvoice
) -> Invoice:
    """Make a draft with the next number of its day.

    Everything that can be refused is looked at before the number is taken, so that a refused
    request leaves no gap. Spec: section 4, "create".
    Raises CustomerNotFound, NoActiveMiners, NoPriceInEffect, AmountTooLarge.
    """
    day = order.generated_date or business_day(db.clock(), terms.zone)
    await get_customer(platform, order.customer_id)
    total_miners, active_miners = await _miners(platform, terms, order)
    unit_price, pricing = await _price(order, day, active_miners)
    content = {
        "user_id": order.customer_id,
        "total_miners": total_miners,
        "unit_price": unit_price,
        "total_amount": line_total(total_miners, unit_price),
        "invoice_generated_date": day,
        "due_date": order.due_date or due_date(day, terms.due_days),
        "billing_period": order.billing_period,
        "pricing": pricing,
    }
    for attempt in range(1, _NUMBER_ATTEMPTS_MAX + 1):
        [number] = await take_numbers(day, 1, terms.serial_width)
        try:
            return await db.run(actor, _insert_draft, number, content)
        except DuplicateValue as error:
            # The counter is behind the invoices, as after a partial restore.
            if error.fields != ("invoiceNumber",) or attempt == _NUMBER_ATTEMPTS_MAX:
                raise
            await catch_up_counter(day)
    raise AssertionError("the loop returns or raises")


async def update_invoice(
    tx: Transaction,
    invoice_id: InvoiceId,
    changes: DraftChanges,
    *,
    expected_version: int | None = None,
) -> Invoice:
    """Change miners, price, due date or period of a draft; the total follows.

    What equals the stored value is no change, and no change leaves no entry. Spec: section 4,
    "update".
    Raises InvoiceNotFound, StaleVersion, InvalidTransition, BillingPeriodFixed, AmountTooLarge.
    """
    draft = await get_invoice(invoice_id, session=tx.session)
    draft.check_version(expected_version)
    check_allowed(InvoiceAction.UPDATE, draft.status, draft.invoice_number)

    differing = {
        name: value for name, value in changes.fields.items() if getattr(draft, name) != value
    }
    if not differing:
        return draft
    if "billing_period" in differing and draft.recurring_invoice_id is not None:
        raise BillingPeriodFixed(draft.invoice_number, draft.billing_period)
    total_miners = differing.get("total_miners", draft.total_miners)
    unit_price = differing.get("unit_price", draft.unit_price)
    differing["total_amount"] = line_total(total_miners, unit_price)
    if "unit_price" in differing:
        counted = draft.pricing.miner_ids_count if draft.pricing else None
        differing["pricing"] = PricingSnapshot(source=PriceSource.EXPLICIT, miner_ids_count=counted)
    changed = await draft.change(tx, expect={"status": draft.status}, **differing)
    await record_change(tx, AuditAction.INVOICE_UPDATED, draft, changed, "updated")
    return changed


async def delete_invoice(
    tx: Transaction, invoice_id: InvoiceId, *, expected_version: int | None = None
) -> Invoice:
    """Delete a draft, or a cancelled invoice, with its e-mails and PDF; the trail keeps its state.

    Its number is not used again. Spec: section 4, "delete".
    Raises InvoiceNotFound, StaleVersion, InvalidTransition.
    """
    invoice = await get_invoice(invoice_id, session=tx.session)
    invoice.check_version(expected_version)
    check_allowed(InvoiceAction.DELETE, invoice.status, invoice.invoice_number)

    await invoice.remove(tx, expect={"status": invoice.status})
    await delete_payments(tx, invoice_id)
    await delete_notifications(tx, invoice_id)
    await delete_pdf(tx, invoice_id)
    await record_change(tx, AuditAction.INVOICE_DELETED, invoice, None, "deleted")
    return invoice


def new_draft(tx: Transaction, number: str, content: Mapping[str, Any]) -> Invoice:
    """A draft made by the actor of the transaction; not stored yet."""
    return Invoice(
        id=new_id(),
        invoice_number=number,
        created_by=tx.actor.user_id,
        created_at=tx.now,
        updated_at=tx.now,
        **content,
    )


async def _insert_draft(tx: Transaction, number: str, content: Mapping[str, Any]) -> Invoice:
    draft = new_draft(tx, number, content)
    await draft.add(tx)
    await record_change(tx, AuditAction.INVOICE_CREATED, None, draft, "created")
    return draft


async def _miners(
    platform: Platform, terms: BillingTerms, order: NewInvoice
) -> tuple[int, int | None]:
    """The miners to bill, and how many were counted as active if they had to be counted."""
    if order.total_miners is not None:
        return order.total_miners, None
    active = await platform.count_active_miners(order.customer_id, terms.active_miner_statuses)
    if not active:
        raise NoActiveMiners(order.customer_id)
    return active, active


async def _price(
    order: NewInvoice, day: date, active_miners: int | None
) -> tuple[Decimal, PricingSnapshot]:
    if order.unit_price is not None:
        return order.unit_price, PricingSnapshot(
            source=PriceSource.EXPLICIT, miner_ids_count=active_miners
        )
    config = await find_price_in_effect(order.customer_id, day)
    if config is None:
        raise NoPriceInEffect(order.customer_id, day)
    return config.default_unit_price, PricingSnapshot(
        source=PriceSource.PRICING_CONFIG,
        pricing_config_id=config.id,
        miner_ids_count=active_miners,
    )
