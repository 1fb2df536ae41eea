"""`tools/list`, as each caller sees it."""

from collections.abc import Sequence

from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools.base import Tool
from mcp.types import ListToolsRequest

from gateway.allowed import calls
from gateway.core import Gateway
from gateway.surface import GatewayTool
from schemas import PolicyDenied


class OnlyWhatIsAllowed(Middleware):
    """Lists the tools that who asks may use, with what is said of their accounts."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def on_list_tools(
        self, context: MiddlewareContext[ListToolsRequest], call_next: CallNext[ListToolsRequest, Sequence[Tool]]
    ) -> Sequence[Tool]:
        tools = await call_next(context)
        try:
            who = calls(self._gateway)
        except PolicyDenied:
            return []
        if who.policy.is_over(self._gateway.clock.now()):
            return []
        allowed = [tool for tool in tools if tool.name in who.policy.allowed]
        return [tool.seen_by(who) if isinstance(tool, GatewayTool) else tool for tool in allowed]
