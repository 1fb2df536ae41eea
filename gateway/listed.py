"""`tools/list`, as each caller sees it."""

from collections.abc import Sequence
from contextlib import nullcontext

from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools.base import Tool
from mcp.shared.exceptions import MCPError
from mcp.types import ListToolsRequest

from gateway.allowed import calls
from gateway.core import Gateway
from gateway.limits import Limits
from gateway.requests import front
from gateway.surface import GatewayTool, failure
from schemas import PolicyDenied, SchedulingError

REFUSED = -32000
"""JSON-RPC's code for an error of a server's own; a list has no other way to say that it is one too many."""


class OnlyWhatIsAllowed(Middleware):
    """Lists the tools that who asks may use, with what is said of their accounts."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # Not those of calls: a client looks at the list to check the answer of a call that is over, and would lose it
        # where calls are used up, or at a stop (mcp 2.3, 2026-11).
        self._limits = Limits(gateway.config.server.limits, gateway.clock)

    async def on_list_tools(
        self, context: MiddlewareContext[ListToolsRequest], call_next: CallNext[ListToolsRequest, Sequence[Tool]]
    ) -> Sequence[Tool]:
        try:
            who = calls(self._gateway)
        except PolicyDenied:
            return []
        try:
            with nullcontext() if front() is None else self._limits.admitted(who.name):
                tools = await call_next(context)
        except SchedulingError as error:
            raise MCPError(REFUSED, str(error), failure(error).structured_content) from None
        if who.policy.is_over(self._gateway.clock.now()):
            return []
        allowed = [tool for tool in tools if tool.name in who.policy.allowed]
        return [tool.seen_by(who) if isinstance(tool, GatewayTool) else tool for tool in allowed]
