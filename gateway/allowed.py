"""What who calls may do: the tools that are listed, and the refusal of the others."""

from typing import TYPE_CHECKING

from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools.base import Tool
from mcp.types import ListToolsRequest

from gateway.callers import LOCAL, Caller
from gateway.policy import Policy
from schemas import PolicyDenied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.core import Gateway


class OnlyWhatIsAllowed(Middleware):
    """`tools/list` has the tools that who asks may use."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def on_list_tools(
        self, context: MiddlewareContext[ListToolsRequest], call_next: CallNext[ListToolsRequest, "Sequence[Tool]"]
    ) -> "Sequence[Tool]":
        tools = await call_next(context)
        try:
            policy = calls(self._gateway).policy
        except PolicyDenied:
            return []
        allowed = frozenset() if policy.is_over(self._gateway.clock.now()) else policy.allowed
        return [tool for tool in tools if tool.name in allowed]


def calls(gateway: "Gateway") -> Caller:
    """Who makes the call that is answered now. Raises PolicyDenied."""
    return LOCAL if gateway.door is None else gateway.door.caller()


def must_be_allowed(gateway: "Gateway", who: Caller, tool: str) -> None:
    """Raises PolicyDenied, with what is allowed instead."""
    policy = who.policy
    if policy.is_over(gateway.clock.now()):
        raise PolicyDenied("Your access has ended. Ask whoever runs this gateway.")
    if tool not in policy.allowed:
        raise PolicyDenied(f"You may not use {tool}: {_said(policy)}. Nothing was sent. Do not try it in another way.")


def _said(policy: Policy) -> str:
    if policy.read_only:
        return "your access is read-only"
    return f"your access is for {', '.join(policy.tools) or 'no tools'}"
