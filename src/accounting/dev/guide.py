"""What `accounting dev` prints: addresses, tokens, and an example to paste into a shell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import bson

from accounting.actor import Role
from accounting.api.tokens import make_token
from accounting.clock import utc_now
from accounting.dev.demo import DemoPlatform
from accounting.ids import ObjectId

API_PATH: Final = "/api/accounting"
TOKEN_SECONDS: Final = 12 * 60 * 60

_WORTH_A_LOOK: Final = (
    ("/invoices?status=OVERDUE", "who owes, and who has paid a part"),
    ("/invoices?status=DRAFT", "what waits for its review"),
    ("/recurring-invoices", "who is billed each month"),
    ("/pricing-configs", "what a miner costs, has cost and will cost"),
    ("/runs?kind=GENERATE", "what each day of generation made, and skipped"),
)
_READ_ID: Final = """python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'"""


def guide_lines(
    url: str, *, mail_url: str | None, secret: str, platform: DemoPlatform
) -> Iterator[str]:
    """Every line of the guide; the curl lines work when pasted one after the other."""
    has_plain_admin = platform.admin_id != platform.super_admin_id
    admin_role = Role.ADMIN if has_plain_admin else Role.SUPER_ADMIN
    admin_token = _token(secret, platform.admin_id, admin_role)
    yield ""
    yield f"API:            {url}{API_PATH}"
    yield f"API documents:  {url}/schema"
    yield f"caught mail:    {mail_url or 'none, ACCOUNTING_SMTP_URL is set'}"
    yield f"admin token:    {admin_token}"
    yield f"customer token: {_token(secret, platform.customer_id, Role.CLIENT)}"
    yield ""
    yield "An invoice from draft to paid; paste these lines one after the other:"
    yield ""
    yield from _example(f"{url}{API_PATH}", admin_token, platform)
    yield ""
    yield "A year of invoices to look at, with the admin token:"
    yield ""
    for path, what in _WORTH_A_LOOK:
        yield f"  GET {API_PATH}{path:33}{what}"
    yield ""


def _token(secret: str, user_id: bson.ObjectId, role: Role) -> str:
    return make_token(secret, ObjectId(user_id), role, utc_now(), TOKEN_SECONDS)


def _example(api_url: str, token: str, platform: DemoPlatform) -> Iterator[str]:
    post = (
        f"curl -sS -X POST -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json'"
    )
    draft = {"customerId": str(platform.customer_id), "totalMiners": 5, "unitPrice": "100.00"}
    yield f"ID=$({post} -d '{json.dumps(draft)}' {api_url}/invoices | {_READ_ID}); echo $ID"
    yield f"{post} -d '{{}}' {api_url}/invoices/$ID/issue; echo"
    if not platform.cost_payment_ids:
        yield "# (The customer has no payments of 300.00 and 200.00 left to pay it with.)"
        return
    parts = " ".join(str(cost_payment_id) for cost_payment_id in platform.cost_payment_ids)
    body = '"{\\"costPaymentId\\": \\"$PART\\"}"'
    pay = f"{post} -d {body} {api_url}/invoices/$ID/record-payment"
    yield f"for PART in {parts}; do {pay}; echo; done"
