"""An AI client as the tests see it: tools by name, answers as plain data, failures as the errors they are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastmcp import Client, FastMCP
from fastmcp.utilities.tests import asgi_server

from gateway.server import build_server
from schemas import ERRORS, SchedulingError
from tests.stage import Stage

TRANSPORTS = ("memory", "http", "http-legacy")
"""In process; HTTP in the stateless era of 2026-07-28; HTTP in the era of the handshake."""


class Agent:
    """`await agent.find_slots(…)` calls that tool through a real MCP client. Raises the error the answer names."""

    def __init__(self, client: Client[Any]) -> None:
        self.client = client

    def __getattr__(self, tool: str) -> Any:
        async def call(**arguments: Any) -> Any:
            result = await self.client.call_tool(tool, arguments, raise_on_error=False)
            answer = result.structured_content
            if result.is_error:
                raise named(answer, getattr(result.content[0], "text", ""))
            return answer

        return call


def named(answer: dict[str, Any] | None, text: str) -> SchedulingError:
    """The error that a result is; its text and its fields say the same."""
    assert answer is not None, text
    error = ERRORS[answer["code"]](
        answer["message"],
        account=answer.get("account"),
        retry_after=answer.get("retry_after"),
        details=answer.get("details"),
    )
    assert text == str(error)
    return error


@asynccontextmanager
async def connected(server: FastMCP[Any], transport: str = "memory") -> AsyncIterator[Agent]:
    """An agent at that server, over that transport."""
    if transport == "memory":
        async with Client(server) as client:
            yield Agent(client)
        return
    async with (
        asgi_server(server, stateless_http=True, host_origin_protection=True, allowed_hosts=["testserver"]) as app,
        app.client(mode="legacy" if transport == "http-legacy" else "auto") as client,
    ):
        yield Agent(client)


@asynccontextmanager
async def after_a_restart(stage: Stage) -> AsyncIterator[Agent]:
    """An agent at the gateway of that stage as the next process has it."""
    await stage.gateway.close()
    async with connected(build_server(stage.restarted())) as agent:
        yield agent
