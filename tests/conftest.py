"""Shared by all tests."""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.postgres import Server, server

_depth = sys.getrecursionlimit()
if importlib.util.find_spec("py_ecc"):
    importlib.import_module("py_ecc")  # it raises the limit on recursion for the whole process
sys.setrecursionlimit(_depth)

settings.register_profile("tests", deadline=None)  # machines are busy at times
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left alone with them at the end."""
    items.sort(key=lambda item: item.path.name != "test_examples.py")


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], Any]:
    """``vectors("merkle_inclusion")`` loads that JSON file of test vectors made by others."""

    def load(name: str) -> Any:
        folder = os.environ.get("LEDGER_VECTORS")
        if not folder:
            pytest.skip(f"set LEDGER_VECTORS to the folder with {name}.json")
        path = Path(folder) / f"{name}.json"
        if not path.is_file():
            pytest.skip(f"LEDGER_VECTORS has no {name}.json")
        return json.loads(path.read_text())

    return load


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this test process."""
    with server() as running:
        yield running
