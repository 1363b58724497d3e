"""`accounting token`: a token as the platform would sign it, for tests and operators."""

from __future__ import annotations

import click

from accounting.actor import Role
from accounting.api.schemas import parse_id
from accounting.api.tokens import make_token
from accounting.clock import utc_now
from accounting.settings import load_settings

ROLES = [Role.ADMIN.value, Role.SUPER_ADMIN.value, Role.CLIENT.value]


@click.command()
@click.option("--user-id", required=True, help="The platform user's id, 24 hex digits.")
@click.option("--role", required=True, type=click.Choice(ROLES), help="The user's role.")
@click.option("--ttl", default=3600, show_default=True, help="Seconds until it expires.")
def token(user_id: str, role: str, ttl: int) -> None:
    """Print a token signed with ACCOUNTING_JWT_SECRET."""
    secret = load_settings().require_jwt_secret()
    click.echo(make_token(secret, parse_id("user-id", user_id), Role(role), utc_now(), ttl))
