"""Event types that the gateway itself keeps, for services that have none of their own (`local`, Google Calendar).

They come from an account's configuration, where the tools only read them, or from `save_event_type`, in storage.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from providers.slots import Rules
from schemas import EventType, EventTypeChange, InvalidRequest, Line, Model, Prose, Question, QuestionType, Unsupported
from schemas.problems import checked

DAY_MINUTES = 24 * 60


def _slug(text: str) -> str:
    text = text.strip().lower()
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text) or len(text) > 80:
        raise ValueError("is written in a-z, 0-9 and single hyphens, at most 80 characters, like intro-call")
    return text


def _key(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", text):
        raise ValueError("is written in a-z, 0-9 and _, begins with a letter, 40 characters at most")
    return text


Slug = Annotated[str, AfterValidator(_slug)]


class Slugged(Model):
    """For a service whose slugs are written like ours."""

    slug: Slug


class OwnQuestion(Model):
    """A question as it is configured."""

    key: Annotated[str, AfterValidator(_key)]
    label: Line
    type: QuestionType = "text"
    required: bool = False
    options: tuple[Line, ...] = ()

    @model_validator(mode="after")
    def _offers_a_choice(self) -> Self:
        if (self.type in ("choice", "choices")) != bool(self.options):
            raise ValueError("options go with the types choice and choices, and those need some")
        return self


class OwnEventType(Model):
    """An event type and the rules its slots follow. `slot_step_minutes` defaults to the duration."""

    slug: Slug
    title: Line
    duration_minutes: int = Field(ge=1, le=DAY_MINUTES)
    description: Prose | None = None
    location: Line | None = None
    active: bool = True
    buffer_before_minutes: int = Field(0, ge=0, le=DAY_MINUTES)
    buffer_after_minutes: int = Field(0, ge=0, le=DAY_MINUTES)
    minimum_notice_minutes: int = Field(0, ge=0, le=365 * DAY_MINUTES)
    slot_step_minutes: int | None = Field(None, ge=1, le=DAY_MINUTES)
    booking_window_days: int | None = Field(None, ge=0, le=3650)
    max_per_day: int | None = Field(None, ge=1)
    requires_confirmation: bool = False
    questions: tuple[OwnQuestion, ...] = ()

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if len({question.key for question in self.questions}) < len(self.questions):
            raise ValueError("two questions have the same key")
        return self

    @property
    def rules(self) -> Rules:
        return Rules(
            duration=self.duration_minutes * 60,
            step=(self.slot_step_minutes or self.duration_minutes) * 60,
            buffer_before=self.buffer_before_minutes * 60,
            buffer_after=self.buffer_after_minutes * 60,
            minimum_notice=self.minimum_notice_minutes * 60,
            window_days=self.booking_window_days,
            max_per_day=self.max_per_day,
        )

    def shown(self, event_type_id: str) -> EventType:
        return EventType(
            id=event_type_id,
            title=self.title,
            slug=self.slug,
            description=self.description,
            durations_minutes=(self.duration_minutes,),
            active=self.active,
            locations=(self.location,) if self.location else (),
            questions=tuple(Question(**question.model_dump()) for question in self.questions),
            buffer_before_minutes=self.buffer_before_minutes,
            buffer_after_minutes=self.buffer_after_minutes,
            minimum_notice_minutes=self.minimum_notice_minutes,
        )

    def changed(self, change: EventTypeChange) -> "OwnEventType":
        return checked(OwnEventType, self.model_dump() | change.model_dump(exclude_none=True))


def made(change: EventTypeChange, taken: Sequence[str]) -> OwnEventType:
    """A new event type; its slug, where none is given, is made from the title and none of `taken`."""
    values: dict[str, Any] = change.model_dump(exclude_none=True)
    if "slug" not in values:
        values["slug"] = free_slug(values["title"], taken)
    return checked(OwnEventType, values)


def free_slug(title: str, taken: Collection[str]) -> str:
    """A slug made from a title, none of `taken`."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "meeting"
    return next(slug for slug in _numbered(base) if slug not in taken)


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        yield f"{base}-{number}"
        number += 1


def only_read(event_type_id: str) -> Unsupported:
    return Unsupported(
        f"The event type {event_type_id} is written in the gateway's configuration file. Change it there."
    )


def slug_in_use(slug: str) -> InvalidRequest:
    return InvalidRequest(f"slug: {slug} is another event type's. Choose another one, or leave it out.")


def distinct(event_types: tuple[OwnEventType, ...]) -> tuple[OwnEventType, ...]:
    """For configurations: ValueError if two share a slug."""
    slugs = [event_type.slug for event_type in event_types]
    for index, slug in enumerate(slugs):
        if (first := slugs.index(slug)) < index:
            raise ValueError(f"each slug names one event type, and [{first}] and [{index}] have the same")
    return event_types


OwnEventTypes = Annotated[tuple[OwnEventType, ...], AfterValidator(distinct)]
