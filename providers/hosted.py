"""The base of every adapter that speaks to a vendor's hosted MCP server in place of its REST API.

A hosted server offers the same operations as tools: the adapter still names an operation of the REST API, which is
placed into a tool's arguments here, and the tool's answer is given back as the REST API would. So both faces of a
service share the mapping, the retries, the pace and the names of failures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import httpx2

from providers.base import AccountConfig, Services
from providers.rest import RestProvider, Url, said
from providers.upstream import STATED, Told, Tools, ToolsChanged, Upstream
from schemas import Unsupported


class HostedConfig(AccountConfig):
    """Keys of every account that is reached through a hosted MCP server."""

    url: Url


@dataclass(frozen=True, slots=True)
class Operation:
    """What the REST API would be asked."""

    method: str
    path: str
    params: Mapping[str, Any]
    body: Any = None


class HostedProvider(RestProvider):
    Config: ClassVar[type[AccountConfig]] = HostedConfig

    def __init__(self, account: str, config: AccountConfig, services: Services) -> None:
        super().__init__(account, config, services)
        self._upstream = Upstream(self.address, self._http, partial(services.watch, account))

    @property
    def address(self) -> str:
        return str(self.config.url)

    async def close(self) -> None:
        await self._upstream.close()
        await super().close()

    def place(self, operation: Operation, tools: Tools) -> tuple[str, dict[str, Any]]:
        """The tool that does this, and its arguments. Raises Unsupported if the server has none."""
        raise NotImplementedError

    def status(self, error: Mapping[str, Any]) -> int | None:
        """The HTTP status of the REST API's error that a tool answered with; None if it cannot be told."""
        stated = error.get("statusCode", error.get("status"))
        return stated if isinstance(stated, int) and 400 <= stated < 600 else None

    def is_error(self, told: Told) -> bool:
        """Whether the tool failed."""
        return told.is_error

    def lacking(self, tool: str) -> Unsupported:
        return Unsupported(
            f"{self.title}'s MCP server has no tool {tool}, or it takes other arguments by now. Update the gateway, or "
            "configure the account with `via: api`.",
            account=self.account,
        )

    async def _exchange(self, method: str, path: str, **request: Any) -> httpx2.Response:
        operation = Operation(method, path, request.get("params") or {}, request.get("json"))
        try:
            told = await self._upstream.call(lambda tools: self.place(operation, tools))
        except ToolsChanged as changed:
            raise self.lacking(changed.tool) from None
        asked = httpx2.Request(method, httpx2.URL(self.address).join(path))
        if told.refused is not None:
            return _answer(told.refused.status_code, told.refused.headers, told.refused.content, asked)
        if not self.is_error(told):
            return _answer(200, told.headers, told.text, asked)
        stated = STATED.match(told.text)
        error = told.text[told.text.find(b"{") :] if b"{" in told.text else told.text
        status = self.status(said(_answer(500, {}, error, asked))) or (int(stated[1]) if stated else 500)
        return _answer(status, told.headers, error, asked)


def _answer(status: int, headers: Mapping[str, str], content: bytes, request: httpx2.Request) -> httpx2.Response:
    # The length and the encoding were those of the envelope.
    kept = {name: value for name, value in headers.items() if "ratelimit" in name or name == "retry-after"}
    return httpx2.Response(status, headers=kept, content=content, request=request)
