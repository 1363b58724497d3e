"""`/pricing-configs`, and a customer's price on a day (spec section 5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_201_CREATED
from pydantic import Field

from accounting.api.auth import ApiRequest
from accounting.api.customers import provide_customer_id
from accounting.api.queries import PageCursor, PageLimit, PageNumber
from accounting.api.schemas import (
    NULL_EXAMPLE,
    BodyIn,
    BodyOut,
    CursorOut,
    DayIn,
    DayOut,
    IdIn,
    MoneyOut,
    Pagination,
    UnitPriceIn,
    check_day,
    pagination,
    parse_id,
)
from accounting.api.stamps import StampedView, find_people, with_people
from accounting.api.writes import answer_write
from accounting.bootstrap import Services
from accounting.clock import business_day
from accounting.db.database import Session
from accounting.db.paging import PAGE_LIMIT_DEFAULT, to_window
from accounting.ids import ObjectId
from accounting.links import BASE_PATH
from accounting.pricing.documents import CustomerPricingConfig, get_price
from accounting.pricing.service import (
    archive_price,
    create_price,
    get_price_in_effect,
    list_prices,
)


class CreatePricingConfig(BodyIn):
    """A customer's price per miner from a day on; today unless a day is given."""

    customer_id: IdIn
    default_unit_price: UnitPriceIn
    effective_from: DayIn | None = None


class ArchivePricingConfig(BodyIn):
    """The first day without the price; today unless a later day is given."""

    effective_to: DayIn | None = None


class PricingConfigView(StampedView):
    """A price on the days `effectiveFrom <= day < effectiveTo`, or without an end.

    `isInEffect` is about the day of the answer.
    """

    default_unit_price: Annotated[MoneyOut, Field(examples=["100.00"])]
    effective_from: DayOut
    effective_to: Annotated[DayOut | None, NULL_EXAMPLE]
    is_open: Annotated[bool, Field(examples=[True])]
    is_in_effect: Annotated[bool, Field(examples=[True])]


class PricingConfigListView(BodyOut):
    """A page of prices."""

    pricing_configs: list[PricingConfigView]
    pagination: Pagination
    next_cursor: CursorOut


async def provide_config_id(id: FromPath[str]) -> ObjectId:  # noqa: A002  # the path says {id}
    """The pricing config's id from the path. Raises Invalid naming `id`."""
    return parse_id("id", id)


class PricingConfigController(Controller):
    """The price list; for admins. Rows are history: there is no way to change or delete one."""

    path = "/pricing-configs"
    tags = ["Prices"]
    dependencies = {"config_id": Provide(provide_config_id)}

    @get(operation_id="listPricingConfigs", summary="List prices")
    async def list_page(
        self,
        services: NamedDependency[Services],
        customer_id: Annotated[str | None, QueryParameter(name="customerId")] = None,
        on: Annotated[
            date | None, QueryParameter(description="Only prices in effect on this day")
        ] = None,
        page: PageNumber = None,
        limit: PageLimit = PAGE_LIMIT_DEFAULT,
        cursor: PageCursor = None,
    ) -> PricingConfigListView:
        """Those that start last first; ended and future ones too, unless `on` is given."""
        found = await list_prices(
            to_window(page, limit, cursor),
            user_id=parse_id("customerId", customer_id) if customer_id is not None else None,
            on=check_day("on", on),
        )
        return PricingConfigListView(
            pricing_configs=await view_prices(services, found.items),
            pagination=pagination(found.number, found.limit, found.total),
            next_cursor=found.next_cursor,
        )

    @post(
        operation_id="createPricingConfig",
        summary="Set a customer's price",
        status_code=HTTP_201_CREATED,
    )
    async def create(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        data: JSONBody[CreatePricingConfig],
    ) -> Response[PricingConfigView]:
        """The price without an end gets one: the day on which the new one starts."""
        return await answer_write(
            request,
            services,
            lambda db: db.run(
                request.user,
                create_price,
                services.platform,
                ObjectId(data.customer_id),
                data.default_unit_price,
                data.effective_from or _today(services),
            ),
            _view(services),
            status_code=HTTP_201_CREATED,
            headers=_location,
        )

    @get("/{id:str}", operation_id="getPricingConfig", summary="Read a price")
    async def read(
        self, services: NamedDependency[Services], config_id: NamedDependency[ObjectId]
    ) -> PricingConfigView:
        """A row of the price list."""
        [view] = await view_prices(services, [await get_price(config_id)])
        return view

    @post(
        "/{id:str}/archive",
        operation_id="archivePricingConfig",
        summary="End a price",
        status_code=200,
    )
    async def archive(
        self,
        request: ApiRequest,
        services: NamedDependency[Services],
        config_id: NamedDependency[ObjectId],
        data: JSONBody[ArchivePricingConfig | None] = None,
    ) -> Response[PricingConfigView]:
        """From `effectiveTo` on the customer has no price until a new one is set."""
        asked = data.effective_to if data else None
        return await answer_write(
            request,
            services,
            lambda db: db.run(
                request.user, archive_price, config_id, services.terms.zone, effective_to=asked
            ),
            _view(services),
        )


class CustomerPriceController(Controller):
    """The price that a customer is billed; for admins."""

    path = "/customers/{id:str}/price"
    tags = ["Customers"]
    dependencies = {"customer_id": Provide(provide_customer_id)}

    @get(operation_id="getCustomerPrice", summary="Read a customer's price on a day")
    async def read(
        self,
        services: NamedDependency[Services],
        customer_id: NamedDependency[ObjectId],
        on: Annotated[
            date | None, QueryParameter(description="The day; today unless given")
        ] = None,
    ) -> PricingConfigView:
        """The row of the price list in effect on the day; 404 if there is none."""
        day = check_day("on", on) or _today(services)
        price = await get_price_in_effect(services.platform, customer_id, day)
        [view] = await view_prices(services, [price])
        return view


async def view_prices(
    services: Services, prices: Sequence[CustomerPricingConfig]
) -> list[PricingConfigView]:
    """Prices with their people, all in one read, as they are today."""
    people = await find_people(services.platform, prices)
    today = _today(services)
    return [
        PricingConfigView(
            **with_people(PricingConfigView, price, people),
            is_open=price.effective_to is None,
            is_in_effect=price.window.holds(today),
        )
        for price in prices
    ]


def _view(
    services: Services,
) -> Callable[[CustomerPricingConfig, Session | None], Awaitable[PricingConfigView]]:
    async def view(price: CustomerPricingConfig, _: Session | None) -> PricingConfigView:
        [shown] = await view_prices(services, [price])
        return shown

    return view


def _today(services: Services) -> date:
    return business_day(services.db.clock(), services.terms.zone)


def _location(price: CustomerPricingConfig) -> Mapping[str, str]:
    return {"Location": f"{BASE_PATH}/pricing-configs/{price.id}"}
