"""How the parts are put together: documents, connection, terms; used by the edges only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from beanie import init_beanie

from accounting.access.needs import SERVICE
from accounting.access.review import require_rights
from accounting.archiving.documents import Archive
from accounting.audit.documents import AuditHead, AuditLog, AuditSeal
from accounting.clock import Clock, utc_now
from accounting.db.client import MongoDatabase, check_server, open_client, open_database
from accounting.db.database import Database, Enqueue, drop_jobs
from accounting.db.document import BaseDocument
from accounting.db.privileges import read_rights
from accounting.db.schema import CollectionSpec, collection_spec
from accounting.db.totals import Totals
from accounting.errors import Misconfigured
from accounting.idempotency.documents import IdempotencyKey
from accounting.invoices.documents import AccountingCounter, Invoice
from accounting.invoices.papers import InvoicePdf, InvoicePdfChunk
from accounting.invoices.rules import BillingTerms
from accounting.notifications.documents import CC_ADDRESSES_MAX, InvoiceNotification
from accounting.notifications.message import UndeliverableAddress, parse_mailbox
from accounting.optouts.documents import MailOptout
from accounting.payments.documents import InvoicePayment, PaymentAllocation
from accounting.platform.reader import MongoPlatform, Platform
from accounting.pricing.documents import CustomerPricingConfig
from accounting.printing.company import Company, load_company
from accounting.recurring.documents import RecurringInvoice
from accounting.reports.archived import ArchivedAccount
from accounting.reports.dashboard import DashboardReader
from accounting.reports.documents import FiguresPart, FiguresTotal
from accounting.runs.documents import AccountingRun
from accounting.settings import Settings

# Every collection that is ours: the seed's six, then the auxiliary ones.
DOCUMENTS: Final[Sequence[type[BaseDocument]]] = (
    Invoice,
    RecurringInvoice,
    CustomerPricingConfig,
    InvoicePayment,
    AuditLog,
    InvoiceNotification,
    AccountingCounter,
    PaymentAllocation,
    IdempotencyKey,
    AccountingRun,
    AuditHead,
    AuditSeal,
    InvoicePdf,
    InvoicePdfChunk,
    MailOptout,
    Archive,
    ArchivedAccount,
    FiguresTotal,
    FiguresPart,
)
# Who bills where nothing is configured: what `company_of` makes of the default sender.
UNNAMED_COMPANY: Final = Company(name="Accounting", email="accounting@localhost")


@dataclass(frozen=True, slots=True)
class Services:
    """What an edge needs to run use cases."""

    db: Database
    platform: Platform
    terms: BillingTerms
    settings: Settings
    company: Company = UNNAMED_COMPANY
    dashboard: DashboardReader = field(default_factory=DashboardReader)
    totals: Totals = field(default_factory=Totals)


def collection_specs() -> list[CollectionSpec]:
    """What our collections must look like on the server."""
    return [collection_spec(document) for document in DOCUMENTS]


def billing_terms(settings: Settings) -> BillingTerms:
    """The operator's billing choices out of the settings."""
    return BillingTerms(
        zone=settings.zone,
        due_days=settings.due_days,
        serial_width=settings.serial_width,
        active_miner_statuses=settings.active_miner_statuses,
        mail_cc=settings.mail_cc,
    )


def check_settings(settings: Settings) -> None:
    """What a variable's own form does not show; raises Misconfigured, so that nothing starts."""
    check_mail_addresses(settings)
    company_of(settings)


def check_mail_addresses(settings: Settings) -> None:
    """Raises Misconfigured for a sender or copy address that no mail server would take."""
    addresses = [("ACCOUNTING_MAIL_FROM", settings.mail_from)]
    addresses += [("ACCOUNTING_MAIL_CC", address) for address in settings.mail_cc]
    if len(settings.mail_cc) > CC_ADDRESSES_MAX:
        raise Misconfigured(f"ACCOUNTING_MAIL_CC names more than {CC_ADDRESSES_MAX} addresses.")
    for variable, address in addresses:
        try:
            parse_mailbox(address)
        except UndeliverableAddress as error:
            raise Misconfigured(f"{variable}: {error.sentence}") from None


def company_of(settings: Settings) -> Company:
    """Who bills: the company file, else no more than the sender of our e-mails.

    Raises Misconfigured for a file that cannot be read or says something wrong.
    """
    if settings.company_file:
        return load_company(settings.company_file)
    sender = parse_mailbox(settings.mail_from)
    return Company(name=sender.display_name or sender.addr_spec, email=sender.addr_spec)


async def bind_documents(mongo: MongoDatabase) -> None:
    """Tell the document classes their database. Indexes are the setup command's business."""
    await init_beanie(database=mongo, document_models=list(DOCUMENTS), skip_indexes=True)


@asynccontextmanager
async def open_mongo(settings: Settings) -> AsyncIterator[MongoDatabase]:
    """The configured database, checked and closed again.

    Raises Unavailable, NotAReplicaSet, ServerTooOld or Misconfigured.
    """
    client = open_client(settings.mongodb_uri.get_secret_value())
    try:
        mongo = open_database(client, settings.database_name)
        await check_server(mongo)
        yield mongo
    finally:
        client.close()


async def check_rights(mongo: MongoDatabase, settings: Settings) -> None:
    """Hold our user's rights against what the service needs, before it does anything.

    Raises RightsMissing; RightsTooWide where least privilege is required.
    """
    is_least_required = settings.require_least_privilege
    rights = await read_rights(mongo)
    require_rights(rights, SERVICE, mongo.name, is_least_required=is_least_required)


@asynccontextmanager
async def open_services(
    settings: Settings, *, clock: Clock = utc_now, enqueue: Enqueue = drop_jobs
) -> AsyncIterator[Services]:
    """Connect and bind everything.

    Raises what `open_mongo` raises; RightsMissing; RightsTooWide where least privilege is required.
    """
    check_settings(settings)
    async with open_mongo(settings) as mongo:
        await check_rights(mongo, settings)
        await bind_documents(mongo)
        services = Services(
            db=Database(mongo, clock=clock, enqueue=enqueue),
            platform=MongoPlatform(mongo),
            terms=billing_terms(settings),
            settings=settings,
            company=company_of(settings),
            totals=Totals(clock=clock),
        )
        try:
            yield services
        finally:
            await services.totals.close()
