"""The commands as a person types them: what they print, where, and their exit codes."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway import demo
from gateway.cli import main
from gateway.server import VERSION


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    code = end.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("accounts: {home: {provider: local, time_zone: Europe/Berlin}}\nstorage: {url: 'sqlite:///g.db'}\n")
    return path


def test_help_names_the_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    for word in ("serve", "check", "demo", "130"):
        assert word in out
    assert run("serve", "--help") == 0
    assert "--legacy" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == VERSION


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("serve", "--transport", "smoke-signals"),
        ("serve", "--port", "many"),
        ("serve", "--port", "70000"),
        ("serve", "--legacy"),
        ("serve", "--transport", "stdio", "--port", "1"),
        ("serve", "--host", "0.0.0.0"),  # noqa: S104 - it is refused
        ("serve", "--config", "nowhere.yaml"),
        ("check", "--config", "nowhere.yaml"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err


def test_check_names_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("accounts: {home: {provider: loca1}}\nserver: {prot: 1}\n")
    assert run("check", "--config", str(path)) == 2
    err = capsys.readouterr().err
    assert "2 mistakes" in err
    assert "accounts.home.provider" in err
    assert "server.prot" in err


def test_check_says_who_and_what_not(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--config", str(file)) == 0
    out = capsys.readouterr().out
    for word in ("home", "ready", "Europe/Berlin", "create_scheduling_link", "no e-mail"):
        assert word in out


def test_check_offline_touches_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--offline", "--config", str(file)) == 0
    assert "home" in capsys.readouterr().out
    assert not (file.parent / "g.db").exists()


@pytest.mark.parametrize(("auth", "code"), [("none", 2), ("keys", 0)])
@pytest.mark.parametrize("offline", [["--offline"], []])
def test_check_says_whether_it_would_be_served_where_others_can_reach_it(
    file: Path, capsys: pytest.CaptureFixture[str], auth: str, code: int, offline: list[str]
) -> None:
    server = f"server: {{public_url: 'https://sched.example.com', auth: {{type: {auth}}}}}\n"
    file.write_text(file.read_text() + server)
    assert run("check", *offline, "--config", str(file)) == code
    assert ("will not start" in capsys.readouterr().out) == (code == 2)


@pytest.mark.parametrize(("owner", "code"), [("owner: caller,", 0), ("", 1)])
def test_check_does_not_miss_a_consent_that_each_caller_gives(
    file: Path, capsys: pytest.CaptureFixture[str], owner: str, code: int
) -> None:
    work = f"  work: {{provider: calendly, via: mcp, {owner} auth: {{type: oauth}}}}\n"
    home = "  home: {provider: local, time_zone: Europe/Berlin}\n"
    file.write_text(f"accounts:\n{home}{work}storage: {{url: 'sqlite:///g.db'}}\n")
    assert run("check", "--config", str(file)) == code
    assert "work: needs connection" in capsys.readouterr().out


def test_a_storage_that_does_not_open_ends_with_1(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "g.db").write_bytes(b"no database" * 100)
    for command in (("check",), ("serve", "--port", "0")):
        assert run(*command, "--config", str(file)) == 1
        assert "no database" in capsys.readouterr().err


def test_the_demo_books_moves_and_cancels_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run("demo") == 0
    out = capsys.readouterr().out
    for word in ("list_accounts", "find_slots", "slot_taken", "reschedule_booking", "cancelled", "Nothing is left"):
        assert word in out
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_goes_wrong_does_not_end_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo._Demo, "_show", lambda self, booking: self._must(False, "shown"))
    assert run("demo") == 1
    assert "went wrong" in capsys.readouterr().err


def hear_interrupts() -> None:
    """A run of the tests in the background has them ignored, and its children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@pytest.mark.parametrize("options", [[], ["--legacy"]])
def test_stdio_ends_when_told_to_though_its_client_holds_on(
    file: Path, number: signal.Signals, code: int, options: list[str]
) -> None:
    command = [sys.executable, "-m", "gateway", "serve", "--transport", "stdio", "--config", str(file), *options]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        preexec_fn=hear_interrupts,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert "home (local)" in process.stderr.readline()
        process.stdin.write(
            '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
            '"capabilities":{},"clientInfo":{"name":"test","version":"1"}}}\n'
        )
        process.stdin.flush()
        assert '"serverInfo"' in process.stdout.readline()
        process.send_signal(number)
        assert process.wait(timeout=30) == code


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_serve_prints_what_to_paste_and_ends_with_130_when_interrupted(file: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(file), "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        preexec_fn=hear_interrupts,
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert process.poll() is None, "".join(lines)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    text = "".join(lines)
    assert "http://127.0.0.1:" in text
    assert "claude mcp add --transport http" in text
    assert "home (local)" in text
    assert '"mcpServers"' in text
    assert out == ""
    assert process.returncode == 130
