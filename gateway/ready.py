"""`/ready`: whether requests may be sent here, and in which state the accounts are; no service is asked."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.allowed import calls, must_be_allowed
from gateway.callers import calling
from gateway.connecting import consent_of
from gateway.requests import front
from schemas import PolicyDenied, SchedulingError

if TYPE_CHECKING:
    from gateway.core import Gateway
    from providers import Provider

PATIENCE = 5.0
"""How long the database may take to answer, in seconds."""


def routes(gateway: "Gateway") -> list[Route]:
    async def ready(_: Request) -> JSONResponse:
        is_draining = (through := front()) is not None and through.is_draining
        is_kept = await _answers(gateway)
        is_audited = not gateway.audit.failing
        told: dict[str, object] = {
            "storage": "ok" if is_kept else "failing",
            "audit": "ok" if is_audited else "failing",
            "draining": is_draining,
        }
        try:
            who = calls(gateway)
            must_be_allowed(gateway, who, "list_accounts")
            with calling(who):
                told["accounts"] = await _accounts(gateway)
        except PolicyDenied:
            pass  # where one has to sign in, accounts are told to who has
        return JSONResponse(told, 200 if is_kept and is_audited and not is_draining else 503)

    return [Route("/ready", ready, methods=["GET"])]


async def _answers(gateway: "Gateway") -> bool:
    """Whether the database does; one that is not open yet does not."""
    if not gateway.is_open:
        return False
    from sqlalchemy import text

    try:
        with gateway.clock.within(PATIENCE):
            async with gateway.storage.read() as connection:
                await connection.execute(text("SELECT 1"))
    except (SchedulingError, TimeoutError):
        return False
    return True


async def _accounts(gateway: "Gateway") -> dict[str, str]:
    if not gateway.is_open:
        return dict.fromkeys(gateway.config.accounts, "unknown")
    states: dict[str, str] = {}
    names = list(gateway.accounts)
    try:
        with gateway.clock.within(PATIENCE):
            for name, provider in gateway.accounts.items():
                states[name] = await _state(provider)
    except TimeoutError:
        pass
    return dict.fromkeys(names, "unknown") | states


async def _state(provider: "Provider") -> str:
    """As far as it is known here: whether there is a consent, where it takes one."""
    client = consent_of(provider)
    if client is None:
        return "configured"
    try:
        return "ready" if await client.is_connected() else "needs_connection"
    except SchedulingError:
        return "unknown"
