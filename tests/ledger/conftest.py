"""Logs to test with."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ledger.log import Log
from ledger.log_key import LogKey

settings.register_profile("here", deadline=None, max_examples=150)
settings.load_profile("here")


@pytest.fixture(scope="session")
def key() -> LogKey:
    return LogKey.generate("example.com/log")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def log(path: Path, key: LogKey) -> Iterator[Log]:
    with Log.create(path, key) as log:
        yield log


@pytest.fixture
def log_of(path: Path, key: LogKey) -> Iterator[Callable[[int], Log]]:
    """``log_of(300)`` is a log with the entries ``b"entry 0"`` to ``b"entry 299"``."""
    logs: list[Log] = []

    def make(size: int) -> Log:
        logs.append(Log.create(path, key))
        logs[-1].append_many([b"entry %d" % i for i in range(size)])
        return logs[-1]

    yield make
    for log in logs:
        log.close()
