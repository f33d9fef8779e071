"""Attacks on the index for searching, by somebody who can write its file: it may hide a statement until it is checked, and never
show one that is not in the log or is not what was asked for.
"""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from certify.cli import cli
from certify.envelope import Envelope, sign
from certify.errors import SearchError
from certify.search import Index
from certify.search_query import Query
from certify.workspace import Workspace
from ledger.errors import TamperedError
from ledger.log import Log
from ledger.log_key import LogKey
from tests.cases import ORIGIN, certificate, request, training

FAKE = "ab" * 32


class Ledger:
    """0: training; 1: request; 2: certificate."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.path = workspace, workspace.path / "search.db"
        self.statements: list[Envelope] = []
        trained = self.say(training())
        self.say(certificate(trained, self.say(request())))
        self.update()

    def say(self, statement: Any) -> Envelope:
        envelope = sign(statement.payload(), [self.workspace.issuer_key])
        self.workspace.log.append(envelope.data)
        self.statements.append(envelope)
        return envelope

    def update(self) -> int:
        with Index.open(self.path, self.workspace.reader) as index:
            return index.update()

    def find(self, **query: Any) -> list[int]:
        with Index.open(self.path, self.workspace.reader) as index:
            index.update()
            return [hit.index for hit in index.find(Query(**query))]

    def check(self) -> list[str]:
        with Index.open(self.path, self.workspace.reader) as index:
            return index.check()

    def alter(self, sql: str, **values: Any) -> None:
        engine = sa.create_engine(f"sqlite:///{self.path}")
        with engine.begin() as connection:
            assert connection.execute(sa.text(sql), values).rowcount
        engine.dispose()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Workspace.init(tmp_path / "ledger", origin=ORIGIN, issuer="Clinic", password=None) as workspace:
        yield Ledger(workspace)


def test_index_pointed_at_another_entry(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up of the certificate is led to the training."""
    digest = ledger.statements[2].digest
    ledger.alter("UPDATE terms SET entry = 0 WHERE digest = :digest", digest=bytes.fromhex(digest))
    with pytest.raises(SearchError, match="entry 0, which is not what was asked for"):
        ledger.find(statement=digest)
    assert len(ledger.check()) == 2
    monkeypatch.setattr(Query, "fits", lambda *_: True)
    assert ledger.find(statement=digest) == [0]


def test_made_up_digest_finds_nothing_that_names_it(ledger: Ledger) -> None:
    """A weights file that nobody certified is made to look certified."""
    ledger.alter("INSERT INTO terms (digest, field, entry) VALUES (:digest, 2, 2)", digest=bytes.fromhex(FAKE))
    for query in ({"file": FAKE}, {"any": FAKE}):
        with pytest.raises(SearchError, match="not what was asked for"):
            ledger.find(**query)
    assert ledger.check() == [f"entry 2: made up in the index: digest {FAKE}, field 2"]


@pytest.mark.parametrize("column, value", [("kind", "training"), ("time", 0)])
def test_made_up_kind_or_time(ledger: Ledger, column: str, value: Any) -> None:
    ledger.alter(f"UPDATE entries SET {column} = :value WHERE entry = 1", value=value)
    query = {"kind": "training"} if column == "kind" else {"until": datetime(1999, 1, 1, tzinfo=UTC)}
    with pytest.raises(SearchError, match="entry 1, which is not what was asked for"):
        ledger.find(**query)
    assert len(ledger.check()) == 2


@pytest.mark.parametrize("entry", [3, 10**12, -1])
def test_index_names_an_entry_that_is_not_there(ledger: Ledger, entry: int) -> None:
    ledger.alter("INSERT INTO entries (entry, kind, time) VALUES (:entry, 'request', 0)", entry=entry)
    with pytest.raises(SearchError, match=f"entry {entry}, the log has 3"):
        ledger.find(kind="request")
    assert ledger.check() == [f"entry {entry}: made up in the index: kind request, time 0"]


