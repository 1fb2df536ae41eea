from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.slots import Hours, Rules, Span, date_span, find_starts, merged, seconds
from tests import oracle

MINUTE, HOUR, DAY = 60, 3600, 86_400

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
APIA = ZoneInfo("Pacific/Apia")

LONG_AGO = 0


def at(text: str) -> int:
    """`2026-03-02T09:00+01:00` as seconds of the epoch."""
    return int(datetime.fromisoformat(text).timestamp())


def shown(instants: Iterable[int], zone: ZoneInfo = BERLIN) -> list[str]:
    return [datetime.fromtimestamp(instant, zone).isoformat(timespec="minutes") for instant in instants]


def times(instants: Iterable[int], zone: ZoneInfo = BERLIN) -> list[str]:
    return [text[11:16] for text in shown(instants, zone)]


def on(day: str, zone: ZoneInfo = BERLIN) -> Span:
    """From 00:00 of the day up to 00:00 of the next."""
    start = datetime.fromisoformat(day).replace(tzinfo=zone)
    return int(start.timestamp()), int((start + timedelta(days=1)).timestamp())


def open_on(day: str, *ranges: str, zone: ZoneInfo = BERLIN) -> Hours:
    return Hours.of(zone, {}, {day: ranges})


def every_day(*ranges: str) -> dict[str, Sequence[str]]:
    return dict.fromkeys(oracle.WEEK, ranges)


def rules(
    duration: int = 30,
    step: int = 30,
    *,
    buffer_before: int = 0,
    buffer_after: int = 0,
    minimum_notice: int = 0,
    window_days: int | None = None,
    max_per_day: int | None = None,
) -> Rules:
    """Lengths in minutes."""
    return Rules(
        duration * MINUTE,
        step * MINUTE,
        buffer_before * MINUTE,
        buffer_after * MINUTE,
        minimum_notice * MINUTE,
        window_days,
        max_per_day,
    )


# 2026-03-02 is a Monday without a clock change anywhere near.

MONDAY = on("2026-03-02")
MORNING = open_on("2026-03-02", "09:00-11:00")


def monday(time: str) -> int:
    return at(f"2026-03-02T{time}+01:00")


def test_every_step_from_the_opening_that_leaves_time_for_the_meeting_is_offered() -> None:
    found = find_starts(rules(45, 20), MORNING, MONDAY, LONG_AGO, [])
    assert times(found) == ["09:00", "09:20", "09:40", "10:00"]


def test_a_meeting_may_end_the_moment_the_hours_do() -> None:
    assert times(find_starts(rules(120), MORNING, MONDAY, LONG_AGO, [])) == ["09:00"]
    assert find_starts(rules(121), MORNING, MONDAY, LONG_AGO, []) == []


def test_the_grid_does_not_depend_on_the_window_asked_for() -> None:
    window = (monday("09:07"), monday("10:07"))
    assert times(find_starts(rules(30, 25), MORNING, window, LONG_AGO, [])) == ["09:25", "09:50"]


def test_each_range_of_hours_has_its_own_grid() -> None:
    hours = open_on("2026-03-02", "13:10-14:10", "09:00-10:00")
    assert times(find_starts(rules(30, 30), hours, MONDAY, LONG_AGO, [])) == ["09:00", "09:30", "13:10", "13:40"]


def test_a_window_includes_its_first_moment_and_not_its_last() -> None:
    window = (monday("09:30"), monday("10:30"))
    assert times(find_starts(rules(), MORNING, window, LONG_AGO, [])) == ["09:30", "10:00"]


def test_a_meeting_may_reach_beyond_the_window_it_starts_in() -> None:
    window = (monday("09:00"), monday("09:01"))
    assert times(find_starts(rules(120), MORNING, window, LONG_AGO, [])) == ["09:00"]


@pytest.mark.parametrize("end", ["09:00", "08:00"])
def test_an_empty_window_has_no_starts(end: str) -> None:
    assert find_starts(rules(), MORNING, (monday("09:00"), monday(end)), LONG_AGO, []) == []


def test_a_meeting_may_begin_the_moment_another_ends() -> None:
    busy = [(monday("09:30"), monday("10:00"))]
    assert times(find_starts(rules(), MORNING, MONDAY, LONG_AGO, busy)) == ["09:00", "10:00", "10:30"]


def test_a_meeting_fits_exactly_between_two_others() -> None:
    busy = [(monday("10:00"), monday("11:00")), (monday("09:00"), monday("09:30"))]
    assert times(find_starts(rules(30, 10), MORNING, MONDAY, LONG_AGO, busy)) == ["09:30"]


