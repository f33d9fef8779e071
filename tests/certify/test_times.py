"""Times in statements have one form."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import StatementError
from certify.times import add_month, format_time, now, parse_time

moments = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC))


@given(moments)
def test_time_survives(time: datetime) -> None:
    assert parse_time(format_time(time)) == time


def test_other_offsets_become_utc() -> None:
    noon = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(noon) == "2026-11-21T10:00:00Z"


def test_now_has_whole_seconds() -> None:
    assert now().microsecond == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-21",
        "2026-11-21T10:00:00",
        "2026-11-21T10:00:00+00:00",
        "2026-11-21T10:00:00.5Z",
        "2026-11-21T10:00:00z",
        "2026-11-21 10:00:00Z",
        "2026-1-21T10:00:00Z",
        "2026-02-30T10:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T10:00:60Z",
        "0000-11-21T10:00:00Z",
        "٢٠٢٦-11-21T10:00:00Z",
        "2026-11-21T10:00:00Z\n",
        " 2026-11-21T10:00:00Z",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(StatementError, match="expected like"):
        parse_time(text)


@given(st.text(max_size=25))
def test_text_is_a_time_or_an_error(text: str) -> None:
    try:
        time = parse_time(text)
    except StatementError:
        return
    assert format_time(time) == text


@pytest.mark.parametrize(
    ("first", "then"),
    [("2026-01-15", "2026-02-15"), ("2026-01-31", "2026-02-28"), ("2028-01-31", "2028-02-29"), ("2026-12-31", "2027-01-31"),
     ("2026-10-31", "2026-11-30")],
)  # fmt: skip
def test_a_month_ends_on_the_same_day_or_the_last(first: str, then: str) -> None:
    assert add_month(datetime.fromisoformat(first)) == datetime.fromisoformat(then)
