"""Ledgers on disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from certify.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """An empty ledger with unencrypted keys."""
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as workspace:
        yield workspace
