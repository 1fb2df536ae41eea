"""Answers to an event type's questions: what will do, and what is named when it will not."""

from typing import Any

import pytest

from gateway.questions import check_answers
from schemas import InvalidRequest, Question

QUESTIONS = (
    Question(key="company", label="Company", required=True),
    Question(key="seats", label="Seats", type="number"),
    Question(key="remote", label="Remote?", type="boolean"),
    Question(key="size", label="Size", type="choice", required=True, options=("S", "M")),
    Question(key="days", label="Days", type="choices", options=("Mon", "Tue")),
)
GOOD: dict[str, Any] = {"company": "ACME", "size": "M"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"seats": 3},
        {"seats": "3.5"},
        {"remote": True},
        {"remote": "no"},
        {"days": ("Mon", "Tue")},
        {"days": "Mon"},
        {"seats": ""},
    ],
)
def test_an_answer_of_the_right_kind_will_do(more: dict[str, Any]) -> None:
    check_answers(QUESTIONS, GOOD | more)


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        ({"size": "M"}, "answers.company"),
        (GOOD | {"company": " ", "size": ""}, "answers.size"),
        (GOOD | {"seats": "many"}, "answers.seats"),
        (GOOD | {"remote": "perhaps"}, "answers.remote"),
        (GOOD | {"size": "XL"}, "S or M"),
        (GOOD | {"size": ("S", "M")}, "takes one answer"),
        (GOOD | {"days": ("Mon", "Sun")}, "answers.days"),
        (GOOD | {"shoe": "44"}, "answers.shoe"),
    ],
)
def test_an_answer_that_will_not_do_is_named(answers: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_answers(QUESTIONS, answers)
    assert named in error.value.message


def test_every_wrong_answer_is_named_at_once() -> None:
    with pytest.raises(InvalidRequest) as error:
        check_answers(QUESTIONS, {"shoe": "44", "seats": "many"})
    for name in ("shoe", "seats", "company", "size"):
        assert f"answers.{name}" in error.value.message
    assert "S, M" in error.value.message
