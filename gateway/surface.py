"""How a function becomes an MCP tool: lean schemas, every mistake in the arguments named, every failure a result.

FastMCP's own function tools answer bad arguments with a validator's raw text, the value and a link, and put titles,
nullable unions and its own metadata into every schema; hence this subclass of its public `Tool`.
"""

import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any, get_type_hints

import pydantic_core
from fastmcp.apps.config import UI_EXTENSION_ID
from fastmcp.server.dependencies import get_context
from fastmcp.tools.base import InputRequiredToolResult, Tool, ToolResult
from mcp.types import ElicitRequest, ElicitRequestURLParams, InputRequiredResult, TextContent, ToolAnnotations
from mcp.types import Tool as MCPTool
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, BeforeValidator, ConfigDict, PrivateAttr, ValidationError, create_model

from gateway import observing
from gateway.allowed import calls, must_be_allowed
from gateway.audit import Told
from gateway.callers import Caller, calling
from gateway.core import Gateway
from gateway.requests import LONGEST, admitted, request_id
from providers import Provider
from schemas import InvalidRequest, NotConnected, OutcomeUnknown, ProviderDown, SchedulingError
from schemas.problems import problems

log = logging.getLogger(__name__)

READ = ToolAnnotations(read_only_hint=True, open_world_hint=True)
ADD = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
CHANGE = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)
# Called twice they make two.
ADD_EACH_TIME = ADD.model_copy(update={"idempotent_hint": False})
CHANGE_EACH_TIME = CHANGE.model_copy(update={"idempotent_hint": False})


@dataclass(frozen=True)
class App:
    """A page that some clients show beside an answer; `shown` is what it shows, as metadata of the answer."""

    uri: str
    shown: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Spec:
    """A tool function: after the gateway its parameters are the arguments; its docstring is the description."""

    function: Callable[..., Awaitable[BaseModel]]
    title: str
    annotations: ToolAnnotations
    app: "App | None" = None

    @property
    def name(self) -> str:
        return self.function.__name__

    @cached_property
    def arguments(self) -> type[BaseModel]:
        hints = get_type_hints(self.function, include_extras=True)
        fields: dict[str, Any] = {}
        for name, parameter in list(inspect.signature(self.function).parameters.items())[1:]:
            required = parameter.default is inspect.Parameter.empty
            kind = hints[name] if required else Annotated[hints[name], BeforeValidator(_absent(parameter.default))]
            fields[name] = (kind, ... if required else parameter.default)
        return create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        return lean(self.arguments.model_json_schema())

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        model: type[BaseModel] = get_type_hints(self.function)["return"]
        schema: dict[str, Any] = _open(lean(model.model_json_schema(mode="serialization")))
        return schema


