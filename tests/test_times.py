"""Times as callers write them: each names one instant, or is refused with how to write it instead."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.times import a_window, a_zone, an_instant
from schemas import InvalidRequest, TimeRange

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clocks change by half an hour
APIA = ZoneInfo("Pacific/Apia")  # 2011-12-30 never was: it moved across the date line
TOKYO = ZoneInfo("Asia/Tokyo")

WITH_OFFSET = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def instant(text: str, tz: ZoneInfo | None = None) -> datetime:
    """In UTC, so that only what it names counts, not how."""
    return an_instant(text, tz, "begins").astimezone(UTC)


def refusal(text: str, tz: ZoneInfo | None = None, zone_argument: str | None = "time_zone") -> str:
    with pytest.raises(InvalidRequest) as caught:
        an_instant(text, tz, "begins", zone_argument=zone_argument)
    assert caught.value.message.startswith("begins:"), "the message should name the argument"
    return caught.value.message


# One instant.


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("2030-01-07T10:00:00+01:00", "2030-01-07T09:00:00+00:00"),
        ("2030-01-07T10:00+01:00", "2030-01-07T09:00:00+00:00"),
        ("2030-01-07T10:00:00-08:00", "2030-01-07T18:00:00+00:00"),
        ("2030-01-07T10:00:00+05:45", "2030-01-07T04:15:00+00:00"),
        ("2030-01-07T00:30:00+14:00", "2030-01-06T10:30:00+00:00"),
        ("2030-01-07T10:00:00-00:00", "2030-01-07T10:00:00+00:00"),
        ("2030-01-07T10:00:00Z", "2030-01-07T10:00:00+00:00"),
        ("2030-01-07T10:00:00z", "2030-01-07T10:00:00+00:00"),
        ("2030-01-07t10:00:00Z", "2030-01-07T10:00:00+00:00"),
        ("2030-01-07t10:00:00+01:00", "2030-01-07T09:00:00+00:00"),
        ("2030-01-07 10:00:00Z", "2030-01-07T10:00:00+00:00"),
        ("2030-01-07 10:00:00 +01:00", "2030-01-07T09:00:00+00:00"),
        ("  2030-01-07T10:00:00Z\n", "2030-01-07T10:00:00+00:00"),
        ("2028-02-29T10:00:00Z", "2028-02-29T10:00:00+00:00"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00"),
        ("2199-12-31T23:59:59Z", "2199-12-31T23:59:59+00:00"),
    ],
)
def test_a_time_with_an_offset_is_one_instant(text: str, named: str) -> None:
    assert instant(text) == utc(named)


@pytest.mark.parametrize("fraction", [".0", ".000", ".5", ".123456", ".999999999"])
def test_a_fraction_of_a_second_is_taken_and_changes_no_second(fraction: str) -> None:
    assert instant(f"2030-01-07T10:00:00{fraction}Z").replace(microsecond=0) == utc("2030-01-07T10:00:00+00:00")


@pytest.mark.parametrize(
    ("text", "tz", "named"),
    [
        ("2030-01-07T10:00:00", BERLIN, "2030-01-07T09:00:00+00:00"),
        ("2030-07-08T10:00:00", BERLIN, "2030-07-08T08:00:00+00:00"),
        ("2030-01-07 10:00", BERLIN, "2030-01-07T09:00:00+00:00"),
        ("2030-01-07t10:00:00.000", BERLIN, "2030-01-07T09:00:00+00:00"),
        ("2030-01-07T10:00:00", TOKYO, "2030-01-07T01:00:00+00:00"),
        # The minutes around a clock change are there once.
        ("2030-03-31T01:59:59", BERLIN, "2030-03-31T00:59:59+00:00"),
        ("2030-03-31T03:00:00", BERLIN, "2030-03-31T01:00:00+00:00"),
        ("2030-10-27T01:59:59", BERLIN, "2030-10-26T23:59:59+00:00"),
        ("2030-10-27T03:00:00", BERLIN, "2030-10-27T02:00:00+00:00"),
        ("2030-10-06T02:30:00", LORD_HOWE, "2030-10-05T15:30:00+00:00"),
        ("2030-04-07T02:00:00", LORD_HOWE, "2030-04-06T15:30:00+00:00"),
    ],
)
def test_a_local_time_and_its_zone_are_one_instant(text: str, tz: ZoneInfo, named: str) -> None:
    assert instant(text, tz) == utc(named)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("2030-01-07T10:00:00-05:00", "2030-01-07T15:00:00+00:00"),
        ("2030-10-27T02:30:00+02:00", "2030-10-27T00:30:00+00:00"),
        ("2030-10-27T02:30:00+01:00", "2030-10-27T01:30:00+00:00"),
        ("2030-03-31T02:30:00+01:00", "2030-03-31T01:30:00+00:00"),
    ],
)
def test_beside_an_offset_the_zone_changes_nothing(text: str, named: str) -> None:
    assert instant(text, BERLIN) == utc(named)


# None, or two.


def test_a_bare_local_time_is_refused_with_both_ways_to_mend_it() -> None:
    message = refusal("2030-01-07T10:00:00", zone_argument="attendee_time_zone")
    assert "attendee_time_zone" in message
    (mended,) = WITH_OFFSET.findall(message)
    assert (
        mended
    )  # an example of its own: the caller's time with an offset that we made up would look like a correction


def test_no_zone_is_asked_for_where_there_is_no_such_argument() -> None:
    message = refusal("2030-01-07T10:00:00", zone_argument=None)
    assert "zone" not in message
    assert WITH_OFFSET.search(message)


@pytest.mark.parametrize("tz", [None, BERLIN])
def test_a_date_alone_is_refused_with_a_time_to_add(tz: ZoneInfo | None) -> None:
    message = refusal("2030-01-07", tz)
    assert "date" in message
    assert WITH_OFFSET.search(message)


@pytest.mark.parametrize(
    ("text", "tz", "meant"),
    [
        ("2030-03-31T02:00:00", BERLIN, "2030-03-31T03:00:00+02:00"),
        ("2030-03-31T02:30:00", BERLIN, "2030-03-31T03:30:00+02:00"),
        ("2030-03-31T02:59:59", BERLIN, "2030-03-31T03:59:59+02:00"),
        ("2030-10-06T02:15:00", LORD_HOWE, "2030-10-06T02:45:00+11:00"),
        ("2011-12-30T10:00:00", APIA, "2011-12-31T10:00:00+14:00"),
    ],
)
def test_a_time_that_clocks_skip_is_refused_naming_the_one_they_show(text: str, tz: ZoneInfo, meant: str) -> None:
    message = refusal(text, tz)
    assert tz.key in message
    assert WITH_OFFSET.findall(message) == [meant]
    assert instant(meant) == instant(meant[:19], tz), "what is offered should be real"


@pytest.mark.parametrize(
    ("text", "tz", "readings"),
    [
        ("2030-10-27T02:00:00", BERLIN, ["2030-10-27T02:00:00+02:00", "2030-10-27T02:00:00+01:00"]),
        ("2030-10-27T02:30:00", BERLIN, ["2030-10-27T02:30:00+02:00", "2030-10-27T02:30:00+01:00"]),
        ("2030-10-27T02:59:59", BERLIN, ["2030-10-27T02:59:59+02:00", "2030-10-27T02:59:59+01:00"]),
        ("2030-04-07T01:45:00", LORD_HOWE, ["2030-04-07T01:45:00+11:00", "2030-04-07T01:45:00+10:30"]),
    ],
)
def test_a_time_that_clocks_show_twice_is_refused_naming_both_readings(
    text: str, tz: ZoneInfo, readings: list[str]
) -> None:
    message = refusal(text, tz)
    assert tz.key in message
    assert WITH_OFFSET.findall(message) == readings


@pytest.mark.parametrize("tz", [None, BERLIN])
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "soon",
        "tomorrow at 10",
        "10:00",
        "1893488400",
        "2030-02-30T10:00:00Z",
        "2029-02-29T10:00:00Z",
        "2030-13-07T10:00:00Z",
        "2030-01-07T24:30:00Z",
        "2030-01-07T10:60:00Z",
        "2030-01-07T10:00:60Z",
        "2030-01-07T10Z",
        "2030-01-07T10:00:00+24:00",
        "2030-01-07T10:00:00+1",
        "2030-01-07T10:00:00+0100",
        "2030-01-07T10:00:00 CET",
        "2030-01-07T10:00:00+01:00[Europe/Berlin]",
        "2030-01-07T10:00:00Z2030-01-07T10:00:00Z",
        "2030-1-7T10:00:00Z",
        "30-01-07T10:00:00Z",
        "+2030-01-07T10:00:00Z",
        "-2030-01-07T10:00:00Z",
        "20300107T100000Z",
        "2030-W02-1T10:00:00Z",
        "2030-007T10:00:00Z",
        "01/07/2030 10:00",
        "2030-01-07T10:00:00Z\x00",
        # RFC 3339 has neither: an hour ends with minute 59, and only seconds have a fraction.
        "2030-01-07T10:00:00+05:60",
        "2030-01-07T10:00.5Z",
        # Digits and letters that only look like them.
        "٢٠٣٠-٠١-٠٧T١٠:٠٠:٠٠Z",
        "２０３０-01-07T10:00:00Z",
        "2030-01-07T10:00:00Ｚ",
        "2030-01-07T10:00:00−01:00",
        "\ud800",
    ],
)
def test_what_is_no_time_is_refused_with_an_example_of_one(text: str, tz: ZoneInfo | None) -> None:
    message = refusal(text, tz)
    assert WITH_OFFSET.search(message)
    assert len(text) < 8 or text not in message, "it may be anybody's text"


@pytest.mark.parametrize(
    "text",
    ["1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
)
@pytest.mark.parametrize("tz", [None, BERLIN])
def test_a_time_in_a_year_that_nobody_books_is_refused(text: str, tz: ZoneInfo | None) -> None:
    refusal(text, tz)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_a_local_time_at_the_end_of_the_calendar_is_refused(text: str) -> None:
    refusal(text, APIA)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "2" * 1_000_000,
        "2030-01-07T10:00:00." + "0" * 1_000_000 + "Z",
        "2030-01-07T10:00:00Z" + "0" * 1_000_000,
        "2030-01-07" * 100_000,
    ],
    ids=["letters", "digits", "fraction", "tail", "dates"],
)
def test_a_huge_text_is_refused_in_a_short_message(text: str) -> None:
    assert len(refusal(text, BERLIN)) < 300


ALMOST = r"(19[7-9]|20[0-9]|21[0-9])[0-9]-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9](Z|[+-][0-2][0-9]:[0-6][0-9])?"


@given(st.one_of(st.text(), st.from_regex(ALMOST, fullmatch=True)), st.sampled_from([None, BERLIN, LORD_HOWE, APIA]))
def test_any_text_is_an_instant_or_an_invalid_request(text: str, tz: ZoneInfo | None) -> None:
    with suppress(InvalidRequest):
        assert an_instant(text, tz, "begins").utcoffset() is not None


@given(
    st.datetimes(datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("2199-12-30")),
    st.sampled_from([BERLIN, LORD_HOWE, APIA, TOKYO]),
)
def test_a_local_time_that_is_taken_is_what_clocks_there_show(wall: datetime, tz: ZoneInfo) -> None:
    wall = wall.replace(microsecond=0)
    with suppress(InvalidRequest):
        assert instant(wall.isoformat(), tz).astimezone(tz).replace(tzinfo=None) == wall


# Zones.


@pytest.mark.parametrize("name", ["Europe/Berlin", " Europe/Berlin ", "Europe/Berlin\n"])
def test_a_zone_is_found_by_its_name(name: str) -> None:
    assert a_zone(name) == BERLIN


@pytest.mark.parametrize("name", ["UTC", "Etc/UTC", "America/Argentina/Buenos_Aires", "Asia/Kolkata", "US/Pacific"])
def test_every_iana_name_is_a_zone(name: str) -> None:
    assert a_zone(name) == ZoneInfo(name)


def test_no_name_is_no_zone() -> None:
    assert a_zone(None) is None


def zone_refusal(name: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        a_zone(name, "attendee_time_zone")
    assert caught.value.message.startswith("attendee_time_zone:"), "the message should name the argument"
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("Germany/Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("america/new york", "America/New_York"),
        ("Tokio", "Asia/Tokyo"),
        ("Asia/Calcuta", "Asia/Calcutta"),
    ],
)
def test_an_unknown_zone_is_refused_with_names_near_it(name: str, meant: str) -> None:
    assert meant in zone_refusal(name)


@pytest.mark.parametrize(
    "name",
    ["", " ", "?", "Mars/Olympus_Mons", "+02:00", "Europe", "Europe/", ".", "..", "\x00", "\ud800"],
)
def test_what_is_no_zone_is_refused_naming_what_is(name: str) -> None:
    assert "IANA" in zone_refusal(name)


def test_a_huge_name_of_a_zone_is_refused_in_a_short_message() -> None:
    assert len(zone_refusal("x" * 1_000_000)) < 200


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "/usr/share/zoneinfo/UTC", "Europe/../UTC", "zone.tab"]
)
def test_a_zone_is_never_a_path_to_a_file(name: str) -> None:
    zone_refusal(name)


@pytest.mark.parametrize("name", ["localtime", "posixrules", "Factory", "posix/UTC", "right/UTC"])
def test_what_a_machine_keeps_beside_the_iana_names_is_no_zone(name: str) -> None:
    # `localtime` is wherever this machine stands, and the `right/` ones are half a minute off.
    zone_refusal(name)


@pytest.mark.parametrize("name", ["Berlin", "New York", "localtime", "local time", "Factori", "GMT+2", "PST"])
def test_every_zone_that_is_suggested_is_taken(name: str) -> None:
    suggested = re.search(r"did you mean (.+)\?", zone_refusal(name))
    for each in suggested[1].split(" or ") if suggested else []:
        assert a_zone(each)


@pytest.mark.parametrize(
    ("name", "contrary"),
    [("GMT+2", "Etc/GMT+2"), ("UTC+2", "Etc/GMT+2"), ("UTC-5", "Etc/GMT-5"), ("GMT+02:00", "Etc/GMT+2")],
)
def test_no_zone_of_the_opposite_offset_is_suggested(name: str, contrary: str) -> None:
    # In `Etc/GMT+2` the sign is turned round: it lies two hours west of Greenwich.
    assert contrary not in zone_refusal(name)


# Windows.

DAY = timedelta(days=1)
NOON = datetime(2030, 1, 7, 12, tzinfo=UTC)


def window(start: str, end: str, tz: ZoneInfo | None = None, now: datetime | None = None) -> TimeRange:
    return a_window(start, end, tz, longest=92 * DAY, now=now)


def window_refusal(start: str, end: str, tz: ZoneInfo | None = None, now: datetime | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        window(start, end, tz, now)
    return caught.value.message


@pytest.mark.parametrize(
    ("start", "end", "tz"),
    [
        ("2030-01-07T00:00:00Z", "2030-01-08T00:00:00Z", None),
        ("2030-01-07T09:00:00", "2030-01-08T09:00:00", TOKYO),
        ("2030-01-07T01:00:00+01:00", "2030-01-08T09:00:00", TOKYO),
    ],
)
def test_a_window_runs_from_start_to_end(start: str, end: str, tz: ZoneInfo | None) -> None:
    found = window(start, end, tz)
    assert (found.start, found.end) == (utc("2030-01-07T00:00:00+00:00"), utc("2030-01-08T00:00:00+00:00"))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2030-01-08T00:00:00Z", "2030-01-07T00:00:00Z"),
        ("2030-01-07T00:00:00Z", "2030-01-07T00:00:00Z"),
        ("2030-01-07T01:00:00+01:00", "2030-01-07T00:00:00Z"),
        # Later on the clock, earlier in time.
        ("2030-01-07T10:00:00Z", "2030-01-07T11:00:00+05:00"),
    ],
)
def test_a_window_that_does_not_run_forward_is_refused(start: str, end: str) -> None:
    assert window_refusal(start, end).startswith("end:")


def test_a_window_may_lie_in_the_hour_that_clocks_show_twice() -> None:
    found = window("2030-10-27T02:30:00+02:00", "2030-10-27T02:30:00+01:00", BERLIN)
    assert found.end.astimezone(UTC) - found.start.astimezone(UTC) == timedelta(hours=1)


def test_a_window_may_be_as_long_as_the_longest() -> None:
    found = window("2030-01-01T00:00:00Z", "2030-04-03T00:00:00Z")
    assert found.end - found.start == 92 * DAY


def test_a_window_that_is_too_long_is_refused_naming_how_long_it_may_be() -> None:
    message = window_refusal("2030-01-01T00:00:00Z", "2030-04-03T00:00:01Z")
    assert message.startswith("end:")
    assert "92 days" in message


@pytest.mark.parametrize(
    ("start", "begins"),
    [
        ("2030-01-07T00:00:00Z", "2030-01-07T12:00:00+00:00"),
        ("2030-01-07T12:00:00Z", "2030-01-07T12:00:00+00:00"),
        ("2030-01-07T13:00:00Z", "2030-01-07T13:00:00+00:00"),
    ],
)
def test_the_past_part_of_a_window_is_clipped(start: str, begins: str) -> None:
    found = window(start, "2030-01-08T00:00:00Z", now=NOON)
    assert (found.start, found.end) == (utc(begins), utc("2030-01-08T00:00:00+00:00"))


@pytest.mark.parametrize("end", ["2030-01-07T11:59:59Z", "2030-01-07T12:00:00Z"])
def test_a_window_that_is_all_past_is_refused_naming_the_present(end: str) -> None:
    message = window_refusal("2030-01-07T00:00:00Z", end, now=NOON)
    assert message.startswith("end:")
    assert "2030-01-07T12:00:00" in message


def test_a_window_may_lie_in_the_past_where_the_present_does_not_matter() -> None:
    assert window("2020-01-07T00:00:00Z", "2020-01-08T00:00:00Z").start.year == 2020


@pytest.mark.parametrize(
    ("start", "end", "named"),
    [
        ("soon", "2030-01-08T00:00:00Z", "start:"),
        ("2030-01-07T00:00:00Z", "later", "end:"),
        ("2030-01-07", "2030-01-08T00:00:00Z", "start:"),
        ("2030-01-07T00:00:00", "2030-01-08T00:00:00Z", "start:"),
        ("2030-01-07T00:00:00Z", "2030-01-08T00:00:00", "end:"),
    ],
)
def test_the_bound_of_a_window_that_is_no_time_is_named(start: str, end: str, named: str) -> None:
    assert window_refusal(start, end).startswith(named)


def test_a_local_bound_of_a_window_that_clocks_skip_is_refused() -> None:
    assert window_refusal("2030-03-31T02:30:00", "2030-04-01T00:00:00", BERLIN).startswith("start:")