def test_a_single_busy_second_blocks_every_meeting_around_it() -> None:
    busy = [(monday("09:59") + 59, monday("10:00"))]
    assert times(find_starts(rules(30, 15), MORNING, MONDAY, LONG_AGO, busy)) == [
        "09:00",
        "09:15",
        "10:00",
        "10:15",
        "10:30",
    ]


def test_a_busy_time_that_begins_a_second_too_early_blocks_the_last_start_of_the_day() -> None:
    busy = [(monday("10:59") + 59, monday("12:00"))]
    assert times(find_starts(rules(), MORNING, MONDAY, LONG_AGO, busy)) == ["09:00", "09:30", "10:00"]


def test_an_empty_busy_time_blocks_nothing() -> None:
    busy = [(monday("10:15"), monday("10:15"))]
    assert times(find_starts(rules(60, 60), MORNING, MONDAY, LONG_AGO, busy)) == ["09:00", "10:00"]


def test_busy_times_may_come_unsorted_and_overlap() -> None:
    busy = [
        (monday("10:00"), monday("10:10")),
        (monday("09:20"), monday("10:20")),
        (monday("09:10"), monday("09:30")),
        (monday("09:20"), monday("10:20")),
    ]
    assert times(find_starts(rules(10, 10), MORNING, MONDAY, LONG_AGO, busy)) == [
        "09:00",
        "10:20",
        "10:30",
        "10:40",
        "10:50",
    ]


def test_a_buffer_before_keeps_its_distance_from_what_went_before_only() -> None:
    busy = [(monday("09:30"), monday("10:00"))]
    found = find_starts(rules(30, 15, buffer_before=15), MORNING, MONDAY, LONG_AGO, busy)
    assert times(found) == ["09:00", "10:15", "10:30"]


def test_a_buffer_after_keeps_its_distance_from_what_comes_next_only() -> None:
    busy = [(monday("09:45"), monday("10:15"))]
    found = find_starts(rules(30, 15, buffer_after=15), MORNING, MONDAY, LONG_AGO, busy)
    assert times(found) == ["09:00", "10:15", "10:30"]


def test_a_buffer_need_not_lie_within_working_hours() -> None:
    both = rules(120, buffer_before=30, buffer_after=30)
    assert times(find_starts(both, MORNING, MONDAY, LONG_AGO, [])) == ["09:00"]
    assert find_starts(both, MORNING, MONDAY, LONG_AGO, [(monday("08:30"), monday("08:31"))]) == []
    assert find_starts(both, MORNING, MONDAY, LONG_AGO, [(monday("11:29"), monday("11:30"))]) == []


def test_minimum_notice_counts_from_now_and_includes_its_last_moment() -> None:
    two_hours = rules(minimum_notice=120)
    assert times(find_starts(two_hours, MORNING, MONDAY, monday("07:30"), [])) == ["09:30", "10:00", "10:30"]
    assert times(find_starts(two_hours, MORNING, MONDAY, monday("07:30") + 1, [])) == ["10:00", "10:30"]


def test_nothing_is_offered_in_the_past() -> None:
    assert times(find_starts(rules(), MORNING, MONDAY, monday("10:10"), [])) == ["10:30"]
    assert find_starts(rules(), MORNING, MONDAY, monday("10:31"), []) == []


