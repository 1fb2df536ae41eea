"""`@behaviour(Feature.X)` says what a test proves, and turns it round for a provider that declares X a gap.

There the same call must be refused with the declared advice before anything is sent; and with the declaration taken
away the test must fail, or the gap is not a real one. (A test of what is refused anyway, `refusal=True`, cannot show
the latter.)
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from schemas import Feature, Unsupported
from tests.agent import Agent
from tests.stages import ACCOUNT, Stage

PROVEN: set[Feature] = set()

Test = Callable[..., Awaitable[None]]


def behaviour(*features: Feature, refusal: bool = False) -> Callable[[Test], Test]:
    if not refusal:
        PROVEN.update(features)

    def mark(test: Test) -> Test:
        @functools.wraps(test)
        async def run(agent: Agent, stage: Stage, **fixtures: Any) -> None:
            known = {"agent": agent, "stage": stage, **fixtures}
            wanted = {name: known[name] for name in inspect.signature(test).parameters}
            gaps = stage.adapter.gaps
            advice = [gaps[each] for feature in features for each in (feature.operation, feature) if each in gaps]
            if not advice:
                await test(**wanted)
                return
            await _refused(test, wanted, stage, advice)
            if not refusal:
                await _fails_undeclared(test, wanted, stage)

        # The wrapper asks for what the test asks for, and for what it needs itself.
        parameters = dict(inspect.signature(test).parameters)
        for name in ("agent", "stage"):
            parameters.setdefault(name, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY))
        keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters.values()]
        run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]  # pytest goes by it
        return run

    return mark


async def _refused(test: Test, wanted: dict[str, Any], stage: Stage, advice: list[str]) -> None:
    with pytest.raises(Unsupported) as refusal:
        await test(**wanted)
    assert any(each in refusal.value.message for each in advice)
    assert refusal.value.account == ACCOUNT
    assert not stage.world.writes, "refused, yet something was sent"
    assert not await stage.journaled(), "refused, yet journaled as a write"


async def _fails_undeclared(test: Test, wanted: dict[str, Any], stage: Stage) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.adapter, "gaps", {})
        with pytest.raises((Exception, pytest.fail.Exception)):
            await test(**wanted)
