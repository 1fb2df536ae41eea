"""Keys: made by the command, shown once, taken as long as they are good, and under the policy they were made for."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx2
import pytest
from sqlalchemy import select

from gateway.cli import main
from gateway.config import Config, ConfigError, load_config
from gateway.core import Gateway
from gateway.door import REMEMBERED
from gateway.keys import PREFIX, Key
from gateway.keys_command import _until
from gateway.serving import http
from providers.storage.tables import audit, journal, metadata
from schemas import InvalidRequest
from tests.keyed import LOCAL, Keyed
from tests.over_http import process
from tests.postgres import KINDS, databases
from tests.world import BEGIN, TEN

pytestmark = pytest.mark.anyio

GUEST = {"attendee_name": "Ben", "attendee_email": "ben@example.com"}
INTRO = {"slug": "intro", "title": "Intro call", "duration_minutes": 30}
HOME = {**LOCAL, "event_types": [INTRO]}
BOOKING = {"event_type_id": "home:intro", "start": TEN.isoformat(), **GUEST}
POLICIES = {"reading": {"tools": ["read"]}, "booking": {"tools": ["read", "book"]}}
ANYWHERE = "0.0.0.0"  # noqa: S104 - what is looked at here
EXPOSED = [{"host": ANYWHERE}, {"public_url": "https://sched.example.com"}]
SHAPE = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Shell:
    """The command, with a file and a database of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.file = folder / "config.yaml"
        self.configure()

    def configure(self, auth: Any = None, **settings: Any) -> None:
        auth = {"type": "keys", "policies": POLICIES} if auth is None else auth
        whole = {"accounts": {"home": HOME}, "storage": {"url": databases.newest_url(self.folder)}, **settings}
        self.file.write_text(json.dumps({**whole, "server": {**settings.get("server", {}), "auth": auth}}))

    def keys(self, *arguments: str) -> Said:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["keys", *arguments, "--config", str(self.file)])
        out, err = self._capsys.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    def add(self, name: str, *arguments: str) -> str:
        said = self.keys("add", name, *arguments)
        assert said.code == 0, said.err
        return said.out.strip()

    async def kept(self) -> list[Key]:
        gateway = self.gateway()
        await gateway.open()
        try:
            return await gateway.keys.all()
        finally:
            await gateway.close()

    def gateway(self) -> Gateway:
        return Gateway(self.config)

    @property
    def config(self) -> Config:
        return load_config(self.file)


