"""What `schemas` promises of every model, text, hour, error and feature, whoever uses them."""

import inspect
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, TypeAdapter, ValidationError

import schemas
from providers import Provider
from schemas import (
    ERRORS,
    Attendee,
    Booking,
    BookingRequest,
    BusyTime,
    DateOverrides,
    Email,
    EventType,
    Feature,
    InvalidRequest,
    Line,
    Model,
    Outsider,
    Prose,
    Question,
    Schedule,
    ScheduleChange,
    SchedulingError,
    TimeRange,
    WeeklyHours,
    ZoneName,
    errors,
    local_readings,
    weekday,
)
from schemas.hours import minutes, written
from schemas.problems import checked, problems
from schemas.text import shown

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def read(kind: Any, value: object) -> Any:
    return TypeAdapter(kind).validate_python(value)


def refusal(kind: Any, value: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        read(kind, value)
    return problems(caught.value, value)


# Hours.


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {}),
        ({"monday": []}, {"monday": ()}),
        ({"monday": ["09:00-17:00"]}, {"monday": ("09:00-17:00",)}),
        ({"monday": "09:00-17:00"}, {"monday": ("09:00-17:00",)}),
        ({"monday": ["13:00-17:00", "09:00-12:00"]}, {"monday": ("09:00-12:00", "13:00-17:00")}),
        ({"monday": ["09:00-12:00", "12:00-17:00"]}, {"monday": ("09:00-12:00", "12:00-17:00")}),
        ({"monday": ["00:00-24:00"]}, {"monday": ("00:00-24:00",)}),
        ({"monday": [" 09:00 – 17:00 "]}, {"monday": ("09:00-17:00",)}),
        ({" Monday": ["09:00-17:00"]}, {"monday": ("09:00-17:00",)}),
    ],
)
def test_weekly_hours_are_kept_in_one_spelling(given: object, kept: object) -> None:
    assert read(WeeklyHours, given) == kept


def test_weekly_hours_are_kept_in_the_order_of_the_week() -> None:
    assert list(read(WeeklyHours, {"sunday": [], "monday": [], "thursday": []})) == ["monday", "thursday", "sunday"]


RANGES = [
    pytest.param(["09:00-12:00", "11:59-13:00"], id="overlapping"),
    pytest.param(["09:00-17:00", "10:00-11:00"], id="one within the other"),
    pytest.param(["09:00-17:00", "09:00-17:00"], id="the same twice"),
    pytest.param(["17:00-09:00"], id="end before start"),
    pytest.param(["09:00-09:00"], id="end at start"),
    pytest.param(["22:00-02:00"], id="past midnight"),
    pytest.param(["24:00-24:00"], id="nothing left of the day"),
    pytest.param(["23:00-24:01"], id="into the next day"),
    pytest.param(["09:00-25:00"], id="hour 25"),
    pytest.param(["09:60-11:00"], id="minute 60 of the start"),
    pytest.param(["09:00-10:60"], id="minute 60 of the end"),
    pytest.param(["9-17"], id="hours alone"),
    pytest.param(["9:00-17:00"], id="one digit"),
    pytest.param(["09:00"], id="no end"),
    pytest.param(["09:00-12:00-13:00"], id="three times"),
    pytest.param([""], id="an empty text"),
    pytest.param("9 to 5", id="words"),
    pytest.param([540], id="a number"),
    pytest.param([["09:00", "17:00"]], id="a pair"),
    pytest.param({"start": "09:00"}, id="names and values"),
    pytest.param(None, id="nothing"),
]


@pytest.mark.parametrize("ranges", RANGES)
def test_impossible_hours_of_a_day_are_refused_by_its_name(ranges: object) -> None:
    (problem,) = refusal(WeeklyHours, {"tuesday": [], "monday": ranges})
    assert problem.startswith("monday")


@pytest.mark.parametrize("ranges", RANGES)
def test_impossible_hours_of_a_date_are_refused_by_it(ranges: object) -> None:
    (problem,) = refusal(DateOverrides, {"2026-12-24": ranges, "2026-12-25": []})
    assert problem.startswith("2026-12-24")


