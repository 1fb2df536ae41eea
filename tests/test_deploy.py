"""The files for deployment agree with the gateway and with each other. That they run is not shown here."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from cryptography.fernet import Fernet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.cli import app as cli
from gateway.config import Config, parse_config
from gateway.core import DRAIN, Gateway
from gateway.server import build_app, build_server
from gateway.serving import http_server, listen
from tests.loopback import served

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
WAYS = ("compose", "kubernetes", "systemd")
CONFIG_PATH = "/etc/scheduling-gateway/config.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::[?-][^}]*)?\}")
SECRETS = {
    "PUBLIC_URL": "https://sched.example.com",
    "GATEWAY_ENCRYPTION_KEY": Fernet.generate_key().decode(),
    "POSTGRES_PASSWORD": "a1b2c3",
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def compose() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(read("deploy/compose.yaml"))
    return made


def replicas() -> list[str]:
    return [name for name in compose()["services"] if name.startswith("gateway")]


def kubernetes(kind: str) -> dict[str, Any]:
    [found] = [each for each in yaml.safe_load_all(read("deploy/kubernetes.yaml")) if each["kind"] == kind]
    made: dict[str, Any] = found
    return made


def pod() -> dict[str, Any]:
    made: dict[str, Any] = kubernetes("Deployment")["spec"]["template"]["spec"]
    return made


def container() -> dict[str, Any]:
    [made] = pod()["containers"]
    return dict(made)


def unit() -> dict[str, list[str]]:
    """What the unit says; a name may stand several times."""
    said: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", read("deploy/scheduling-gateway.service"), re.MULTILINE):
        said.setdefault(name, []).append(value)
    return said


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions."""
    text = re.sub(r"\\\n|^#.*\n", "", read("Dockerfile"), flags=re.MULTILINE)
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line]


def last_stage() -> dict[str, str]:
    lines = dockerfile()
    begin = max(number for number, (word, _) in enumerate(lines) if word == "FROM")
    return dict(lines[begin:])


def nginx() -> list[tuple[str, str]]:
    """Its directives, blocks left aside."""
    text = re.sub(r"#.*", "", read("deploy/nginx.conf"))
    said = [each.strip().partition(" ") for each in re.findall(r"([^;{}]+);", text)]
    return [(name, value.strip()) for name, _, value in said]


def directive(name: str) -> str:
    [value] = [value for each, value in nginx() if each == name]
    return value


def filled(text: str, values: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda match: values[match[1]], text)


def given(way: str) -> tuple[str, dict[str, str]]:
    """The configuration that a gateway is given there, and the environment it reads."""
    if way == "kubernetes":
        database = {"DATABASE_URL": "postgresql://gateway:a1b2c3@db.example.com:5432/gateway?sslmode=require"}
        environ = {each["name"]: each.get("value") or (SECRETS | database)[each["name"]] for each in container()["env"]}
        return kubernetes("ConfigMap")["data"]["config.yaml"], environ
    if way == "compose":
        environment = compose()["services"][replicas()[0]]["environment"]
        return read("deploy/config.yaml"), {name: filled(value, SECRETS) for name, value in environment.items()}
    own = dict(each.split("=", 1) for each in unit()["Environment"])
    return read("deploy/config.yaml"), own | {name: SECRETS[name] for name in examples() & SECRETS.keys()}


def examples() -> set[str]:
    return set(re.findall(r"^(\w+)=", read("deploy/.env.example"), re.MULTILINE))


def seconds(said: str) -> float:
    return float(said.removesuffix("s"))


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return parse_config(
        "accounts: {home: {provider: local}}\nstorage: {url: 'sqlite:///gateway.db'}", {}, folder=tmp_path
    )


# The configuration


@pytest.mark.parametrize("way", WAYS)
def test_the_gateway_takes_the_configuration_of_each_deployment(tmp_path: Path, way: str) -> None:
    text, environ = given(way)
    config = parse_config(text, environ, folder=tmp_path)
    assert config.server.public_url == "https://sched.example.com"
    assert (config.server.port, config.server.path) == (8080, "/mcp")
    assert str(config.server.auth.type) == "keys"
    assert config.storage.encryption_key is not None
    assert config.storage.url.startswith("sqlite" if way == "systemd" else "postgresql")


def test_all_deployments_are_configured_by_the_same_file() -> None:
    assert kubernetes("ConfigMap")["data"]["config.yaml"] == read("deploy/config.yaml")


def test_every_variable_has_an_example_and_no_secret_is_written_down() -> None:
    assert set(VARIABLE.findall(read("deploy/compose.yaml"))) <= examples() | {"LISTEN"}
    assert "LISTEN" in read("deploy/README.md")
    written = dict(re.findall(r"^(\w+)=(.*)$", read("deploy/.env.example"), re.MULTILINE))
    assert {name for name, value in written.items() if value} == {"PUBLIC_URL"}
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY", name):
                assert VARIABLE.fullmatch(value), name
            elif name == "DATABASE_URL":
                assert re.match(rf"postgresql://gateway:{VARIABLE.pattern}@", value)
    for each in container()["env"]:
        assert ("valueFrom" in each) == (each["name"] != "PUBLIC_URL")
    storage = yaml.safe_load(read("deploy/config.yaml"))["storage"]
    assert all(VARIABLE.fullmatch(value) for value in storage.values())


