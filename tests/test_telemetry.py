"""What is traced and measured, as a collector receives it; and that nothing is without being asked for."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import telemetry
from gateway.config import ConfigError
from schemas import NotFound, RateLimited
from tests import loopback
from tests.emulators import calcom
from tests.emulators.wire import TOKEN
from tests.over_http import agent, configured, process
from tests.world import TEN, Clock, World

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
CLIENT, SERVER = 3, 2


class Collector:
    """What an OpenTelemetry collector is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.resources: list[dict[str, Any]] = []
        self.raw = b""
        self._lock = threading.Lock()
        self.app = Starlette(
            routes=[
                Route("/v1/traces", self._traces, methods=["POST"]),
                Route("/v1/metrics", self._metrics, methods=["POST"]),
            ]
        )

    async def _traces(self, request: Request) -> Response:
        body = await request.body()
        with self._lock:
            self.raw += body
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(group.resource))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return Response(media_type="application/x-protobuf")

    async def _metrics(self, request: Request) -> Response:
        body = await request.body()
        with self._lock:
            self.raw += body
            for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(attributes(group.resource))
                self.metrics |= {each.name: each for scope in group.scope_metrics for each in scope.metrics}
        return Response(media_type="application/x-protobuf")

    def counted(self, name: str) -> dict[tuple[Any, ...], float]:
        """How much of a counter there is, by the values of its attributes in their order by name."""
        return {key(point): point.as_int for point in self.metrics[name].sum.data_points}

    def timed(self, name: str) -> dict[tuple[Any, ...], int]:
        return {key(point): point.count for point in self.metrics[name].histogram.data_points}