def test_index_of_another_log(ledger: Ledger, tmp_path: Path) -> None:
    other = LogKey.generate("other.example/log")
    with Log.create(tmp_path / "other.db", other) as log:
        log.append(b"entry")
        with pytest.raises(SearchError, match=r"index of log 'example.com/ledger', this one is 'other.example/log'"):
            Index.open(ledger.path, log)


def test_index_of_another_log_of_the_same_name(ledger: Ledger, tmp_path: Path) -> None:
    """Somebody's own log that calls itself the same, with as many entries and with more."""
    with Log.create(tmp_path / "other.db", LogKey.generate(ORIGIN)) as log:
        for number in range(5):
            log.append(b"entry %d" % number)
            if number >= 2:
                with Index.open(ledger.path, log) as index, pytest.raises(SearchError, match="not the continuation"):
                    index.update()
    assert ledger.update() == 3


def test_index_ahead_of_the_log(ledger: Ledger, tmp_path: Path) -> None:
    """The log's database is put back to an earlier state, and the watermark with it: the index has seen more."""
    folder = ledger.workspace.path
    ledger.workspace.close()
    shutil.copytree(folder, tmp_path / "earlier")
    with Workspace(folder) as workspace:
        workspace.log.append(b"later")
        with Index.open(ledger.path, workspace.reader) as index:
            assert index.update() == 4
    for name in ("log.db", "keys/log.seen"):
        for stale in folder.glob(f"{name}-*"):
            stale.unlink()
        shutil.copy(tmp_path / "earlier" / name, folder / name)
    with pytest.raises(SearchError, match="built from 4 entries, the log has 3"):
        ledger.find()


@pytest.mark.parametrize("size, nodes", [(2, 1), (4, 1), (2**40, 1), (3, 2)])
def test_index_that_claims_more_or_less_than_it_read(ledger: Ledger, size: int, nodes: int) -> None:
    """So that what is new would be skipped."""
    ledger.say(request((2, 3)))
    ledger.alter("UPDATE state SET size = :size, edge = :edge", size=size, edge=bytes(32 * nodes))
    with pytest.raises(SearchError, match=r"continuation|built from"):
        ledger.find()


@pytest.mark.parametrize(
    "values", ["size = 4", "size = -3", "edge = x'00'", "edge = 'text'", "size = 'x'", "size = -1"]
)
def test_index_whose_state_is_no_state(ledger: Ledger, values: str) -> None:
    ledger.alter(f"UPDATE state SET {values}")
    with pytest.raises(SearchError, match="contradicts itself"):
        ledger.find()


def test_deleted_rows_hide_until_the_index_is_checked(ledger: Ledger) -> None:
    """The certificate is made to vanish; searching says how many entries were searched, which is no help. Checking is."""
    for table in ("entries", "terms"):
        ledger.alter(f"DELETE FROM {table} WHERE entry = 2")
    assert ledger.find(kind="unlearning") == []
    findings = ledger.check()
    assert findings[0].startswith("entry 2: missing in the index: kind unlearning")
    done = CliRunner().invoke(cli, ["search", "--ledger", str(ledger.workspace.path), "--check"])
    assert done.exit_code == SearchError.exit_code == 56
    assert "entry 2: missing" in done.output
    done = CliRunner().invoke(
        cli, ["search", "--ledger", str(ledger.workspace.path), "--kind", "unlearning", "--rebuild"]
    )
    assert "1 found; 3 entries searched" in done.output


def test_entry_altered_in_the_log_is_not_shown(ledger: Ledger) -> None:
    """The log's own database is altered: the hit is read from there, against the signed root."""
    engine = sa.create_engine(f"sqlite:///{ledger.workspace.path / 'log.db'}")
    ledger.workspace.close()
    with engine.begin() as connection:
        forged = ledger.statements[1].data.replace(b'"payload":"', b'"payload":"e30=')
        sql = 'UPDATE entries SET data = :data WHERE "index" = 1'
        assert connection.execute(sa.text(sql), {"data": forged}).rowcount == 1
    engine.dispose()
    with pytest.raises(TamperedError):
        ledger.find(kind="request")
