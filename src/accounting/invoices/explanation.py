"""How the amount of an invoice came about: "why this amount" (spec section 3, `pricing`)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from accounting.invoices.documents import Invoice, get_invoice
from accounting.invoices.rules import InvoiceId
from accounting.pricing.documents import CustomerPricingConfig
from accounting.pricing.rules import PriceSource

_NO_ROUNDING = "Whole miners times a price in whole cents: nothing had to be rounded."


@dataclass(frozen=True, slots=True)
class Explanation:
    """The facts behind an amount, and the same in sentences."""

    invoice_id: InvoiceId
    invoice_number: str
    total_miners: int
    counted_miners: int | None
    unit_price: Decimal
    total_amount: Decimal
    price_source: PriceSource
    price_row: CustomerPricingConfig | None
    calculation: str
    rounding: str
    sentences: list[str]


async def explain_invoice(invoice_id: InvoiceId) -> Explanation:
    """Raises InvoiceNotFound. The price row is the one of that time; rows are never edited."""
    invoice = await get_invoice(invoice_id)
    pricing = invoice.pricing
    source = pricing.source if pricing else PriceSource.EXPLICIT
    row = None
    if pricing and pricing.pricing_config_id:
        row = await CustomerPricingConfig.get(pricing.pricing_config_id)
    counted = pricing.miner_ids_count if pricing else None
    calculation = f"{invoice.total_miners} x {invoice.unit_price} = {invoice.total_amount}"
    return Explanation(
        invoice_id=invoice_id,
        invoice_number=invoice.invoice_number,
        total_miners=invoice.total_miners,
        counted_miners=counted,
        unit_price=invoice.unit_price,
        total_amount=invoice.total_amount,
        price_source=source,
        price_row=row,
        calculation=calculation,
        rounding=_NO_ROUNDING,
        sentences=[
            _about_miners(invoice, counted),
            _about_price(invoice, source, row),
            f"{calculation}. {_NO_ROUNDING}",
        ],
    )


def _about_miners(invoice: Invoice, counted: int | None) -> str:
    if counted is None:
        return f"{invoice.total_miners} miners, as given by whoever made or changed the draft."
    if counted == invoice.total_miners:
        return f"{counted} miners of the customer were active when the draft was made."
    return (
        f"{counted} miners of the customer were active when the draft was made; "
        f"it was then changed to {invoice.total_miners}."
    )


def _about_price(invoice: Invoice, source: PriceSource, row: CustomerPricingConfig | None) -> str:
    match source:
        case PriceSource.EXPLICIT:
            return f"The unit price {invoice.unit_price} was given by hand."
        case PriceSource.TEMPLATE:
            return f"The unit price {invoice.unit_price} is that of the recurring invoice."
        case PriceSource.PRICING_CONFIG if row is not None:
            until = f"until before {row.effective_to}" if row.effective_to else "without an end"
            return (
                f"The unit price {invoice.unit_price} is the customer's price "
                f"from {row.effective_from} {until}."
            )
        case _:
            return f"The unit price {invoice.unit_price} came from a price that is gone."