def attributes(of: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


def key(point: Any) -> tuple[Any, ...]:
    return tuple(value for _, value in sorted(attributes(point).items()))


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def world() -> World:
    return World(Clock())


def added(file: Path, name: str) -> str:
    """A key of that name."""
    command = [sys.executable, "-m", "gateway", "keys", "add", name, "--config", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def used(folder: Path, world: World, **environ: str) -> None:
    """A gateway that is asked for event types, for a booking that is not there, and once too often; and then ends."""
    world.book("intro", TEN, "nora@secret.example", name="Nora Unspeakable")
    with loopback.served(calcom.app(world)) as service:
        file = configured(folder, service, server={"limits": {"per_minute": 3}})
        with process(file, **environ) as (running, url):
            async with agent(url, headers={"X-Request-ID": "mine-1"}) as client:
                await client.list_event_types()
                await client.list_bookings(attendee_email="nora@secret.example")
                with pytest.raises(NotFound):
                    await client.get_booking(booking_id="team:n0t-there")
                with pytest.raises(RateLimited):
                    await client.list_event_types()
            running.terminate()
            assert running.wait(timeout=60) == 0, (folder / "log").read_text()


async def test_a_collector_is_told_of_calls_and_of_what_they_asked(
    tmp_path: Path, world: World, collector: Collector
) -> None:
    with loopback.served(collector.app) as address:
        await used(tmp_path, world, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_RESOURCE_ATTRIBUTES="stage=test")

    by_name = {span.name: span for span in collector.spans if span.kind == SERVER}
    call = by_name["tools/call list_bookings"]
    told = {name: value for name, value in attributes(call).items() if name.startswith("scheduling_gateway.")}
    assert told == {
        "scheduling_gateway.account": "team",
        "scheduling_gateway.outcome": "ok",
        "scheduling_gateway.caller": "local",
        "scheduling_gateway.request_id": "mine-1",
    }
    assert attributes(by_name["tools/call get_booking"])["scheduling_gateway.outcome"] == "not_found"

    asked = [span for span in collector.spans if span.kind == CLIENT and span.parent_span_id == call.span_id]
    assert asked
    for span in asked:
        assert (span.name, span.trace_id) == ("GET", call.trace_id)
        assert attributes(span) == {
            "http.request.method": "GET",
            "server.address": "127.0.0.1",
            "http.response.status_code": 200,
            "scheduling_gateway.account": "team",
        }
    failed = [span for span in collector.spans if attributes(span).get("http.response.status_code") == 404]
    assert [(attributes(span)["error.type"], span.status.code, span.status.message) for span in failed] == [
        ("404", 2, "")
    ]

    # In the order of the attributes' names: account, outcome, tool; account, status.
    calls = {
        ("team", "ok", "list_event_types"): 1,
        ("team", "ok", "list_bookings"): 1,
        ("team", "not_found", "get_booking"): 1,
        ("-", "rate_limited", "list_event_types"): 1,
    }
    assert collector.counted("scheduling_gateway.calls") == calls
    assert collector.timed("scheduling_gateway.call.duration") == calls
    clients = [span for span in collector.spans if span.kind == CLIENT]
    requests = collector.counted("scheduling_gateway.upstream.requests")
    assert requests == {("team", "2xx"): len(clients) - 1, ("team", "4xx"): 1}
    assert collector.timed("scheduling_gateway.upstream.duration") == requests
    assert collector.counted("scheduling_gateway.limits.refused") == {("per_minute",): 1}
    [unsettled] = collector.metrics["scheduling_gateway.journal.unsettled"].gauge.data_points
    assert unsettled.as_int == 0

    for resource in collector.resources:
        assert (resource["service.name"], resource["stage"]) == ("scheduling-gateway", "test")
    for secret in (TOKEN, "nora@", "Unspeakable", "n0t-there"):
        assert secret.encode() not in collector.raw, secret


async def test_a_collector_is_not_told_whose_key_it_was(tmp_path: Path, world: World, collector: Collector) -> None:
    with loopback.served(calcom.app(world)) as service, loopback.served(collector.app) as address:
        file = configured(tmp_path, service, server={"auth": {"type": "keys"}})
        key = added(file, "laptop-of-nora")
        with process(file, OTEL_EXPORTER_OTLP_ENDPOINT=address) as (running, url):
            async with agent(url, headers={"Authorization": f"Bearer {key}"}) as client:
                await client.list_event_types()
            running.terminate()
            assert running.wait(timeout=60) == 0, (tmp_path / "log").read_text()
    assert "tools/call list_event_types" in {span.name for span in collector.spans}
    for secret in (key, "nora"):
        assert secret
        assert secret.encode() not in collector.raw


async def test_a_service_has_the_name_that_the_environment_gives_it(
    tmp_path: Path, world: World, collector: Collector
) -> None:
    with loopback.served(collector.app) as address:
        await used(
            tmp_path,
            world,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{address}/v1/traces",
            OTEL_METRICS_EXPORTER="none",
            OTEL_SERVICE_NAME="meetings",
        )
    assert {resource["service.name"] for resource in collector.resources} == {"meetings"}
    assert (bool(collector.spans), collector.metrics) == (True, {})


@pytest.mark.parametrize("disabled", ["TRUE"])
async def test_disabled_means_that_nothing_is_sent(
    tmp_path: Path, world: World, collector: Collector, disabled: str
) -> None:
    with loopback.served(collector.app) as address:
        await used(
            tmp_path,
            world,
            OTEL_EXPORTER_OTLP_ENDPOINT=address,
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_SDK_DISABLED=disabled,
        )
    assert (collector.raw, collector.spans) == (b"", [])


async def test_a_collector_that_is_down_is_no_trouble(tmp_path: Path, world: World) -> None:
    await used(tmp_path, world, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")


def test_over_stdio_the_console_exporter_leaves_stdout_to_the_protocol(tmp_path: Path) -> None:
    run = started(
        "serve",
        "--transport",
        "stdio",
        folder=tmp_path,
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="console",
        input='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
        '"capabilities":{},"clientInfo":{"name":"test","version":"1"}}}\n',
    )
    assert run.returncode == 0, run.stderr
    [line] = run.stdout.splitlines()
    assert '"serverInfo"' in line
    assert '"name": "initialize"' in run.stderr


def started(*command: str, folder: Path, input: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        input=input,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_being_asked_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, gateway.serving; from gateway import telemetry; telemetry.start({}); telemetry.stop(); "
        "print(*(name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_asked_for_and_not_installed_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(ConfigError) as caught:
        telemetry.start({"OTEL_TRACES_EXPORTER": "otlp"})
    assert "scheduling-gateway[opentelemetry]" in str(caught.value)
    assert "OTEL_TRACES_EXPORTER" in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, "OTEL_METRICS_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)
def test_what_is_not_built_in_is_refused_by_its_name(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        telemetry.start(environ)
    assert [mistake.partition(":")[0] for mistake in caught.value.mistakes] == [named]


def test_a_mistake_in_the_environment_ends_the_start(tmp_path: Path) -> None:
    run = started("serve", "--port", "0", folder=tmp_path, OTEL_TRACES_EXPORTER="zipkin")
    assert (run.returncode, "OTEL_TRACES_EXPORTER" in run.stderr) == (2, True)
    assert "Traceback" not in run.stderr