@pytest.mark.parametrize("day", ["montag", "mon", "", "weekday", "2026-12-24", "day\x00"])
def test_weekly_hours_know_seven_days(day: str) -> None:
    (problem,) = refusal(WeeklyHours, {day: []})
    assert "monday" in problem


@pytest.mark.parametrize(
    "twice", [{"monday": ["09:00-12:00"], "Monday": ["13:00-17:00"]}, {"friday": [], " friday": []}]
)
def test_no_day_is_dropped_because_it_was_given_in_two_spellings(twice: object) -> None:
    assert refusal(WeeklyHours, twice)


def test_no_date_is_dropped_because_it_was_given_in_two_spellings() -> None:
    assert refusal(DateOverrides, {date(2026, 12, 24): [], "2026-12-24": ["09:00-12:00"]})


@pytest.mark.parametrize("hours", [[], "monday", ["monday"], 5, None])
@pytest.mark.parametrize("kind", [WeeklyHours, DateOverrides])
def test_hours_are_names_and_values(kind: Any, hours: object) -> None:
    assert refusal(kind, hours)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {}),
        ({"2026-12-24": []}, {"2026-12-24": ()}),
        ({"2026-12-24": "10:00-12:00"}, {"2026-12-24": ("10:00-12:00",)}),
        # What YAML makes of a date without quotes.
        ({date(2026, 12, 24): []}, {"2026-12-24": ()}),
    ],
)
def test_the_hours_of_single_dates_are_kept_by_their_iso_name(given: object, kept: object) -> None:
    assert read(DateOverrides, given) == kept


@pytest.mark.parametrize(
    "key",
    [
        "2026-02-30",
        "2026-13-01",
        "20261224",
        "2026-W52-4",
        "24.12.2026",
        "christmas",
        "",
        "2026-12-24T00:00",
        "２０２６-12-24",
        datetime(2026, 12, 24, 9, tzinfo=UTC),
    ],
)
def test_what_is_no_date_has_no_hours(key: object) -> None:
    (problem,) = refusal(DateOverrides, {key: []})
    assert "2026-12-24" in problem, "it should say how a date is written"


@given(st.integers(0, 1439).flatmap(lambda opens: st.tuples(st.just(opens), st.integers(opens + 1, 1440))))
def test_minutes_of_the_day_are_written_as_they_are_read(span: tuple[int, int]) -> None:
    assert minutes(written(*span)) == span


# Text.

TAB_AND_BREAKS = "\t\n\r"
CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in TAB_AND_BREAKS]
DIRECTIONS = ["\u061c", "\u200e", "\u200f", *"\u202a\u202b\u202c\u202d\u202e", *"\u2066\u2067\u2068\u2069"]


def by_code(character: str) -> str:
    return f"U+{ord(character):04X}"


@pytest.mark.parametrize("character", [*CONTROLS, *DIRECTIONS], ids=by_code)
@pytest.mark.parametrize("kind", [Line, Prose], ids=["line", "prose"])
def test_control_and_direction_characters_are_refused_by_their_code(kind: Any, character: str) -> None:
    (problem,) = refusal(kind, f"a{character}b")
    assert by_code(character) in problem


@pytest.mark.parametrize("character", TAB_AND_BREAKS, ids=by_code)
def test_a_name_is_one_line(character: str) -> None:
    assert refusal(Line, f"a{character}b")


@pytest.mark.parametrize(
    ("given", "kept"), [("a\nb", "a\nb"), ("a\tb", "a\tb"), ("a\r\nb", "a\nb"), ("a\n\nb\n", "a\n\nb")]
)
def test_prose_has_lines(given: str, kept: str) -> None:
    assert read(Prose, given) == kept


