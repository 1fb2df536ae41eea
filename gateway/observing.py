"""What is told of each call of a tool, and of each request to a service: a line in the log, a span, and measures."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter

from fastmcp.tools.base import InputRequiredToolResult, ToolResult
from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span

from gateway import telemetry
from gateway.callers import caller, parted
from gateway.requests import identified, request_id
from providers.watch import Exchange

log = logging.getLogger(__name__)

GONE = "gone"
"""The outcome of a call whose caller did not wait for it."""


@dataclass(slots=True)
class Call:
    """A call of a tool that goes on. `accounts` are those it asked so far."""

    tool: str
    accounts: set[str] = field(default_factory=set)
    outcome: str = GONE

    @property
    def account(self) -> str:
        """The one it was for; `*` if there were several, `-` if none."""
        return next(iter(self.accounts), "-") if len(self.accounts) < 2 else "*"

    def answered(self, result: ToolResult) -> ToolResult:
        told = result.structured_content if result.is_error else None
        self.outcome = "asks" if isinstance(result, InputRequiredToolResult) else str((told or {}).get("code", "ok"))
        return result


_call: ContextVar[Call | None] = ContextVar("call", default=None)


def current() -> Call | None:
    """The call that goes on."""
    return _call.get()


def asked(account: str) -> None:
    """The call that goes on asks this account."""
    if (call := _call.get()) is not None:
        call.accounts.add(account)


def more() -> str:
    """Where the log has more, for the end of a sentence."""
    return f"its log has more under request {id}" if (id := request_id()) else "its log has more"


@contextmanager
def calling(tool: str) -> Iterator[Call]:
    """A call of that tool goes on; what it came to is told when it is over."""
    if request_id() is None:
        with identified(), calling(tool) as call:
            yield call
        return
    call, begun = Call(tool), perf_counter()
    token = _call.set(call)
    try:
        yield call
    finally:
        took = perf_counter() - begun
        told = {"tool": tool, "account": call.account, "outcome": call.outcome}
        telemetry.CALLS.add(1, told)
        telemetry.CALL_DURATION.record(took, told)
        span = get_current_span()  # FastMCP's, `tools/call …`
        if span.is_recording():
            names = {"account": call.account, "outcome": call.outcome, "caller": caller().name.partition(":")[0]}
            span.set_attributes({f"scheduling_gateway.{name}": value for name, value in names.items()})
            span.set_attribute("scheduling_gateway.request_id", request_id() or "")
        if log.isEnabledFor(logging.INFO):
            log.info("call: %s", call.outcome, extra={"fields": {"outcome": call.outcome, "duration_ms": _ms(took)}})
        _call.reset(token)


@contextmanager
def watch(account: str, method: str, host: str) -> Iterator[Exchange]:
    """A request to a service goes on; how it fared is told when it is over."""
    exchange, begun = Exchange(parted(account)[0], method, host), perf_counter()
    names = {"http.request.method": method, "server.address": host, "scheduling_gateway.account": exchange.account}
    with telemetry.TRACER.start_as_current_span(
        # Neither path nor query, for they name people and bookings; nor what went wrong in the words of an error.
        method,
        kind=SpanKind.CLIENT,
        attributes=names,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        failed: str | None = None
        try:
            yield exchange
        except BaseException as error:
            failed = type(error).__name__
            raise
        finally:
            took, status = perf_counter() - begun, exchange.status
            told = {"account": exchange.account, "status": f"{status // 100}xx" if status else "none"}
            telemetry.REQUESTS.add(1, told)
            telemetry.REQUEST_DURATION.record(took, told)
            if status:
                span.set_attribute("http.response.status_code", status)
            if exchange.reference:
                span.set_attribute("scheduling_gateway.upstream_request_id", exchange.reference)
            if failed or (status or 0) >= 400:
                span.set_attribute("error.type", failed or str(status))
                span.set_status(Status(StatusCode.ERROR))
            if log.isEnabledFor(logging.INFO):
                fields = {
                    "account": exchange.account,
                    "method": method,
                    "host": host,
                    "status": status,
                    "error": failed,
                    "duration_ms": _ms(took),
                    "upstream_request_id": exchange.reference,
                }
                log.info("request: %s %s %s", method, host, failed or status, extra={"fields": fields})


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
