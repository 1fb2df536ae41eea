"""A few hundred hostile requests at a gateway in a process of its own; `make torture` sends ten thousand."""

from pathlib import Path
from typing import Any

import pytest

from tests.hostile import KINDS, MARK, Case, Hostile, Target
from tests.siege import Siege, guarded_siege, siege

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]

SEED, REQUESTS = 20261120, 20 * len(KINDS)
TARGET = Target(
    "127.0.0.1:1", [{"name": "a", "inputSchema": {"properties": {"b_id": {}}}, "annotations": {}}], ["/{x}"]
)
POST, GET = b"POST /mcp HTTP/1.1\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("place", [siege, guarded_siege], ids=["open", "by key"])
async def test_hostile_requests_neither_break_it_nor_get_a_secret_out(place: Any, tmp_path: Path) -> None:
    async with place(tmp_path) as attacked:
        assert await attacked.play(Hostile(SEED, attacked.target), range(REQUESTS)) == []
        await attacked.is_well()
        assert attacked.afterwards() == []
        asked = sum(attacked.statuses.values())
        done = sum(n for (_, told), n in attacked.statuses.items() if told.endswith("done"))
        assert asked >= REQUESTS
        assert done > 0, "none of them got as far as a tool"


def test_a_request_is_the_same_each_time_and_each_kind_has_its_turn() -> None:
    cases = [Hostile(1, TARGET).case(number) for number in range(200)]
    assert cases == [Hostile(1, TARGET).case(number) for number in range(200)]
    assert cases != [Hostile(2, TARGET).case(number) for number in range(200)]
    assert {case.kind for case in cases[: len(KINDS)]} == KINDS.keys()


def test_whoever_may_come_in_attacks_with_what_lets_them_in() -> None:
    target = Target(TARGET.host, TARGET.tools, TARGET.routes, headers={"Authorization": "Bearer a-key"})
    cases = [Hostile(1, target).case(number) for number in range(len(KINDS))]
    assert sum(b"Authorization: Bearer a-key" in case.sent for case in cases) > len(KINDS) // 2


def answer(status: int = 200, body: bytes = b"", headers: bytes = b"") -> bytes:
    length = f"content-length: {len(body)}\r\n".encode()
    return b"HTTP/1.1 %d X\r\n%s%s\r\n%s" % (status, length, headers, body)


HTML = b"content-type: text/html\r\n"


@pytest.mark.parametrize(("shown", "wrong"), [(b"", 1), (b"Authorization: Bearer a-key\r\n", 0)])
def test_a_tool_that_a_stranger_could_call_would_be_told(shown: bytes, wrong: int) -> None:
    nobody: Any = None
    target = Target(TARGET.host, TARGET.tools, TARGET.routes, headers={"Authorization": "Bearer a-key"})
    case = Case(1, "ids", b"POST /mcp HTTP/1.1\r\n" + shown + b"\r\n")
    called = answer(body=b'{"result":{"structuredContent":{}}}')
    assert len(list(Siege(nobody, (), (b"k3y",), target).problems(case, called))) == wrong


@pytest.mark.parametrize(
    ("sent", "raw", "wrong"),
    [
        (GET, answer(), 0),
        (GET, b"", 1),
        (GET, answer(500), 1),
        (GET, answer() + answer(500), 1),
        (GET, answer(body=b"a k3y b"), 1),
        (GET, answer(headers=b"set-cookie: k3y\r\n"), 1),
        (POST, answer(body=b'{"error":{"code":-32603}}'), 1),
        (POST, answer(body=b'{"error":{"code":-32602}}'), 0),
        (POST, answer(body=b"Traceback (most recent call last)"), 1),
        (
            POST,
            answer(body=b'{"message":"Validation error: 2 validation errors for union[JSONRPCRequest] pydantic"}'),
            0,
        ),
        (POST, answer(body=b"[provider_down] The gateway failed (KeyError); its log has more."), 1),
        (GET, answer(body=MARK.encode(), headers=HTML), 1),
        (GET, answer(body=MARK.encode()), 0),
        (GET, answer(303, headers=b"location: /accounts\r\n"), 0),
        (GET, answer(303, headers=b"location: //evil.example\r\n"), 1),
        (GET, answer(303, headers=b"location: http://127.0.0.1:1/x\r\n"), 0),
        (GET, answer(303, headers=b"location: https://evil.example/\r\n"), 1),
        (GET, answer(headers=b"x-injected: yes\r\n"), 1),
        (b"HEAD /connect/work HTTP/1.1\r\n\r\n", answer(503), 0),
        (b"HEAD /signin?a=b HTTP/1.1\r\n\r\n", answer(503), 0),
        (b"HEAD /accounts HTTP/1.1\r\n\r\n", answer(503), 1),
        (b"GET /connect/work HTTP/1.1\r\n\r\n", answer(503), 1),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(sent: bytes, raw: bytes, wrong: int) -> None:
    nobody: Any = None
    attacked = Siege(nobody, (), (b"k3y",), TARGET)
    assert len(list(attacked.problems(Case(1, "framing", sent), raw))) == wrong