@pytest.fixture(params=KINDS)
def shell(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    databases.kind = request.param
    try:
        yield Shell(tmp_path, capsys)
    finally:
        databases.kind = "sqlite"
        databases.drop()


on_sqlite = pytest.mark.parametrize("shell", ["sqlite"], indirect=True)


# The command


async def _everything(shell: Shell) -> str:
    """Every row of every table, and every byte of every file."""
    gateway = shell.gateway()
    await gateway.open()
    async with gateway.storage.read() as connection:
        rows = [str((await connection.execute(select(each))).all()) for each in metadata.sorted_tables]
    await gateway.close()
    files = [each.read_bytes().decode("latin-1") for each in shell.folder.iterdir() if each.is_file()]
    return "\n".join([*rows, *files])


def _in_thread(work: Any) -> Any:
    """The command has an event loop of its own."""
    return anyio.run(work)


def test_a_key_is_printed_once_and_is_to_be_found_nowhere_afterwards(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = shell.keys("add", "laptop", "--policy", "reading")
    key = made.out.strip()
    assert SHAPE.fullmatch(key), "alone on stdout, to be piped"
    assert key not in made.err
    assert "laptop" in made.err
    listed, revoked, again = shell.keys("list"), shell.keys("revoke", "laptop"), shell.keys("list")
    said = "".join(each.out + each.err for each in (listed, revoked, again))
    everything = _in_thread(lambda: _everything(shell))
    assert "laptop" in everything, "this looks where keys are kept"
    for secret in (key, key.removeprefix(PREFIX)):
        assert secret not in said + caplog.text + everything


def test_the_list_says_the_state_of_each(shell: Shell) -> None:
    assert "There are no keys" in shell.keys("list").out
    shell.add("laptop", "--policy", "reading", "--expires", "90d")
    shell.add("script")
    shell.keys("revoke", "script")
    rows = {line.split()[1]: line.split() for line in shell.keys("list").out.splitlines() if line.startswith("│")}
    assert rows["laptop"][3:6:2] == ["reading", "good"]
    assert rows["script"][3:6:2] == ["default", "revoked"]


def test_making_and_revoking_is_audited_by_name(shell: Shell) -> None:
    shell.add("laptop")
    shell.keys("revoke", "laptop")

    async def lines() -> list[tuple[str, str, str]]:
        gateway = shell.gateway()
        await gateway.open()
        async with gateway.storage.read() as connection:
            texts = list(await connection.scalars(select(audit.c.line).order_by(audit.c.at, audit.c.number)))
        await gateway.close()
        told = [json.loads(each) for each in texts]
        return [(each["tool"], each["reference"], each["caller"]) for each in told if "_key" in each["tool"]]

    assert _in_thread(lines) == [("add_key", "laptop", "local"), ("revoke_key", "laptop", "local")]


@pytest.mark.parametrize("after", ["live", "revoked"])
def test_a_name_is_never_given_twice(shell: Shell, after: str) -> None:
    shell.add("laptop")
    if after == "revoked":
        assert shell.keys("revoke", "laptop").code == 0
    again = shell.keys("add", "laptop")
    assert (again.code, again.out) == (2, "")
    assert "There is, or was, a key called laptop" in again.err


@on_sqlite
@pytest.mark.parametrize("name", ["Laptop", "a b", "-a", ".a", "a/b", "ä", "a" * 65, "a~b", "key:a"])
def test_a_name_that_will_not_do_is_refused(shell: Shell, name: str) -> None:
    said = shell.keys("add", "--", name) if name.startswith("-") else shell.keys("add", name)
    assert (said.code, said.out) == (2, "")
    assert _in_thread(shell.kept) == []


@on_sqlite
@pytest.mark.parametrize("name", ["a", "0", "a" * 64, "ana.laptop_2-x"])
def test_a_name_that_will_do_is_taken(shell: Shell, name: str) -> None:
    shell.add(name)
    assert [each.name for each in _in_thread(shell.kept)] == [name]


@on_sqlite
def test_a_policy_that_there_is_not_is_refused_with_those_that_there_are(shell: Shell) -> None:
    said = shell.keys("add", "laptop", "--policy", "raeding")
    assert (said.code, said.out) == (2, "")
    assert "--policy: must be one of default, reading, booking" in said.err
    assert _in_thread(shell.kept) == []


@on_sqlite
@pytest.mark.parametrize("auth", [{"type": "none"}, None])
def test_a_gateway_that_takes_no_keys_makes_none(shell: Shell, auth: Any) -> None:
    oauth = {
        "type": "oauth",
        "issuer": "https://login.example.com",
        "client_id": "x",
        "client_secret": "y",
        "policies": {"team": {"subjects": ["*"]}},
    }
    shell.configure(auth or oauth)
    said = shell.keys("add", "laptop")
    assert (said.code, said.out) == (2, "")
    assert "takes no keys" in said.err
    if auth is None:
        shell.configure({**oauth, "keys": True})
        assert SHAPE.fullmatch(shell.add("laptop"))


@on_sqlite
@pytest.mark.parametrize("expires", ["soon", "0d", "-1d", "90", "10000d", "2020-01-01", "2027-13-01", ""])
def test_an_end_that_will_not_do_is_refused(shell: Shell, expires: str) -> None:
    said = shell.keys("add", "laptop", f"--expires={expires}")
    assert (said.code, said.out, "--expires: " in said.err) == (2, "", True)
    assert _in_thread(shell.kept) == []


@on_sqlite
def test_what_there_is_not_cannot_be_revoked(shell: Shell) -> None:
    assert shell.keys("revoke", "laptop").code == 1
    shell.add("laptop")
    assert shell.keys("revoke", "laptop").code == 0
    assert shell.keys("revoke", "laptop").code == 1


def test_an_end_is_so_many_days_from_now_or_the_end_of_a_day() -> None:
    now = datetime(2030, 1, 6, 11, tzinfo=UTC)

    def ends(given: str) -> datetime:
        return datetime.fromtimestamp(_until(given, now) or 0, UTC)

    assert _until(None, now) is None
    assert ends("90d") == now + timedelta(days=90)
    assert ends("2030-01-31") == datetime(2030, 2, 1, tzinfo=UTC)
    assert ends("2030-01-06") == datetime(2030, 1, 7, tzinfo=UTC), "today is not over"
    with pytest.raises(ConfigError, match="in the past"):
        _until("2030-01-05", now)


# At the door


@pytest.fixture
def keyed(database: str, tmp_path: Path) -> Keyed:
    return Keyed(tmp_path, {"home": HOME}, POLICIES)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_who_has_a_key_comes_in_and_is_known_by_its_name(keyed: Keyed, mode: str) -> None:
    async with keyed.open() as at, at.agent(await at.key("laptop", "booking"), mode) as agent:
        assert "create_booking" in {each.name for each in await agent.client.list_tools()}
        assert (await agent.create_booking(**BOOKING))["status"] == "confirmed"
        async with at.gateway.storage.read() as connection:
            assert list(await connection.scalars(select(journal.c.caller))) == ["key:laptop"]


async def test_who_has_none_is_told_how_to_come_in(keyed: Keyed) -> None:
    async with keyed.open() as at:
        refusal = await at.asked()
        assert refusal.status_code == 401
        assert refusal.headers["www-authenticate"].startswith("Bearer")
        assert (await at.asked(await at.key("laptop"))).status_code == 200


async def test_what_is_no_key_of_ours_is_refused(keyed: Keyed) -> None:
    async with keyed.open() as at:
        key = await at.key("laptop")
        wrong = [f"{key}x", key[:-1], key.upper(), key.removeprefix(PREFIX), f"{PREFIX}{'A' * 43}", "x.y.z"]
        for each in wrong:
            refusal = await at.asked(each)
            assert (refusal.status_code, "www-authenticate" in refusal.headers) == (401, True)
            assert key not in refusal.text
        assert (await at.asked(key, scheme="Basic")).status_code == 401
        assert (await at.asked(key)).status_code == 200


async def test_a_key_in_an_address_is_not_taken(keyed: Keyed) -> None:
    async with keyed.open() as at:
        key = await at.key("laptop")
        for name in ("key", "token", "access_token", "api_key", "authorization"):
            assert (await at.asked(path=f"/mcp?{name}={key}")).status_code == 401
        async with httpx2.AsyncClient(follow_redirects=True) as browser:
            page = await browser.get(f"{at.url}/accounts?key={key}&access_token={key}")
            assert page.url.path == "/signin"


async def test_an_expired_key_is_refused_from_that_second_on(keyed: Keyed) -> None:
    async with keyed.open() as at:
        end = BEGIN + timedelta(days=1)
        key = await at.key("laptop", expires=int(end.timestamp()))
        assert (await at.asked(key)).status_code == 200
        at.clock.advance(timedelta(days=1) - timedelta(seconds=1))
        assert (await at.asked(key)).status_code == 200
        at.clock.advance(timedelta(seconds=1))
        assert (await at.asked(key)).status_code == 401


async def test_a_revoked_key_is_refused_when_what_is_remembered_of_it_is_over(keyed: Keyed) -> None:
    async with keyed.open() as at:
        key, other = await at.key("laptop"), await at.key("script")
        assert (await at.asked(key)).status_code == 200
        assert await at.gateway.keys.revoke("laptop")
        at.clock.advance(timedelta(seconds=REMEMBERED))
        assert (await at.asked(key)).status_code == 401
        assert (await at.asked(other)).status_code == 200


async def test_who_is_connected_while_a_key_is_revoked_is_out_with_the_next_call(keyed: Keyed) -> None:
    async with keyed.open() as at, at.agent(await at.key("laptop")) as agent:
        assert (await agent.list_accounts())["accounts"]
        await at.gateway.keys.revoke("laptop")
        at.clock.advance(timedelta(seconds=REMEMBERED))
        with pytest.raises(Exception, match=r"401|Unauthorized|error response"):
            await agent.list_accounts()


async def test_a_key_whose_policy_the_file_has_lost_is_refused_and_the_log_says_why(
    keyed: Keyed, caplog: pytest.LogCaptureFixture
) -> None:
    key, other = await keyed.key("laptop", "reading"), await keyed.key("script")
    await keyed.gateway.close()
    auth = keyed.config.server.auth.model_copy(update={"policies": {}})
    server = keyed.config.server.model_copy(update={"auth": auth})
    keyed.config = keyed.config.model_copy(update={"server": server})
    keyed.restarted()
    async with keyed.open() as at:
        assert (await at.asked(key)).status_code == 401
        assert (await at.asked(other)).status_code == 200, "`default` is always there"
    assert "laptop" in caplog.text
    assert "reading" in caplog.text
    assert key not in caplog.text


async def test_of_many_at_once_one_is_given_a_name(keyed: Keyed) -> None:
    await keyed.gateway.open()
    tried = await asyncio.gather(*(keyed.key("laptop") for _ in range(8)), return_exceptions=True)
    assert len([each for each in tried if isinstance(each, str)]) == 1
    assert len([each for each in tried if isinstance(each, InvalidRequest)]) == 7
    await keyed.gateway.close()


# Serving


@on_sqlite
@pytest.mark.parametrize("server", EXPOSED)
def test_nobody_is_served_where_strangers_could_come_in_unasked(shell: Shell, server: dict[str, str]) -> None:
    shell.configure({"type": "none"}, server=server)
    with pytest.raises(ConfigError, match="nobody has to sign in"):
        http(shell.config)


@on_sqlite
@pytest.mark.parametrize("server", EXPOSED)
def test_with_keys_it_is_served_there_and_lets_in_who_has_one(shell: Shell, server: dict[str, str]) -> None:
    shell.configure(server={**server, "port": 0})
    key = shell.add("laptop")
    with process(shell.file) as (_, url):
        url = url.replace(ANYWHERE, "127.0.0.1")
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        accept = {"Accept": "application/json, text/event-stream"}
        let_in = httpx2.post(f"{url}/mcp", json=call, headers={**accept, "Authorization": f"Bearer {key}"})
        assert (let_in.status_code, "find_slots" in let_in.text) == (200, True)
        assert httpx2.post(f"{url}/mcp", json=call, headers=accept).status_code == 401
    log = shell.file.with_name("log").read_text()
    assert key not in log