@pytest.mark.parametrize(
    "text",
    [
        "Zoë Ångström-O’Neill",
        "e\u0301",
        "سارة",
        "שרה",
        "नमस्ते",
        "می\u200cخواهم",
        "ක්\u200dෂ",
        "👩\u200d👩\u200d👧",
        "❤\ufe0f 🇩🇪 👍🏽",
        "😀",
    ],
)
@pytest.mark.parametrize("kind", [Line, Prose, Outsider], ids=["line", "prose", "outsider"])
def test_every_script_its_joiners_and_emoji_are_taken_as_they_are(kind: Any, text: str) -> None:
    assert read(kind, text) == text


@pytest.mark.parametrize(("kind", "most"), [(Line, 200), (Prose, 5_000)], ids=["line", "prose"])
def test_text_may_be_as_long_as_its_limit(kind: Any, most: int) -> None:
    assert read(kind, "é" * most) == "é" * most


@pytest.mark.parametrize(("kind", "most"), [(Line, "200"), (Prose, "5,000")], ids=["line", "prose"])
def test_longer_text_is_refused_naming_the_limit(kind: Any, most: str) -> None:
    (problem,) = refusal(kind, "é" * (int(most.replace(",", "")) + 1))
    assert most in problem
    assert "é" not in problem


@pytest.mark.parametrize(("kind", "most"), [(Line, 200), (Prose, 5_000)], ids=["line", "prose"])
def test_white_space_around_text_is_dropped_and_not_counted(kind: Any, most: int) -> None:
    assert read(kind, "  " + "x" * most + "\n ") == "x" * most


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_a_name_is_not_empty(text: str) -> None:
    assert refusal(Line, text)


@pytest.mark.parametrize("value", [5, True, None, ["a"], {"a": "b"}])
@pytest.mark.parametrize("kind", [Line, Email, ZoneName], ids=["line", "email", "zone"])
def test_a_name_is_text(kind: Any, value: object) -> None:
    assert refusal(kind, value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("ben@example.com", "ben@example.com"),
        (" ben@example.com ", "ben@example.com"),
        ("Ben.Ito+tea@EXAMPLE.Com", "Ben.Ito+tea@example.com"),
        ("o'neill@sub.example.co.uk", "o'neill@sub.example.co.uk"),
        ("jürgen@exämple.de", "jürgen@exämple.de"),
        ("ana@service.test", "ana@service.test"),
    ],
)
def test_an_email_address_keeps_its_case_before_the_at_sign(given: str, kept: str) -> None:
    assert read(Email, given) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ben",
        "ben@",
        "@example.com",
        "ben@example",
        "ben@@example.com",
        "ben@exa mple.com",
        "ben@-example.com",
        ".ben@example.com",
        "Ben <ben@example.com>",
        "mailto:ben@example.com",
        "ben@example.com, ana@example.com",
        "ben@example.com\nBcc: ana@example.com",
        "ben\x00@example.com",
        "ben\u202e@example.com",
        "ben\u200b@example.com",
        "ben@[127.0.0.1]",
        "a" * 300 + "@example.com",
        "ben@" + "a." * 200 + "com",
    ],
)
def test_what_is_no_email_address_is_refused_with_an_example_of_one(text: str) -> None:
    (problem,) = refusal(Email, text)
    assert "ben@example.com" in problem


# What outsiders wrote.


@pytest.mark.parametrize("character", [*CONTROLS, *DIRECTIONS, "\r"], ids=by_code)
def test_controls_are_stripped_of_what_outsiders_wrote(character: str) -> None:
    assert read(Outsider, f"{character}a{character}{character}b{character}") == "ab"


@pytest.mark.parametrize(("given", "kept"), [("a\nb\tc", "a\nb\tc"), ("a\r\nb", "a\nb"), ("", "")])
def test_lines_stay_in_what_outsiders_wrote(given: str, kept: str) -> None:
    assert read(Outsider, given) == kept


@pytest.mark.parametrize(
    ("given", "kept"), [("x" * 10, "x" * 10), ("x" * 11, "x" * 9 + "…"), ("\x00" * 99 + "x" * 10, "x" * 10)]
)
def test_what_outsiders_wrote_is_cut_with_a_mark(given: str, kept: str) -> None:
    assert shown(given, length=10) == kept