def test_the_configuration_is_where_the_gateway_looks_for_it() -> None:
    assert f"SCHEDULING_GATEWAY_CONFIG={CONFIG_PATH}" in last_stage()["ENV"].split()
    assert f"SCHEDULING_GATEWAY_CONFIG={CONFIG_PATH}" in unit()["Environment"]
    for name in replicas():
        assert compose()["services"][name]["volumes"] == [f"./config.yaml:{CONFIG_PATH}:ro"]
    [mount] = [each for each in container()["volumeMounts"] if each["name"] == "config"]
    assert f"{mount['mountPath']}/{next(iter(kubernetes('ConfigMap')['data']))}" == CONFIG_PATH


# Several gateways


def test_replicas_differ_by_name_alone() -> None:
    services = [compose()["services"][name] for name in replicas()]
    assert len(services) > 1
    assert all(service == services[0] for service in services)
    assert {"DATABASE_URL", "GATEWAY_ENCRYPTION_KEY"} <= services[0]["environment"].keys()
    assert kubernetes("Deployment")["spec"]["replicas"] > 1
    assert kubernetes("PodDisruptionBudget")["spec"]["minAvailable"] < kubernetes("Deployment")["spec"]["replicas"]


def test_the_proxy_gives_requests_to_every_gateway_in_turn() -> None:
    servers = [value.split()[0] for name, value in nginx() if name == "server"]
    assert servers == [f"{name}:8080" for name in replicas()]
    assert set(compose()["services"]["proxy"]["depends_on"]) == set(replicas())
    assert not {"ip_hash", "hash", "sticky", "least_conn", "random"} & {name for name, _ in nginx()}
    assert kubernetes("Service")["spec"]["sessionAffinity"] == "None"


def test_the_proxy_repeats_no_write_and_holds_no_answer_back(settings: Config) -> None:
    assert directive("proxy_next_upstream").split() == ["error", "timeout"]
    assert (directive("proxy_buffering"), directive("proxy_http_version")) == ("off", "1.1")
    assert "Host $http_host" in [value for name, value in nginx() if name == "proxy_set_header"]
    # A connection that a gateway is about to close is not used for a write.
    server = http_server(build_server(Gateway(settings)), settings)
    assert seconds(directive("keepalive_timeout")) < server.config.timeout_keep_alive


def test_the_proxy_logs_no_links() -> None:
    assert directive("access_log") == "off"
    assert directive("error_log").split()[1] in ("crit", "alert", "emerg")


# What is watched, and the end


async def test_what_is_probed_is_there(settings: Config) -> None:
    app = build_app(build_server(Gateway(settings)), settings.server)
    found = {name: probe["httpGet"] for name, probe in container().items() if name.endswith("Probe")}
    assert {name: probe["path"] for name, probe in found.items()} == {
        "startupProbe": "/health",
        "livenessProbe": "/health",
        "readinessProbe": "/ready",
    }
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://10.0.0.7:8080") as kubelet:
        for probe in found.values():
            headers = [(each["name"], each["value"]) for each in probe["httpHeaders"]]
            answer = await kubelet.get(probe["path"], headers=headers)
            assert answer.status_code in (200, 503), probe["path"]


@pytest.mark.parametrize("status", [200, 503, None])
def test_the_health_check_of_the_image_says_whether_it_answers(status: int | None) -> None:
    _, _, written = last_stage()["HEALTHCHECK"].partition("CMD ")
    python, *command = json.loads(written)
    assert python == "python"

    async def health(_: Request) -> Response:
        return Response(status_code=status or 500)

    def ends_with(port: int) -> int:
        asked = [each.replace("8080", str(port)) for each in command]
        return subprocess.run([sys.executable, *asked], capture_output=True, timeout=30, check=False).returncode

    if status is None:
        with listen("127.0.0.1", 0) as free:
            nobody = free.getsockname()[1]
        assert ends_with(nobody) != 0
        return
    with served(Starlette(routes=[Route("/health", health)])) as url:
        assert (ends_with(httpx2.URL(url).port or 0) == 0) == (status == 200)


def test_a_stop_waits_for_writes_under_way() -> None:
    waits = pod()["terminationGracePeriodSeconds"] - int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    stops = [seconds(compose()["services"][name]["stop_grace_period"]) for name in replicas()]
    assert min(waits, *stops, seconds(unit()["TimeoutStopSec"][0])) >= DRAIN + 10


