"""Times in statements: RFC 3339, UTC, whole seconds, as ``2026-11-21T09:30:00Z``."""

from datetime import UTC, datetime

from certify.errors import StatementError


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def format_time(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def parse_time(text: str) -> datetime:
    """Raises StatementError for any other form."""
    try:
        time = datetime.fromisoformat(text)  # which takes many other forms
    except ValueError:
        time = None
    if time is None or time.tzinfo is not UTC or format_time(time) != text:
        raise StatementError(f"not a time: {text[:40]!r}, expected like 2026-11-21T09:30:00Z")
    return time


def add_month(time: datetime) -> datetime:
    """The same day of the next month, or its last day: how GDPR article 12(3) counts (Regulation 1182/71)."""
    year, month = divmod(time.year * 12 + time.month, 12)
    for day in (time.day, 30, 29, 28):
        try:
            return time.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    raise AssertionError("every month has 28 days")