def test_the_booking_window_ends_with_a_local_date() -> None:
    daily = Hours.of(BERLIN, every_day("23:00-24:00"))
    window = (monday("00:00"), monday("00:00") + 5 * DAY)
    # 23:30 in Berlin: half an hour later it would be Tuesday there, and one day more would be on offer.
    monday_night = find_starts(rules(60, 60, window_days=1), daily, window, monday("23:30"), [])
    assert shown(monday_night) == ["2026-03-03T23:00+01:00"]
    tuesday = find_starts(rules(60, 60, window_days=1), daily, window, monday("23:30") + HOUR // 2, [])
    assert shown(tuesday) == ["2026-03-03T23:00+01:00", "2026-03-04T23:00+01:00"]


def test_a_booking_window_of_no_days_is_today() -> None:
    hours = Hours.of(BERLIN, every_day("00:00-24:00"))
    tonight = (monday("22:00"), monday("22:00") + DAY)
    found = find_starts(rules(60, 60, window_days=0), hours, tonight, monday("08:00"), [])
    assert shown(found) == ["2026-03-02T22:00+01:00", "2026-03-02T23:00+01:00"]
    assert find_starts(rules(60, 60, window_days=0), hours, tonight, monday("08:00") - DAY, []) == []


def test_a_day_with_as_many_bookings_as_allowed_is_full() -> None:
    daily = Hours.of(BERLIN, {"monday": ["09:00-10:00"], "tuesday": ["09:00-10:00"]})
    window = (monday("00:00"), monday("00:00") + 2 * DAY)
    two = rules(60, 60, max_per_day=2)
    booked = [monday("15:00"), monday("16:00"), monday("15:00") + DAY]
    assert shown(find_starts(two, daily, window, LONG_AGO, [], booked)) == ["2026-03-03T09:00+01:00"]
    assert shown(find_starts(two, daily, window, LONG_AGO, [], booked[1:])) == [
        "2026-03-02T09:00+01:00",
        "2026-03-03T09:00+01:00",
    ]


def test_bookings_count_for_their_date_in_the_zone_of_the_schedule() -> None:
    one = rules(60, max_per_day=1)
    # Monday in UTC, Sunday in New York.
    booked = [at("2026-03-02T04:59+00:00")]
    hours = open_on("2026-03-02", "09:00-10:00", zone=NEW_YORK)
    window = on("2026-03-02", NEW_YORK)
    assert shown(find_starts(one, hours, window, LONG_AGO, [], booked), NEW_YORK) == ["2026-03-02T09:00-05:00"]
    assert find_starts(one, hours, window, LONG_AGO, [], [booked[0] + MINUTE]) == []


def test_bookings_do_not_count_where_there_is_no_limit() -> None:
    assert len(find_starts(rules(), MORNING, MONDAY, LONG_AGO, [], [monday("09:00")] * 20)) == 4


def test_a_weekday_that_is_not_named_is_closed() -> None:
    hours = Hours.of(BERLIN, {"sunday": ["09:00-10:00"], "tuesday": ["09:00-10:00"]})
    window = (monday("00:00") - DAY, monday("00:00") + 2 * DAY)
    assert shown(find_starts(rules(60), hours, window, LONG_AGO, [])) == [
        "2026-03-01T09:00+01:00",
        "2026-03-03T09:00+01:00",
    ]


def test_an_override_replaces_the_hours_of_its_weekday() -> None:
    hours = Hours.of(BERLIN, {"monday": ["09:00-17:00"]}, {"2026-03-02": ["20:00-21:00"]})
    window = (monday("00:00"), monday("00:00") + 8 * DAY)
    found = shown(find_starts(rules(60, 240), hours, window, LONG_AGO, []))
    assert found == ["2026-03-02T20:00+01:00", "2026-03-09T09:00+01:00", "2026-03-09T13:00+01:00"]


def test_an_override_without_hours_closes_the_date() -> None:
    hours = Hours.of(BERLIN, {"monday": ["09:00-10:00"]}, {"2026-03-02": []})
    window = (monday("00:00"), monday("00:00") + 8 * DAY)
    assert shown(find_starts(rules(60), hours, window, LONG_AGO, [])) == ["2026-03-09T09:00+01:00"]


def test_an_override_opens_a_weekday_that_is_closed() -> None:
    hours = Hours.of(BERLIN, {}, {"2026-03-02": ["09:00-10:00"]})
    assert times(find_starts(rules(60), hours, MONDAY, LONG_AGO, [])) == ["09:00"]


def test_a_meeting_may_cross_midnight_where_both_days_are_open() -> None:
    hours = Hours.of(BERLIN, {"monday": ["22:00-24:00"], "tuesday": ["00:00-01:00"]})
    assert times(find_starts(rules(120, 60), hours, MONDAY, LONG_AGO, [])) == ["22:00", "23:00"]
    shut = Hours.of(BERLIN, {"monday": ["22:00-24:00"], "tuesday": ["00:01-01:00"]})
    assert times(find_starts(rules(120, 60), shut, MONDAY, LONG_AGO, [])) == ["22:00"]


def test_a_meeting_may_last_for_more_than_a_day() -> None:
    hours = Hours.of(BERLIN, every_day("00:00-24:00"), {"2026-03-05": []})
    # Each asked for on its own, too: what counts is how long the hours go on after the window.
    for start, fits in (("2026-03-03T12:00+01:00", True), ("2026-03-03T12:30+01:00", False)):
        found = find_starts(rules(36 * 60), hours, (at(start), at(start) + 1), LONG_AGO, [])
        assert shown(found) == [start] * fits
    found = find_starts(rules(36 * 60), hours, (monday("00:00"), monday("00:00") + 7 * DAY), LONG_AGO, [])
    assert "2026-03-03T12:00+01:00" in shown(found)
    assert "2026-03-03T12:30+01:00" not in shown(found)


def test_a_meeting_may_run_from_one_range_into_an_adjoining_one() -> None:
    ranges = ["09:45-10:30", "09:00-09:45"]
    for hours in (Hours.of(BERLIN, {"monday": ranges}), open_on("2026-03-02", *ranges)):
        assert times(find_starts(rules(60, 30), hours, MONDAY, LONG_AGO, [])) == ["09:00", "09:30"]
    apart = open_on("2026-03-02", "09:00-09:45", "09:46-10:30")
    assert find_starts(rules(60, 30), apart, MONDAY, LONG_AGO, []) == []


# Clock changes.


def test_a_slot_in_the_spring_gap_does_not_exist() -> None:
    hours = open_on("2026-03-29", "01:00-04:00")
    assert shown(find_starts(rules(), hours, on("2026-03-29"), LONG_AGO, [])) == [
        "2026-03-29T01:00+01:00",
        "2026-03-29T01:30+01:00",
        "2026-03-29T03:00+02:00",
        "2026-03-29T03:30+02:00",
    ]


def test_hours_that_lie_in_the_spring_gap_offer_nothing() -> None:
    hours = open_on("2026-03-29", "02:00-03:00")
    assert find_starts(rules(), hours, on("2026-03-29"), LONG_AGO, []) == []


def test_hours_that_open_in_the_spring_gap_keep_their_grid() -> None:
    hours = open_on("2026-03-29", "02:30-04:00")
    # 02:30, 02:55 and so on, of which clocks show none before 03:20.
    assert times(find_starts(rules(15, 25), hours, on("2026-03-29"), LONG_AGO, [])) == ["03:20", "03:45"]


def test_a_meeting_runs_on_across_the_spring_gap() -> None:
    hours = open_on("2026-03-29", "01:00-03:30")
    # Ninety minutes in all, though a wall clock makes it two and a half hours.
    assert times(find_starts(rules(90), hours, on("2026-03-29"), LONG_AGO, [])) == ["01:00"]


def test_both_readings_of_an_hour_that_happens_twice_are_offered() -> None:
    hours = open_on("2026-10-25", "01:30-03:30")
    assert shown(find_starts(rules(), hours, on("2026-10-25"), LONG_AGO, [])) == [
        "2026-10-25T01:30+02:00",
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:30+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T02:30+01:00",
        "2026-10-25T03:00+01:00",
    ]


def test_hours_that_close_in_an_hour_that_happens_twice_close_twice() -> None:
    hours = open_on("2026-10-25", "01:00-02:30")
    # At the second 02:00 the clock is back within hours, for half an hour.
    assert shown(find_starts(rules(), hours, on("2026-10-25"), LONG_AGO, [])) == [
        "2026-10-25T01:00+02:00",
        "2026-10-25T01:30+02:00",
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:00+01:00",
    ]
    assert shown(find_starts(rules(90), hours, on("2026-10-25"), LONG_AGO, [])) == ["2026-10-25T01:00+02:00"]


def test_a_busy_time_blocks_only_the_reading_it_is_in() -> None:
    hours = open_on("2026-10-25", "02:00-03:00")
    busy = [(at("2026-10-25T02:00+02:00"), at("2026-10-25T03:00+02:00"))]
    assert shown(find_starts(rules(60, 30), hours, on("2026-10-25"), LONG_AGO, busy)) == ["2026-10-25T02:00+01:00"]


def test_a_clock_may_change_by_half_an_hour() -> None:
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    autumn = open_on("2026-04-05", "01:15-02:15", zone=lord_howe)
    assert shown(find_starts(rules(15, 20), autumn, on("2026-04-05", lord_howe), LONG_AGO, []), lord_howe) == [
        "2026-04-05T01:15+11:00",
        "2026-04-05T01:35+11:00",
        "2026-04-05T01:55+11:00",
        # 02:00 is 01:30 again.
        "2026-04-05T01:35+10:30",
        "2026-04-05T01:55+10:30",
    ]
    spring = open_on("2026-10-04", "01:45-03:00", zone=lord_howe)
    assert shown(find_starts(rules(15, 15), spring, on("2026-10-04", lord_howe), LONG_AGO, []), lord_howe) == [
        "2026-10-04T01:45+10:30",
        "2026-10-04T02:30+11:00",
        "2026-10-04T02:45+11:00",
    ]


def test_a_window_may_hold_several_clock_changes() -> None:
    hours = Hours.of(BERLIN, {"sunday": ["09:00-10:00"]})
    year = (at("2026-01-01T00:00+01:00"), at("2027-01-01T00:00+01:00"))
    found = shown(find_starts(rules(60), hours, year, LONG_AGO, []))
    # The Sundays of the changes, 29 March and 25 October, already have the new offset at nine.
    offsets = ["+01:00"] * 12 + ["+02:00"] * 30 + ["+01:00"] * 10
    assert [text[10:] for text in found] == [f"T09:00{offset}" for offset in offsets]


def test_a_day_whose_midnight_is_skipped_begins_later() -> None:
    hours = Hours.of(SAO_PAULO, every_day("00:00-24:00"))
    window = (at("2018-11-03T22:00-03:00"), at("2018-11-04T03:00-02:00"))
    assert shown(find_starts(rules(40, 40), hours, window, LONG_AGO, []), SAO_PAULO) == [
        "2018-11-03T22:00-03:00",
        "2018-11-03T22:40-03:00",
        "2018-11-03T23:20-03:00",
        # 00:00 and 00:40 do not exist.
        "2018-11-04T01:20-02:00",
        "2018-11-04T02:00-02:00",
        "2018-11-04T02:40-02:00",
    ]


def test_the_hours_of_a_date_that_is_skipped_do_not_exist() -> None:
    hours = Hours.of(APIA, every_day("09:00-10:00"))
    window = (at("2011-12-29T00:00-10:00"), at("2012-01-01T00:00+14:00"))
    assert shown(find_starts(rules(60), hours, window, LONG_AGO, []), APIA) == [
        "2011-12-29T09:00-10:00",
        "2011-12-31T09:00+14:00",
    ]


def test_a_meeting_runs_on_across_a_date_that_is_skipped() -> None:
    hours = Hours.of(APIA, {"thursday": ["23:00-24:00"], "saturday": ["00:00-01:00"]})
    window = (at("2011-12-29T00:00-10:00"), at("2012-01-01T00:00+14:00"))
    assert shown(find_starts(rules(120), hours, window, LONG_AGO, []), APIA) == ["2011-12-29T23:00-10:00"]


def test_the_booking_window_counts_a_date_that_is_skipped() -> None:
    hours = Hours.of(APIA, every_day("09:00-10:00"))
    window = (at("2011-12-29T00:00-10:00"), at("2012-01-05T00:00+14:00"))
    found = find_starts(rules(60, window_days=2), hours, window, at("2011-12-29T08:00-10:00"), [])
    assert shown(found, APIA) == ["2011-12-29T09:00-10:00", "2011-12-31T09:00+14:00"]


# All-day busy times.


@pytest.mark.parametrize(
    ("first", "last", "zone", "start", "end"),
    [
        pytest.param(
            "2026-03-02", "2026-03-02", BERLIN, "2026-03-02T00:00+01:00", "2026-03-03T00:00+01:00", id="a-day"
        ),
        pytest.param(
            "2026-03-02", "2026-03-04", NEW_YORK, "2026-03-02T00:00-05:00", "2026-03-05T00:00-05:00", id="three-days"
        ),
        pytest.param(
            "2026-03-29", "2026-03-29", BERLIN, "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00", id="23-hours"
        ),
        pytest.param(
            "2026-10-25", "2026-10-25", BERLIN, "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00", id="25-hours"
        ),
        pytest.param(
            "2018-11-04", "2018-11-04", SAO_PAULO, "2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00", id="no-midnight"
        ),
        pytest.param(
            "2018-11-03",
            "2018-11-03",
            SAO_PAULO,
            "2018-11-03T00:00-03:00",
            "2018-11-04T00:00-03:00",
            id="eve-of-no-midnight",
        ),
        # The clock that would show midnight goes back to 23:00 instead: the date goes on for an hour.
        pytest.param(
            "2018-02-17", "2018-02-17", SAO_PAULO, "2018-02-17T00:00-02:00", "2018-02-18T00:00-03:00", id="late-night"
        ),
        pytest.param(
            "2011-12-29", "2011-12-31", APIA, "2011-12-29T00:00-10:00", "2012-01-01T00:00+14:00", id="around-the-skip"
        ),
        pytest.param(
            "2011-12-29", "2011-12-29", APIA, "2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00", id="before-the-skip"
        ),
        pytest.param(
            "2011-12-31", "2011-12-31", APIA, "2011-12-31T00:00+14:00", "2012-01-01T00:00+14:00", id="after-the-skip"
        ),
    ],
)
def test_dates_span_what_passes_of_them_in_the_zone(
    first: str, last: str, zone: ZoneInfo, start: str, end: str
) -> None:
    assert date_span(date.fromisoformat(first), date.fromisoformat(last), zone) == (at(start), at(end))


def test_a_date_that_is_skipped_takes_no_time() -> None:
    skipped = date(2011, 12, 30)
    start, end = date_span(skipped, skipped, APIA)
    assert start == end == at("2011-12-31T00:00+14:00")


def test_an_all_day_busy_time_leaves_nothing_of_its_date_and_all_of_the_next() -> None:
    hours = Hours.of(SAO_PAULO, every_day("00:00-24:00"))
    window = (at("2018-11-03T00:00-03:00"), at("2018-11-05T03:00-02:00"))
    busy = [date_span(date(2018, 11, 4), date(2018, 11, 4), SAO_PAULO)]
    found = find_starts(rules(60, 60), hours, window, LONG_AGO, busy)
    assert [text[:13] for text in shown(found, SAO_PAULO)][23:] == [
        "2018-11-03T23",
        *(f"2018-11-05T0{h}" for h in range(3)),
    ]


def test_an_all_day_busy_time_covers_both_passes_of_a_midnight_hour() -> None:
    # Clocks in Newfoundland went back from 00:01 to 23:01: the old date came back after the new one had begun.
    st_johns = ZoneInfo("America/St_Johns")
    hours = Hours.of(st_johns, every_day("00:00-24:00"))
    window = (at("2006-10-28T22:00-02:30"), at("2006-10-29T00:30-03:30"))
    busy = [date_span(date(2006, 10, 28), date(2006, 10, 28), st_johns)]
    found = shown(find_starts(rules(10, 10), hours, window, LONG_AGO, busy), st_johns)
    assert [text for text in found if text.startswith("2006-10-28")] == []


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(5, 9), (1, 3)], [(1, 3), (5, 9)]),
        ([(1, 4), (3, 6)], [(1, 6)]),
        ([(1, 9), (3, 6), (8, 10)], [(1, 10)]),
        ([(1, 9), (3, 6), (6, 9)], [(1, 9)]),
        ([(1, 3), (1, 3)], [(1, 3)]),
        ([(1, 3), (1, 5), (2, 4)], [(1, 5)]),
        ([(3, 5), (1, 3)], [(1, 3), (3, 5)]),
        ([(1, 3), (3, 5), (2, 4)], [(1, 5)]),
    ],
)
def test_spans_that_overlap_become_one_and_spans_that_touch_stay_two(spans: list[Span], expected: list[Span]) -> None:
    assert merged(spans) == expected