@pytest.mark.parametrize("value", [None, 5, True, ["a"]])
def test_only_text_is_cleaned(value: object) -> None:
    assert shown(value) == value


@given(st.text(max_size=50), st.integers(2, 20))
def test_what_is_shown_is_clean_and_short_enough_to_be_shown_again(text: str, length: int) -> None:
    once = shown(text, length=length)
    assert isinstance(once, str)
    assert len(once) <= length
    assert shown(once, length=length) == once


def test_half_a_character_of_an_outsider_does_not_break_the_answer() -> None:
    # JSON can carry one half of a surrogate pair, and text that was cut by others does.
    assert TypeAdapter(Outsider).dump_json(read(Outsider, "tea \ud83c"))


LONG = "x" * 10_000
NINE = datetime(2030, 1, 7, 9, tzinfo=UTC)


def booking(**values: Any) -> Booking:
    needed = {"id": "b1", "title": "Tea", "status": "confirmed", "start": NINE, "end": NINE + HOUR, "attendees": ()}
    return Booking.model_validate(needed | values)


def test_the_texts_of_a_booking_are_bounded_each_to_its_limit() -> None:
    found = booking(title=LONG, notes=LONG, cancellation_reason=LONG, answers={"one": LONG, "many": [LONG, "\x00a"]})
    assert len(found.title) == 200
    assert len(found.notes or "") == 5_000
    assert len(found.cancellation_reason or "") == 5_000
    assert found.answers == {"one": "x" * 1_999 + "…", "many": ("x" * 1_999 + "…", "a")}


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (Attendee, "name"),
        (Booking, "title"),
        (Booking, "location"),
        (Booking, "notes"),
        (Booking, "cancellation_reason"),
        (Booking, "answers"),
        (BusyTime, "title"),
        (EventType, "title"),
        (EventType, "description"),
        (Question, "label"),
        (Schedule, "name"),
    ],
)
def test_the_schema_says_which_text_is_an_outsiders(model: type[Model], field: str) -> None:
    assert "someone else" in str(model.model_json_schema()["properties"][field])


# Models.