def test_ports_are_the_same_everywhere() -> None:
    assert last_stage()["EXPOSE"] == "8080"
    assert directive("listen") == "8080"
    assert [each.rpartition(":")[2] for each in compose()["services"]["proxy"]["ports"]] == ["8080"]
    [port] = container()["ports"]
    assert port == {"name": "http", "containerPort": 8080}
    [service] = kubernetes("Service")["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    assert {probe["httpGet"]["port"] for name, probe in container().items() if name.endswith("Probe")} == {"http"}


# The image


def hidden(path: str) -> bool:
    """Whether .dockerignore keeps that from Docker: the last line that fits it, or a folder it is in, decides."""
    parts = Path(path).parts
    found = False
    for line in read(".dockerignore").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(pattern, "/".join(parts[:upto])) for upto in range(1, len(parts) + 1)):
            found = not line.startswith("!")
    return found


def copied() -> list[str]:
    """What the Dockerfile copies from here."""
    lines = [rest.split()[:-1] for word, rest in dockerfile() if word == "COPY" and not rest.startswith("--from")]
    return [each for line in lines for each in line]


def test_the_image_gets_what_the_wheel_is_made_of() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {*packages, "pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    assert set(copied()) == needed | {"constraints.txt"}
    files = [path.relative_to(ROOT) for package in packages for path in (ROOT / package).rglob("*") if path.is_file()]
    assert {"gateway/cli.py", "gateway/pages/templates/base.html"} <= {path.as_posix() for path in files}
    for path in [*files, *map(Path, copied())]:
        assert hidden(path.as_posix()) == ("__pycache__" in path.parts), path


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".env",
        "deploy/.env",
        "config.yaml",
        "gateway.db",
        "gateway.key",
        "gateway/gateway.db",
        "gateway/gateway.db-wal",
        "providers/storage/gateway.key",
        "gateway/.env",
        "gateway/__pycache__/core.cpython-313.pyc",
        "tests/agent.py",
        ".venv/bin/python",
    ],
)
def test_the_image_gets_nothing_that_only_lies_about(path: str) -> None:
    assert hidden(path)


def test_in_the_image_nobody_is_root_and_nothing_is_built() -> None:
    stage = last_stage()
    user, _, group = stage["USER"].partition(":")
    context = pod()["securityContext"]
    assert (int(user), int(group)) == (context["runAsUser"], context["runAsGroup"])
    assert int(user) > 0
    assert context["runAsNonRoot"] is True
    assert not re.search("pip|apt-get|COPY [^-]", stage["RUN"])
    assert stage["COPY"].startswith("--from=build")
    bases = [rest.split()[0] for word, rest in dockerfile() if word == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1, "what was installed by one Python is run by another"
    version = re.search(r"python:(\d\.\d+)-slim", bases[0])
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in read("pyproject.toml")


def test_the_image_serves_and_listens_to_others() -> None:
    stage = last_stage()
    assert json.loads(stage["ENTRYPOINT"]) == ["scheduling-gateway"]
    assert "scheduling-gateway" in tomllib.loads(read("pyproject.toml"))["project"]["scripts"]
    command, bound, _ = cli.parse_args(json.loads(stage["CMD"]), exit_on_error=False, print_error=False)
    assert (command.__name__, bound.arguments) == ("serve", {"host": "0.0.0.0"})  # noqa: S104 - nothing listens


# Rights


def test_containers_can_gain_no_rights_and_write_nothing() -> None:
    for name in [*replicas(), "proxy"]:
        service = compose()["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["automountServiceAccountToken"] is False


def test_only_gateways_reach_the_database_and_only_the_proxy_is_published() -> None:
    services = compose()["services"]
    assert {name for name, each in services.items() if "ports" in each} == {"proxy"}
    [network] = services["database"]["networks"]
    assert compose()["networks"][network]["internal"] is True
    assert {name for name, each in services.items() if network in each["networks"]} == {"database", *replicas()}


def test_the_service_of_systemd_has_no_rights_and_one_folder() -> None:
    said = {name: values[-1] for name, values in unit().items()}
    for name in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices"):
        assert said[name] == "yes"
    assert (said["ProtectSystem"], said["CapabilityBoundingSet"]) == ("strict", "")
    folder = f"/var/lib/{said['StateDirectory']}"
    assert f"DATABASE_URL=sqlite:///{folder}/gateway.db" in unit()["Environment"]
    assert said["ExecStart"].split()[1:] == ["serve"]
    assert (said["Restart"], said["RestartPreventExitStatus"]) == ("on-failure", "2")
    assert "User" not in said


def test_objects_of_kubernetes_find_each_other() -> None:
    deployment = kubernetes("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [deployment["selector"], kubernetes("PodDisruptionBudget")["spec"]["selector"]]
    assert [each["matchLabels"] for each in selectors] == [labels, labels]
    assert kubernetes("Service")["spec"]["selector"] == labels
    volumes = {each["name"]: each for each in pod()["volumes"]}
    assert {each["name"] for each in container()["volumeMounts"]} == volumes.keys()
    assert volumes["config"]["configMap"]["name"] == kubernetes("ConfigMap")["metadata"]["name"]
    kinds = {each["kind"]: each["apiVersion"] for each in yaml.safe_load_all(read("deploy/kubernetes.yaml"))}
    assert kinds == {
        "ConfigMap": "v1",
        "Service": "v1",
        "Deployment": "apps/v1",
        "PodDisruptionBudget": "policy/v1",
    }