def test_a_started_second_has_not_yet_passed() -> None:
    assert seconds(datetime(1970, 1, 1, 1, 0, 0, 999_999, tzinfo=UTC)) == 3600
    assert seconds(datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC)) == -1
    assert seconds(datetime(2026, 3, 2, 9, tzinfo=BERLIN)) == monday("09:00")


# Against the oracle.


def engine(
    zone: ZoneInfo,
    weekly: Mapping[str, Sequence[Span]],
    overrides: Mapping[date, Sequence[Span]],
    rules: Rules,
    window: Span,
    now: int,
    busy: Iterable[Span],
    booked: Iterable[int],
) -> list[int]:
    hours = Hours.of(
        zone,
        {day: [written(*span) for span in spans] for day, spans in weekly.items()},
        {day.isoformat(): [written(*span) for span in spans] for day, spans in overrides.items()},
    )
    return find_starts(rules, hours, window, now, busy, booked)


def written(opens: int, closes: int) -> str:
    return f"{opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}"


CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("Europe/Berlin", "2026-06-15"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),  # by half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Asia/Kathmandu", "1986-01-01"),  # by a quarter of an hour, once
    ("America/Sao_Paulo", "2018-11-04"),  # from midnight to 01:00
    ("America/Sao_Paulo", "2018-02-18"),  # from midnight to 23:00
    ("Pacific/Apia", "2011-12-30"),  # by a whole day
    ("Africa/Monrovia", "1972-01-07"),  # by 44 minutes and a half
    ("Africa/Casablanca", "2026-02-15"),  # for Ramadan
    ("Africa/Casablanca", "2026-03-22"),
    ("America/St_Johns", "2006-04-02"),  # at one minute past midnight
    ("America/St_Johns", "2006-10-29"),
    ("Antarctica/Troll", "2026-03-29"),  # by two hours
    ("Antarctica/Troll", "2026-10-25"),
    ("Asia/Tehran", "2022-03-22"),  # at midnight
    ("Asia/Tehran", "2022-09-21"),
]


