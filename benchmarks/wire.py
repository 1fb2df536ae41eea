"""Raw clients, so that what is measured is the server: newline-framed stdio, and HTTP over kept connections."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

HANDSHAKE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": HANDSHAKE["clientInfo"],
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True)
class Call:
    tool: str
    arguments: dict[str, Any]


class Stdio:
    """One server process, spoken to line by line."""

    def __init__(self, command: Sequence[str], **environment: Any) -> None:
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **environment
        )
        self._id = 0
        self.ask("initialize", HANDSHAKE)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdout is not None
        self._id += 1
        self._send({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        while True:
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
            if answer.get("id") == self._id:
                return result_of(answer)

    def call(self, call: Call) -> dict[str, Any]:
        return self.ask("tools/call", {"name": call.tool, "arguments": call.arguments})

    def close(self) -> None:
        self._process.communicate(timeout=30)


def result_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The result; an error, of either kind, ends the measurement."""
    result: dict[str, Any] = answer["result"]
    if result.get("isError"):
        sys.exit(f"the server answered with an error: {result['content'][0]['text']}")
    return result


async def http_rate(
    port: int, calls: Call | Iterable[Call], connections: int, seconds: float, key: str | None = None
) -> tuple[float, float]:
    """Calls a second over that many connections, and the median time of a call in milliseconds; until there is none."""
    requests: Iterator[bytes]
    if isinstance(calls, Call):
        requests = repeat(_request(port, calls, key))
    else:
        requests = (_request(port, call, key) for call in calls)
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end and (request := next(requests, None)) is not None:
            writer.write(request)
            must_be_fine(await _answer(reader))
            times.append(time.perf_counter() - start)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return len(times) / (time.perf_counter() - started), statistics.median(times) * 1e3


def must_be_fine(body: bytes) -> None:
    """An error ends the measurement, for it comes sooner than an answer; parsing each would take from the server."""
    if b'"isError":true' in body or b'"error":{' in body:
        result_of(json.loads(body))


async def http_once(port: int, call: Call) -> dict[str, Any]:
    """One call, over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_request(port, call))
    body = await _answer(reader)
    writer.close()
    return result_of(json.loads(body))


def _request(port: int, call: Call, key: str | None = None) -> bytes:
    params = {"name": call.tool, "arguments": call.arguments, "_meta": META}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    shown = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json, text/event-stream\r\n"
        f"Content-Type: application/json\r\nMCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\n"
        f"Mcp-Name: {call.tool}\r\n{shown}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next((line for line in head.split("\r\n") if line.startswith("content-length:")), None)
    if not head.startswith("http/1.1 200") or length is None:
        sys.exit(f"the server answered {head.splitlines()[0]}")
    return await reader.readexactly(int(length.partition(":")[2]))