class GatewayTool(Tool):
    _spec: Spec = PrivateAttr()
    _gateway: Gateway = PrivateAttr()

    @classmethod
    def of(cls, spec: Spec, gateway: Gateway) -> "GatewayTool":
        tool = cls(
            name=spec.name,
            title=spec.title,
            description=_described(spec, gateway.adapters),
            parameters=spec.input_schema,
            output_schema=spec.output_schema,
            annotations=spec.annotations,
        )
        tool._spec, tool._gateway = spec, gateway
        return tool

    def seen_by(self, who: Caller) -> "GatewayTool":
        """As it is described to a caller: what is said of accounts that are not theirs is left out."""
        if who.policy.accounts is None:
            return self
        mine = {name: each for name, each in self._gateway.adapters.items() if who.policy.may_use(name)}
        seen = self.model_copy(update={"description": _described(self._spec, mine)})
        seen._spec, seen._gateway = self._spec, self._gateway
        return seen

    def to_mcp_tool(self, **overrides: Any) -> MCPTool:
        """As FastMCP does, without its bookkeeping in `_meta`: a model has to read it."""
        app = self._spec.app
        meta = {"ui": {"resourceUri": app.uri}} if app else None
        return super().to_mcp_tool(**({"_meta": meta} | overrides))

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """The answer, or the failure, as a result, within the limits of its caller and of time; written down before, if
        the audit keeps such calls."""
        is_read = bool(self._spec.annotations.read_only_hint)
        with observing.calling(self.name) as call:
            try:
                who = calls(self._gateway)
                with calling(who), self._gateway.clock.within(LONGEST):
                    answer = partial(self._answer, arguments, who)
                    made = await self._gateway.audit.call(
                        self.name, answer, told, is_read=is_read, request=request_id()
                    )
                    return call.answered(made)
            except TimeoutError:
                # A write goes on to its end all the same, and the journal says what came of it.
                what = f"This took longer than {LONGEST:.0f} seconds and was given up."
                return call.answered(failure(self._lost(what)))
            except SchedulingError as error:
                return call.answered(failure(error))

    def _lost(self, what: str) -> SchedulingError:
        if self._spec.annotations.read_only_hint:
            return ProviderDown(f"{what} Nothing was changed.")
        return OutcomeUnknown(f"{what} It may have happened: look before trying again.")

    async def _answer(self, arguments: dict[str, Any], who: Caller) -> ToolResult:
        """The only place where errors become results."""
        try:
            with admitted(who.name):
                must_be_allowed(self._gateway, who, self.name)
                values = self._validated(arguments)
                if not self._gateway.is_open:
                    await self._gateway.open()
                answer = await self._spec.function(self._gateway, **values)
        except SchedulingError as error:
            link = await self._gateway.connecting.explained(error)
            return asking(error, link) or failure(error)
        except Exception as error:
            log.exception("%s failed in a way nobody foresaw", self.name)
            return failure(self._lost(f"The gateway failed ({type(error).__name__}); {observing.more()}."))
        # Both by pydantic in one go: FastMCP would walk the answer twice more.
        result = _result(pydantic_core.to_jsonable_python(answer, exclude_none=True))
        if self._spec.app is not None and get_context().client_supports_extension(UI_EXTENSION_ID):
            result.meta = self._spec.app.shown(answer)
        return result

    def _validated(self, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            model = self._spec.arguments.model_validate(arguments)
        except ValidationError as error:
            raise InvalidRequest(" ".join(map(self._explained, problems(error, arguments)))) from None
        return {name: getattr(model, name) for name in self._spec.arguments.model_fields}

    def _explained(self, problem: str) -> str:
        name = problem.partition(":")[0].partition(".")[0].partition("[")[0]
        known: Mapping[str, Any] = self.parameters["properties"]
        if name not in known:
            return f"{problem[:100]}: this tool takes {', '.join(known) or 'no arguments'}."
        takes = known[name].get("description")
        return f"{problem} (takes: {takes})." if takes else f"{problem}."


def asking(error: SchedulingError, link: str | None) -> ToolResult | None:
    """The client asked to open the link for its user, where it can do that and was not asked already."""
    if link is None or not isinstance(error, NotConnected):
        return None
    context = get_context()
    if context.request_context is None or context.input_responses is not None:
        return None
    can = context.session.client_capabilities
    is_modern = context.request_context.protocol_version in MODERN_PROTOCOL_VERSIONS
    if not is_modern or can is None or can.elicitation is None or can.elicitation.url is None:
        return None
    message = f"The account {error.account} is not connected. Connect it in the browser, then go on."
    asked = ElicitRequest(params=ElicitRequestURLParams(message=message, url=link))
    return InputRequiredToolResult(InputRequiredResult(input_requests={"connect": asked}))


def told(result: ToolResult) -> Told:
    """What the audit has of a result."""
    said = result.structured_content or {}
    if isinstance(result, InputRequiredToolResult):
        return Told(NotConnected.code)
    return Told(said["code"], account=said.get("account")) if result.is_error else Told(id=said.get("id"))


def failure(error: SchedulingError) -> ToolResult:
    """An error as a tool result: text for the model, the same in fields for programs."""
    said: dict[str, Any] = {"code": error.code, "account": error.account, "message": error.message}
    if error.retry_after is not None:
        said["retry_after"] = -int(-error.retry_after // 1)
    if error.details:
        said["details"] = dict(error.details)
    content = [TextContent(type="text", text=str(error))]
    fields = {name: value for name, value in said.items() if value is not None}
    return ToolResult(content=content, structured_content=fields, is_error=True)


def lean(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema with references put in place, and without titles and nulls (an absent value is left out)."""
    definitions = schema.pop("$defs", {})

    def slim(node: Any) -> Any:
        if isinstance(node, list):
            return [slim(item) for item in node]
        if not isinstance(node, dict):
            return node
        if reference := node.get("$ref"):
            return slim({**definitions[reference.rpartition("/")[2]], **{k: v for k, v in node.items() if k != "$ref"}})
        out: dict[str, Any] = {}
        for key, value in node.items():
            if key in ("title", "$defs") or (key == "default" and value in (None, [], {})):
                continue
            if key == "properties":
                out[key] = {name: slim(each) for name, each in value.items()}
            elif key == "anyOf":
                kinds = [slim(kind) for kind in value if kind != {"type": "null"}]
                out.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})
            else:
                out[key] = slim(value)
        return out

    slimmed: dict[str, Any] = slim(schema)
    slimmed.pop("description", None)
    return slimmed


def _open(schema: Any) -> Any:
    """An answer may grow: no `additionalProperties`, and no docstrings of ours; what is said of a field stays."""
    if isinstance(schema, list):
        return [_open(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    is_object = "properties" in schema
    return {
        key: {name: _open(each) for name, each in value.items()} if key == "properties" else _open(value)
        for key, value in schema.items()
        if not (key == "additionalProperties" and value is False) and not (is_object and key == "description")
    }


def as_json(value: Any) -> Any:
    """For lists and objects: some models send them as JSON in a string."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _absent(default: Any) -> Callable[[Any], Any]:
    """Null and an empty text count as not given: models fill in what they do not need."""
    return lambda value: default if value is None or value == "" else value


def _described(spec: Spec, adapters: Mapping[str, type[Provider]]) -> str:
    return inspect.cleandoc(spec.function.__doc__ or "") + _notes(spec.name, adapters)


def _notes(operation: str, adapters: Mapping[str, type[Provider]]) -> str:
    """What these accounts cannot do here, or do with a reservation."""
    lines: dict[str, list[str]] = {}
    for account, adapter in adapters.items():
        for said, word in ((adapter.gaps, "cannot"), (adapter.caveats, "note")):
            for each, text in said.items():
                if each.operation == operation and (each == operation or operation not in adapter.gaps):
                    part = f" {each.partition('.')[2]}" if each != operation else ""
                    lines.setdefault(f"{word}{part}: {text}", []).append(account)
    return "".join(f"\n{', '.join(accounts)} {line}" for line, accounts in lines.items())


def _result(structured: dict[str, Any]) -> ToolResult:
    text = pydantic_core.to_json(structured).decode()
    return ToolResult(content=[TextContent(type="text", text=text)], structured_content=structured)
