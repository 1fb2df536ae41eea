"""OpenTelemetry: traces and metrics, sent where its standard environment variables say, and nowhere without them.

What is measured is named here. No measure has anything of a caller or an attendee: tools, accounts and outcomes alone.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

from opentelemetry import metrics, trace

from gateway.config import ConfigError

SERVICE = "scheduling-gateway"
EXPORTERS = ("otlp", "console", "none")
SIGNALS = ("TRACES", "METRICS")
INSTALL = (
    "install the gateway with its extra, as 'scheduling-gateway[opentelemetry]', or in a checkout '.[opentelemetry]'"
)

# In seconds: the SDK's own bounds are meant for milliseconds.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240)

# Without an SDK these do nothing; with one they begin to when it is set.
TRACER = trace.get_tracer("scheduling_gateway")
_meter = metrics.get_meter("scheduling_gateway")

CALLS = _meter.create_counter("scheduling_gateway.calls", "{call}", "Calls of tools")
CALL_DURATION = _meter.create_histogram(
    "scheduling_gateway.call.duration", "s", "How long they took", explicit_bucket_boundaries_advisory=BOUNDS
)
REQUESTS = _meter.create_counter("scheduling_gateway.upstream.requests", "{request}", "Requests to services")
REQUEST_DURATION = _meter.create_histogram(
    "scheduling_gateway.upstream.duration", "s", "How long they took", explicit_bucket_boundaries_advisory=BOUNDS
)
REFUSED = _meter.create_counter("scheduling_gateway.limits.refused", "{request}", "Requests and calls beyond a limit")
UNSETTLED = _meter.create_gauge(
    "scheduling_gateway.journal.unsettled", "{write}", "Writes of which it is not known what came of them"
)


def start(environ: Mapping[str, str] = os.environ) -> None:
    """Begin to trace and to measure, as far as the environment asks for it. Raises ConfigError."""
    wanted = _wanted(environ)
    if not wanted:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk  # noqa: F401 - whether it is there
    except ImportError:
        names = ", ".join(f"OTEL_{signal}_EXPORTER or an endpoint" for signal in wanted)
        raise ConfigError(
            [f"{names}: asks for OpenTelemetry, which is not installed: {INSTALL}, or unset the variable"]
        ) from None
    if exporter := wanted.get("TRACES"):
        _trace(exporter)
    if exporter := wanted.get("METRICS"):
        _measure(exporter)


def stop() -> None:
    """Send what is not sent yet."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        if (shutdown := getattr(provider, "shutdown", None)) is not None:
            shutdown()


def _wanted(environ: Mapping[str, str]) -> dict[str, str]:
    """Which exporter is asked for, by signal. An endpoint asks for `otlp`, for the signal that it is of or for both."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return {}
    wanted, mistakes = {}, []
    for signal in SIGNALS:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        implied = "otlp" if any(environ.get(name) for name in endpoints) else "none"
        exporter = environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() or implied
        if exporter not in EXPORTERS:
            mistakes.append(f"OTEL_{signal}_EXPORTER: must be one of {', '.join(EXPORTERS)}")
        elif exporter == "otlp" and (mistake := _protocol(environ, signal)):
            mistakes.append(mistake)
        elif exporter != "none":
            wanted[signal] = exporter
    if mistakes:
        raise ConfigError(sorted(set(mistakes)))
    return wanted


def _protocol(environ: Mapping[str, str], signal: str) -> str | None:
    """What is wrong with the protocol that is asked for."""
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name):
            return None if environ[name] == "http/protobuf" else f"{name}: must be http/protobuf; no other is built in"
    return None


def _resource() -> Any:
    from opentelemetry.sdk.resources import Resource

    from gateway.server import VERSION

    named = Resource.create({"service.version": VERSION})  # and what the environment says
    if str(named.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        named = named.merge(Resource({"service.name": SERVICE}))
    return named


def _trace(exporter: str) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    # On stderr: over stdio, stdout is for the protocol alone.
    sends = OTLPSpanExporter() if exporter == "otlp" else ConsoleSpanExporter(out=sys.stderr)
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(sends))
    trace.set_tracer_provider(provider)


def _measure(exporter: str) -> None:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

    sends = OTLPMetricExporter() if exporter == "otlp" else ConsoleMetricExporter(out=sys.stderr)
    reader = PeriodicExportingMetricReader(sends)
    metrics.set_meter_provider(MeterProvider([reader], resource=_resource(), shutdown_on_exit=False))