def models(kind: type[Model] = Model) -> Iterator[type[Model]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith("schemas."):
            yield each
        yield from models(each)


def leaves(annotation: Any) -> set[Any]:
    """The types that an annotation is made of: `tuple[X, ...] | None` is of X and None."""
    arguments = get_args(annotation)
    return set().union(*map(leaves, arguments)) if arguments else {annotation}


MODELS = sorted(set(models()), key=lambda model: model.__name__)
FIELDS = [(model, name) for model in MODELS for name in model.model_fields]
TIMES = [(model, name) for model, name in FIELDS if AwareDatetime in leaves(model.model_fields[name].annotation)]


def named(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


def test_every_model_of_the_vocabulary_is_looked_at() -> None:
    public = {each for each in vars(schemas).values() if isinstance(each, type) and issubclass(each, Model)}
    assert public - {Model} == set(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=named)
def test_no_model_can_be_changed(model: type[Model]) -> None:
    field = next(iter(model.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model.model_construct(), field, None)


@pytest.mark.parametrize("model", MODELS, ids=named)
def test_every_model_refuses_a_field_it_does_not_know(model: type[Model]) -> None:
    assert "surprise: is not known here" in refusal(model, {"surprise": 1})


@pytest.mark.parametrize(("model", "field"), FIELDS, ids=named)
def test_every_time_of_every_model_is_an_aware_one(model: type[Model], field: str) -> None:
    plain = [leaf for leaf in leaves(model.model_fields[field].annotation) if inspect.isclass(leaf)]
    assert not any(issubclass(leaf, datetime) and leaf is not AwareDatetime for leaf in plain)


def test_the_times_of_the_models_are_found() -> None:
    # Otherwise the tests around this one would look at nothing.
    assert {(Booking, "start"), (Booking, "created_at"), (BookingRequest, "start"), (TimeRange, "end")} <= set(TIMES)


def mistakes(model: type[Model], field: str, value: object) -> list[str]:
    """What is wrong with that field; the others are missing, which does not matter here."""
    try:
        model.model_validate({field: value})
    except ValidationError as error:
        return [each["type"] for each in error.errors() if each["loc"] == (field,)]
    return []


@pytest.mark.parametrize("naive", [NINE.replace(tzinfo=None), "2030-01-07T09:00:00"], ids=["object", "text"])
@pytest.mark.parametrize(("model", "field"), TIMES, ids=named)
def test_every_time_of_every_model_refuses_one_without_an_offset(
    model: type[Model], field: str, naive: datetime | str
) -> None:
    assert mistakes(model, field, naive) == ["timezone_aware"]


@pytest.mark.parametrize(("model", "field"), TIMES, ids=named)
def test_every_time_of_every_model_takes_one_with_an_offset(model: type[Model], field: str) -> None:
    assert mistakes(model, field, NINE) == []


def test_a_time_is_kept_in_utc_whatever_zone_it_came_in() -> None:
    # Python compares two datetimes of one zone by what clocks show, which is wrong where they show it twice.
    found = booking(start=NINE.astimezone(BERLIN), end=(NINE + HOUR).isoformat(), created_at=NINE.astimezone(LORD_HOWE))
    assert [each.isoformat() for each in (found.start, found.end, found.created_at or NINE)] == [
        "2030-01-07T09:00:00+00:00",
        "2030-01-07T10:00:00+00:00",
        "2030-01-07T09:00:00+00:00",
    ]


@pytest.mark.parametrize(
    ("model", "field"), [(Schedule, "time_zone"), (ScheduleChange, "time_zone"), (BookingRequest, "attendee_time_zone")]
)
def test_a_zone_in_a_model_is_an_iana_name(model: type[Model], field: str) -> None:
    assert any(problem.startswith(f"{field}: ") for problem in refusal(model, {field: "Mars/Olympus_Mons"}))


# Ranges of time.

NIGHT = datetime(2030, 10, 27, 2, 30, tzinfo=BERLIN)
"""Half past two, the first time; clocks show it again an hour later."""

AGAIN = NIGHT.replace(fold=1)


def length(span: TimeRange) -> timedelta:
    """As time passes, not as clocks show."""
    return span.end.astimezone(UTC) - span.start.astimezone(UTC)


@pytest.mark.parametrize("end", [NINE, NINE - HOUR, NINE.astimezone(BERLIN)])
def test_a_range_of_time_runs_forward(end: datetime) -> None:
    assert refusal(TimeRange, {"start": NINE, "end": end})


@pytest.mark.parametrize("end", [AGAIN, AGAIN.replace(minute=0)])
def test_a_range_of_time_may_end_in_the_hour_that_clocks_show_again(end: datetime) -> None:
    assert length(TimeRange(start=NIGHT, end=end)) == end.astimezone(UTC) - NIGHT.astimezone(UTC)


@pytest.mark.parametrize(
    ("span", "parts"),
    [
        (HOUR, [HOUR]),
        (DAY, [DAY]),
        (3 * DAY, [DAY, DAY, DAY]),
        (2 * DAY + HOUR, [DAY, DAY, HOUR]),
    ],
)
def test_a_range_is_split_into_parts_and_a_rest(span: timedelta, parts: list[timedelta]) -> None:
    assert [length(part) for part in TimeRange(start=NINE, end=NINE + span).split(DAY)] == parts


@pytest.mark.parametrize(
    "start",
    [
        NINE,
        datetime(2030, 10, 25, tzinfo=BERLIN),
        datetime(2030, 3, 29, tzinfo=BERLIN),
        datetime(2030, 3, 30, 2, 30, tzinfo=BERLIN),
        datetime(2030, 4, 5, tzinfo=LORD_HOWE),
    ],
    ids=["no change", "autumn", "spring", "into the gap", "half an hour"],
)
def test_the_parts_of_a_range_are_the_whole_and_none_is_longer_than_asked(start: datetime) -> None:
    whole = TimeRange(start=start, end=start + 5 * DAY)
    parts = list(whole.split(DAY))
    assert parts[0].start == whole.start
    assert parts[-1].end == whole.end
    assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert sum(map(length, parts), timedelta()) == length(whole)
    assert max(map(length, parts)) <= DAY


@pytest.mark.parametrize(
    ("start", "end", "meets"),
    [
        (0, 1, False),
        (0, 2, False),
        (1, 3, True),
        (2, 4, True),
        (2.5, 3.5, True),
        (3, 5, True),
        (1, 5, True),
        (4, 5, False),
        (5, 6, False),
    ],
)
def test_a_range_overlaps_what_shares_a_moment_with_it(start: float, end: float, meets: bool) -> None:
    span = TimeRange(start=NINE + 2 * HOUR, end=NINE + 4 * HOUR)
    assert span.overlaps(NINE + start * HOUR, NINE + end * HOUR) is meets


def test_the_hour_that_clocks_show_twice_does_not_overlap_itself() -> None:
    first = TimeRange(start=NIGHT, end=NIGHT.replace(minute=45))
    assert not first.overlaps(AGAIN, AGAIN.replace(minute=45))


# Zones.


@pytest.mark.parametrize(
    ("wall", "tz", "offsets"),
    [
        ("2030-01-07T09:00:00", BERLIN, ["+01:00"]),
        ("2030-07-08T09:00:00", BERLIN, ["+02:00"]),
        ("2030-03-31T01:59:59", BERLIN, ["+01:00"]),
        ("2030-03-31T02:00:00", BERLIN, []),
        ("2030-03-31T02:59:59", BERLIN, []),
        ("2030-03-31T03:00:00", BERLIN, ["+02:00"]),
        ("2030-10-27T01:59:59", BERLIN, ["+02:00"]),
        ("2030-10-27T02:00:00", BERLIN, ["+02:00", "+01:00"]),
        ("2030-10-27T02:59:59", BERLIN, ["+02:00", "+01:00"]),
        ("2030-10-27T03:00:00", BERLIN, ["+01:00"]),
        ("2030-04-07T01:45:00", LORD_HOWE, ["+11:00", "+10:30"]),
        ("2030-10-06T02:15:00", LORD_HOWE, []),
        # Standard time in summer, and "winter time" an hour behind it, by law.
        ("2030-10-27T01:30:00", ZoneInfo("Europe/Dublin"), ["+01:00", "+00:00"]),
        # A whole day that never was, and one that was twice.
        ("2011-12-30T10:00:00", ZoneInfo("Pacific/Apia"), []),
        ("1969-09-30T12:00:00", ZoneInfo("Pacific/Kwajalein"), ["+11:00", "-12:00"]),
    ],
)
def test_clocks_show_a_time_once_twice_or_never(wall: str, tz: ZoneInfo, offsets: list[str]) -> None:
    readings = local_readings(datetime.fromisoformat(wall), tz)
    assert [reading.isoformat() for reading in readings] == [wall + offset for offset in offsets]


def test_the_weekday_is_that_of_the_zone_it_is_shown_in() -> None:
    night = datetime(2030, 1, 6, 23, 30, tzinfo=UTC)
    assert (weekday(night), weekday(night.astimezone(BERLIN))) == ("Sunday", "Monday")


def test_the_week_has_its_days_in_order() -> None:
    week = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    assert [weekday(NINE + n * DAY) for n in range(7)] == week


# Errors.

CODES = {
    "unsupported",
    "not_connected",
    "permission_denied",
    "not_found",
    "slot_taken",
    "invalid_request",
    "rate_limited",
    "provider_down",
    "outcome_unknown",
    "policy_denied",
}
KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SchedulingError) and kind is not SchedulingError
]


def test_the_codes_are_the_documented_ones() -> None:
    assert set(ERRORS) == CODES


def test_every_error_has_a_code_of_its_own_and_is_listed_by_it() -> None:
    assert sorted((kind.code, kind.__name__) for kind in KINDS) == sorted(
        (code, kind.__name__) for code, kind in ERRORS.items()
    )


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_every_error_is_drawn_in_the_tree(kind: type[SchedulingError]) -> None:
    assert f"─ {kind.__name__} " in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_an_error_reads_as_code_account_and_message(kind: type[SchedulingError]) -> None:
    error = kind("It broke. Mend it.", account="work")
    assert str(error) == f"[{kind.code}] work: It broke. Mend it."


def test_an_error_of_no_account_reads_as_code_and_message() -> None:
    assert str(InvalidRequest("It broke. Mend it.")) == "[invalid_request] It broke. Mend it."


def test_an_error_carries_what_it_was_told() -> None:
    error = InvalidRequest("It broke.", account="work", retry_after=5, details={"a": 1})
    assert (error.message, error.account, error.retry_after, error.details) == ("It broke.", "work", 5, {"a": 1})


# Problems.


class Inner(Model):
    number: int
    flag: bool = False


class Outer(Model):
    text: str
    either: int | str | tuple[str, ...] | None = None
    inner: Inner | None = None
    several: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("values", "paths"),
    [
        ({}, ["text"]),
        ({"text": 1}, ["text"]),
        ({"text": "", "txt": ""}, ["txt"]),
        ({"text": "", "either": {"a": 1}}, ["either"]),
        ({"text": "", "inner": 5}, ["inner"]),
        ({"text": "", "inner": {}}, ["inner.number"]),
        ({"text": "", "inner": {"number": "many", "flag": "perhaps"}}, ["inner.number", "inner.flag"]),
        ({"text": "", "several": [{"number": 1}, {"number": 1.5}, {}]}, ["several[1].number", "several[2].number"]),
        ({"text": "", "by_name": {"one": {}, "two": 2}}, ["by_name.one.number", "by_name.two"]),
        # Names that pydantic uses in its own paths.
        ({"text": "", "list": 1}, ["list"]),
        ({"text": "", "by_name": {"int": {}}}, ["by_name.int.number"]),
    ],
)
def test_every_problem_is_told_once_by_its_path(values: object, paths: list[str]) -> None:
    assert [problem.partition(": ")[0] for problem in refusal(Outer, values)] == paths


