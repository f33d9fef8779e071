"""Settings of the property tests, and ledgers on disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from certify.workspace import Workspace

settings.register_profile("quick", deadline=None, max_examples=100)
settings.load_profile("quick")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """An empty ledger with unencrypted keys."""
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as workspace:
        yield workspace
