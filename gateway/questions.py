"""Whether the answers to an event type's questions will do, before anything is sent."""

import math
from collections.abc import Mapping, Sequence

from schemas import Answer, InvalidRequest, Question

_YES_NO = {"true": True, "yes": True, "false": False, "no": False}


def check_answers(questions: Sequence[Question], answers: Mapping[str, Answer]) -> None:
    """Raises InvalidRequest naming every answer that is missing, unknown or of the wrong kind."""
    known = {question.key: question for question in questions}
    wrong = [f"answers.{key}: is no question of this event type" for key in answers if key not in known]
    for key, question in known.items():
        answer = answers.get(key)
        if answer is None or answer in ("", ()):
            if question.required:
                wrong.append(f"answers.{key}: is required ({question.label}){_choice(question)}")
        elif trouble := _trouble(question, answer):
            wrong.append(f"answers.{key}: {trouble}")
    if wrong:
        keys = ", ".join(known) or "none"
        raise InvalidRequest(f"{'; '.join(wrong)}. The questions are: {keys}.")


def _trouble(question: Question, answer: Answer) -> str | None:
    given = answer if isinstance(answer, tuple) else (answer,)
    if question.type != "choices" and len(given) > 1:
        return "takes one answer"
    if question.options and any(str(each) not in question.options for each in given):
        return f"takes {' or '.join(question.options)}"
    if question.type == "number":
        try:
            number = float(str(given[0]))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            return "takes a number"
    if question.type == "boolean" and not isinstance(given[0], bool) and str(given[0]).lower() not in _YES_NO:
        return "takes true or false"
    return None


def _choice(question: Question) -> str:
    return f", one of {', '.join(question.options)}" if question.options else ""