def test_of_several_problems_at_one_path_the_first_is_told() -> None:
    (problem,) = refusal(Outer, {"text": "", "either": {"a": 1}})
    assert "whole number" in problem


def test_a_problem_of_the_whole_has_no_path() -> None:
    assert refusal(TimeRange, {"start": NINE, "end": NINE}) == ["end must be after start"]


SECRET = "hunter2"


@pytest.mark.parametrize("value", [SECRET, [SECRET], {"key": SECRET}, [{"key": [SECRET]}]], ids=str)
@pytest.mark.parametrize("model", [*MODELS, Outer, Inner], ids=named)
def test_no_problem_tells_the_value_that_was_wrong(model: type[Model], value: object) -> None:
    told = refusal(model, dict.fromkeys(model.model_fields, value) | {"surprise": value})
    assert told
    assert not [problem for problem in told if SECRET in problem]


def test_arguments_that_are_wrong_are_an_invalid_request_naming_all_of_them() -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(Outer, {"txt": "", "inner": {"number": SECRET}})
    assert all(path in caught.value.message for path in ("text:", "txt:", "inner.number:"))
    assert SECRET not in caught.value.message


def test_arguments_that_are_right_are_the_model() -> None:
    assert checked(Inner, {"number": "5", "flag": "true"}) == Inner(number=5, flag=True)


# Features.


@pytest.mark.parametrize("feature", Feature)
def test_a_feature_is_an_operation_or_a_part_of_one(feature: Feature) -> None:
    assert feature.operation.is_operation
    assert feature.is_operation is (feature.operation is feature)
    assert feature == feature.operation or feature.startswith(f"{feature.operation}.")


@pytest.mark.parametrize("feature", [feature for feature in Feature if feature.is_operation])
def test_every_operation_is_a_method_of_a_provider(feature: Feature) -> None:
    assert callable(getattr(Provider, feature))