@st.composite
def open_ranges(draw: st.DrawFn) -> list[Span]:
    """Ranges of one day, some of them adjoining."""
    if draw(st.booleans()):
        return [(0, 1440)]
    five_minutes = draw(st.lists(st.integers(0, 288), unique=True, max_size=5))
    bounds = sorted({0, 1440, *(5 * n for n in five_minutes)})
    return [span for span in pairwise(bounds) if draw(st.integers(0, 3))]


@dataclass
class Question:
    zone: str
    weekly: dict[str, list[Span]]
    overrides: dict[date, list[Span]]
    rules: Rules
    window: Span
    now: int
    busy: list[Span]
    booked: list[int]


@st.composite
def questions(draw: st.DrawFn) -> Question:
    zone, day = draw(st.sampled_from(CHANGES))
    middle = int(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp())
    odd = st.sampled_from([0, 0, 0, 1, 30, 59])

    def around(moment: int, hours: int) -> int:
        return moment + draw(st.integers(-12 * hours, 12 * hours)) * 5 * MINUTE + draw(odd)

    asked = rules(
        duration=draw(st.sampled_from([5, 15, 20, 30, 45, 60, 90, 240, 1500])),
        step=draw(st.sampled_from([5, 7, 15, 20, 25, 30, 45, 60, 100])),
        buffer_before=draw(st.sampled_from([0, 0, 5, 10, 45, 120])),
        buffer_after=draw(st.sampled_from([0, 0, 5, 10, 45, 120])),
        minimum_notice=draw(st.sampled_from([0, 0, 15, 240, 1440])),
        window_days=draw(st.sampled_from([None, None, 0, 1, 2, 3])),
        max_per_day=draw(st.sampled_from([None, 1, 2])),
    )
    start = around(middle - DAY // 2, 24)
    window = (start, start + draw(st.integers(1, 48 * 12)) * 5 * MINUTE + draw(odd))
    busy: list[Span] = []
    for _ in range(draw(st.integers(0, 5))):
        begins = around(middle, 36)
        if draw(st.booleans()) and busy:
            # Just enough time after the last, or a second too little.
            begins = busy[-1][1] + asked.buffer_before + asked.duration + asked.buffer_after - draw(st.integers(0, 1))
        busy.append((begins, begins + draw(st.sampled_from([0, 1, 5 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR]))))
    dates = [date.fromisoformat(day) + timedelta(days=n) for n in range(-2, 4)]
    return Question(
        zone,
        draw(st.fixed_dictionaries({day: open_ranges() for day in oracle.WEEK})),
        draw(st.dictionaries(st.sampled_from(dates), open_ranges(), max_size=3)),
        asked,
        window,
        around(start - DAY, 24),
        busy,
        [around(middle, 36) for _ in range(draw(st.integers(0, 3)))],
    )


@pytest.mark.untraced
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(questions())
def test_the_engine_agrees_with_the_oracle(q: Question) -> None:
    zone = ZoneInfo(q.zone)
    expected = oracle.find_starts(
        oracle.clock_of(zone),
        q.weekly,
        q.overrides,
        q.window,
        q.now,
        q.busy,
        q.booked,
        cell=30 if q.zone == "Africa/Monrovia" else 60,
        **asdict(q.rules),
    )
    assert engine(zone, q.weekly, q.overrides, q.rules, q.window, q.now, q.busy, q.booked) == expected


Change = tuple[int, int, int]
"""A clock change: its instant, and the seconds ahead of UTC before and after."""


def clock_changes() -> dict[Change, ZoneInfo]:
    """All there are from 1970 through 2037, each with a zone that has it."""
    # No zone ever changed its clocks twice within a week, so five days miss none.
    probes = range(-DAY, int(datetime(2038, 1, 1, tzinfo=UTC).timestamp()), 5 * DAY)
    found: dict[Change, ZoneInfo] = {}
    for zone in map(ZoneInfo, sorted(available_timezones())):

        def offset(instant: int, zone: ZoneInfo = zone) -> timedelta | None:
            return datetime.fromtimestamp(instant, zone).utcoffset()

        before = offset(probes[0])
        for probe in probes[1:]:
            after = offset(probe)
            if after != before:
                low, high = probe - 5 * DAY, probe
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if offset(middle) == before else (low, middle)
                assert before is not None
                assert after is not None
                found.setdefault((high, int(before.total_seconds()), int(after.total_seconds())), zone)
                before = after
    return found


@dataclass
class Case:
    weekly: dict[str, list[Span]]
    overrides: dict[int, list[Span]]
    """By days after 1970-01-01."""
    rules: Rules
    window: Span
    now: int
    busy: list[Span]
    booked: list[int]
    expected: list[int]


def by_day(*local: Span) -> dict[int, list[Span]]:
    """Ranges in local minutes since 1970-01-01 00:00 as hours of dates, cut where they cross midnight."""
    days: dict[int, list[Span]] = {}
    for start, end in local:
        for day in range(start // 1440, -(-end // 1440)):
            span = max(start - day * 1440, 0), min(end - day * 1440, 1440)
            days.setdefault(day, []).append(span)
    return days


@cache
def hard_cases(instant: int, before: int, after: int) -> list[Case]:
    """Hours that open, close and run on where the change hurts most, with the oracle's answers."""
    clock = oracle.clock_with_one_change(instant, before, after)
    # Clocks skip, or show twice, what is between these: local minutes.
    first, last = sorted((instant + before, instant + after))
    first, last = first // 60, -(-last // 60)
    within = (first + last) // 2
    around = by_day((first - 100, last + 100))
    parted = by_day((first - 60, first), (first, last), (last, last + 60))
    daily: dict[str, list[Span]] = {day: [(0, 1440)] for day in oracle.WEEK}
    both = (instant - DAY, instant + DAY)
    soon = instant - HOUR
    cell = 30 if before % 60 or after % 60 else 60

    def case(
        rules: Rules,
        overrides: dict[int, list[Span]],
        *,
        window: Span = both,
        now: int = LONG_AGO,
        busy: Sequence[Span] = (),
        booked: Sequence[int] = (),
        weekly: Mapping[str, list[Span]] | None = None,
    ) -> Case:
        dates = {date(1970, 1, 1) + timedelta(days=day): spans for day, spans in overrides.items()}
        expected = oracle.find_starts(clock, weekly or {}, dates, window, now, busy, booked, cell=cell, **asdict(rules))
        return Case(dict(weekly or {}), overrides, rules, window, now, list(busy), list(booked), expected)

    return [
        case(rules(30, 25), around),
        case(rules(30, 25), around, window=(instant, instant + 4 * HOUR)),
        case(rules(30, 25), around, window=(instant - 4 * HOUR, instant)),
        case(rules(45, 35), by_day((within, last + 200))),
        case(rules(20, 7), by_day((first - 200, within))),
        case(rules(15, 10), by_day((first + 1, last - 1))),
        case(
            rules(50, 20, buffer_before=10, buffer_after=5),
            parted,
            busy=[(instant + 45 * MINUTE, instant + HOUR), (instant - 2 * HOUR, instant - 65 * MINUTE)],
        ),
        case(rules(90, 35), {}, weekly=daily),
        case(rules(90, 35, window_days=0, max_per_day=1), {}, weekly=daily, now=soon, booked=[instant - DAY]),
        case(rules(90, 35, max_per_day=1), {}, weekly=daily, booked=[instant]),
    ]


@pytest.mark.untraced
def test_the_engine_agrees_with_the_oracle_at_every_clock_change_there_is() -> None:
    changes = clock_changes()
    offered = 0
    for (instant, before, after), zone in changes.items():
        # Where a day's hours are the same whatever the date, so are the answers: the oracle gives them once for all
        # changes at the same time of day. The engine sees each.
        early = 10 * DAY + instant % DAY
        days = (instant - early) // DAY
        for case in hard_cases(early, before, after):
            shift = days * DAY
            found = engine(
                zone,
                case.weekly,
                {date(1970, 1, 1) + timedelta(days=day + days): spans for day, spans in case.overrides.items()},
                case.rules,
                (case.window[0] + shift, case.window[1] + shift),
                case.now + shift,
                [(start + shift, end + shift) for start, end in case.busy],
                [start + shift for start in case.booked],
            )
            assert [start - shift for start in found] == case.expected, (zone.key, instant, case)
            offered += len(found)
    # Neither list may run empty unnoticed.
    assert len(changes) > 5_900
    assert offered > 50 * len(changes)
