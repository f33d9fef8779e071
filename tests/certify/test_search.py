"""Searching: what is found, from which index, on the command line and behind a URL."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from certify.cli import cli
from certify.envelope import Envelope, sign
from certify.errors import SearchError
from certify.keys import SigningKey
from certify.search import Index
from certify.search_query import Query
from certify.search_terms import describe
from certify.statement import Statement, subject
from certify.trust import TrustedIssuer, TrustedLog, format_trust
from certify.workspace import Workspace
from ledger.log import Log
from ledger.proof import TlogProof
from ledger.tiles import TILE_WIDTH, Tile
from tests.cases import LATER, ORIGIN, POST, PRE, certificate, day, request, revocation, training

FILE = "f1" * 32


@dataclass(frozen=True)
class Known:
    """What stands in the log."""

    workspace: Workspace
    training: Envelope
    request: Envelope
    certificate: Envelope

    def find(self, **query: Any) -> list[int]:
        with self.index() as index:
            index.update()
            found = list(index.find(Query(**query)))
            assert index.count(Query(**query)) == len(found)
            return [hit.index for hit in found]

    def index(self) -> Index:
        return Index.open(self.workspace.path / "search.db", self.workspace.reader)


@pytest.fixture
def known(workspace: Workspace) -> Known:
    """0: no statement; 1: training; 2: request; 3: certificate, with a file; 4: another request; 5: a key; 6: training."""
    log, key = workspace.log, workspace.issuer_key
    log.append(b"somebody else's entry")

    def say(statement: Statement) -> Envelope:
        envelope = sign(statement.payload(), [key])
        log.append(envelope.data)
        return envelope

    trained, asked = say(training()), say(request())
    made = certificate(trained, asked)
    certified = say(Statement((*made.subjects, subject("model.safetensors", FILE)), made.predicate))
    say(request((2, 3)))
    say(revocation(key))
    other = SigningKey.generate("ed25519")
    log.append(sign(training(LATER).payload(), [other]).data)
    return Known(workspace, trained, asked, certified)


def test_by_digest_of_any_sort(known: Known) -> None:
    assert known.find(any=known.request.digest) == [2, 3]
    assert known.find(any=PRE.root().hex()) == [1, 3]
    assert known.find(any=FILE[:8]) == [3]
    assert known.find(any="00" * 32) == []


def test_by_what_a_digest_is_of(known: Known) -> None:
    forget = describe(known.request.data)
    [root] = [
        digest.hex() for field, digest in forget.terms if digest.hex() not in (known.request.digest,) and field == 1
    ]
    assert known.find(statement=known.certificate.digest) == [3]
    assert known.find(request=root) == [2]
    assert known.find(request=known.request.digest[:12]) == [2, 3]
    assert known.find(file=FILE) == [3]
    assert known.find(tensors=POST.root().hex()) == [3]
    assert known.find(tensors=FILE) == []
    assert known.find(keys=(known.workspace.issuer_key.public.keyid,)) == [1, 2, 3, 4, 5]


def test_by_kind_and_time_and_all_together(known: Known) -> None:
    assert known.find() == list(range(7))
    assert known.find(kind="request") == [2, 4]
    assert known.find(kind="other") == [0]
    assert known.find(since=day(10)) == [2, 3, 4]
    assert known.find(since=day(1), until=day(10)) == [1, 5, 6]
    assert known.find(kind="training", tensors=PRE.root().hex(), until=day(2)) == [1]
    assert known.find(kind="request", tensors=PRE.root().hex()) == []


def test_hits_are_the_logs_own_bytes(known: Known) -> None:
    with known.index() as index:
        index.update()
        [hit] = index.find(Query(statement=known.certificate.digest))
        [other] = index.find(Query(kind="other"))
        assert [hit.index for hit in index.find(Query(), limit=2, newest=True)] == [6, 5]
    assert (hit.data, hit.digest) == (known.certificate.data, known.certificate.digest)
    assert hit.statement is not None and hit.statement.kind == "unlearning"
    assert (other.statement, other.envelope) == (None, None)


def test_the_index_follows_the_log(known: Known) -> None:
    with known.index() as index:
        assert index.size() == 0
        assert index.update() == 7
        known.workspace.log.append(b"one more")
        assert index.count(Query()) == 7
        assert index.update() == index.update() == index.size() == 8
        assert index.count(Query()) == 8
        assert index.check() == []


def test_rebuilt_it_is_the_same(known: Known) -> None:
    with known.index() as index:
        index.update()
    with Index.rebuild(known.workspace.path / "search.db", known.workspace.reader) as index:
        assert index.size() == 7
        assert index.check() == []
    assert [path.name for path in known.workspace.path.glob("*search*")] == ["search.db"]


def test_a_damaged_index_can_be_rebuilt(known: Known) -> None:
    path = known.workspace.path / "search.db"
    known.find()
    path.write_bytes(path.read_bytes()[:4096] + bytes(5000))
    with pytest.raises(SearchError, match="--rebuild"):
        known.find()
    Index.rebuild(path, known.workspace.reader).close()
    assert known.find(kind="request") == [2, 4]


@pytest.mark.parametrize("name", ["vault.db", "log.db", "trust.toml"])
def test_other_files_are_left_alone(known: Known, name: str) -> None:
    path = known.workspace.path / name
    _ = known.workspace.vault
    before = path.read_bytes()
    for make in (Index.open, Index.rebuild):
        with pytest.raises(SearchError, match=r"something else|cannot be used"):
            make(path, known.workspace.reader)
    assert path.read_bytes() == before


def test_many_processes_bring_one_index_up_to_date(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.search.BATCH", 3)
    known.workspace.log.append_many([b"entry %d" % i for i in range(60)])
    errors: list[BaseException] = []

    def update() -> None:
        try:
            with known.index() as index:
                assert index.update() == 67
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=update) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with known.index() as index:
        assert index.check() == []


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "A" * 64, "0" * 65, "0123456"])
def test_what_is_no_digest_is_refused(digest: str) -> None:
    with pytest.raises(SearchError, match="not a digest"):
        Query(any=digest)


def test_nothing_but_digests_kinds_and_times_is_kept(known: Known) -> None:
    known.find()
    kept = (known.workspace.path / "search.db").read_bytes()
    for text in (b"patient", b"safetensors", b"sisa", b"gdpr", b"Clinic"):
        assert text not in kept
    with sa.create_engine(f"sqlite:///{known.workspace.path / 'search.db'}").connect() as connection:
        kinds = set(connection.execute(sa.text("SELECT kind FROM entries")).scalars())
    assert kinds == {"other", "training", "request", "unlearning", "key"}


NAMES = st.sampled_from(["payload", "signatures", "predicateType", "predicate", "subject", "run"])
JSON = st.recursive(st.none() | st.text(max_size=5), lambda values: st.lists(values) | st.dictionaries(NAMES, values))


@given(st.binary(max_size=200) | JSON.map(json.dumps).map(str.encode))
def test_describing_never_fails(data: bytes) -> None:
    assert describe(data).kind == "other"


# -- on the command line -----------------------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    done = CliRunner().invoke(cli, ["search", *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_command_needs_no_password_and_names_signers(known: Known) -> None:
    for path in (known.workspace.path / "keys").glob("*.pem"):
        path.unlink()
    found = run("--ledger", known.workspace.path)
    assert (found["indexed"], found["found"]) == (7, 7)
    assert [entry["kind"] for entry in found["entries"]] == [
        "other", "training", "request", "unlearning", "request", "key", "training",
    ]  # fmt: skip
    signers = [entry["signedBy"] for entry in found["entries"]]
    assert signers[:6] == [[], ["Clinic"], ["Clinic"], ["Clinic"], ["Clinic"], ["Clinic"]]
    assert signers[6][0].endswith("unchecked")
    assert [entry["index"] for entry in run("-l", known.workspace.path, "--issuer", "Clinic")["entries"]] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_command_shows_the_newest_and_writes_proofs(known: Known, tmp_path: Path) -> None:
    folder = known.workspace.path
    found = run("-l", folder, "--kind", "request", "--limit", 1, "--prove", tmp_path / "proofs")
    assert (found["found"], [entry["index"] for entry in found["entries"]]) == (2, [4])
    assert found["files"] == [str(tmp_path / "proofs" / f"000000000004.{end}") for end in ("dsse.json", "tlog-proof")]
    proof = TlogProof.parse((tmp_path / "proofs" / "000000000004.tlog-proof").read_bytes())
    proof.verify((tmp_path / "proofs" / "000000000004.dsse.json").read_bytes(), log_keys=known.workspace.log_keys())


def test_command_checks_and_rebuilds(known: Known) -> None:
    folder = known.workspace.path
    assert run("-l", folder, "--check") == {"entries": 7, "findings": []}
    assert run("-l", folder, "--rebuild", known.request.digest)["found"] == 2


def test_table_and_words(known: Known) -> None:
    done = CliRunner().invoke(cli, ["search", "-l", str(known.workspace.path), "--kind", "unlearning"])
    assert known.certificate.digest in done.output
    assert "1 found; 7 entries searched" in done.output
    assert "names nobody" in str(
        CliRunner().invoke(cli, ["search", "-l", str(known.workspace.path), "--issuer", "Nobody"]).exception
    )


@pytest.fixture
def url(known: Known, tmp_path: Path) -> Iterator[str]:
    """The same log's static layout, behind a plain web server."""
    root = tmp_path / "served"
    log = known.workspace.reader
    write(root, log)
    handler = partial(Quiet, directory=str(root))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def write(root: Path, log: Log) -> None:
    size = log.size()
    assert size < TILE_WIDTH
    tile = Tile(0, 0, size)
    for path, data in (
        ("checkpoint", log.checkpoint()), (tile.path(), log.tile(tile)), (tile.bundle_path(), log.bundle(tile)),
    ):  # fmt: skip
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def test_a_log_behind_a_url(known: Known, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("httpx")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trust = known.workspace.path / "trust.toml"
    found = run("--ledger", url, "--trust", trust, "--request", known.request.digest, "--prove", tmp_path / "proofs")
    assert [entry["index"] for entry in found["entries"]] == [2, 3]
    assert len(list((tmp_path / "cache" / "certify").glob("search-*.db"))) == 1
    proof = TlogProof.parse((tmp_path / "proofs" / "000000000003.tlog-proof").read_bytes())
    proof.verify(known.certificate.data, log_keys=known.workspace.log_keys())
    assert run("--ledger", url, "--trust", trust, "--check")["findings"] == []
    other = TrustedLog("other.example/log", known.workspace.log_keys())
    keys = [TrustedIssuer("Clinic", known.workspace.issuer_key.public)]
    (tmp_path / "both.toml").write_text(format_trust([other, TrustedLog(ORIGIN, known.workspace.log_keys())], keys))
    assert run("--ledger", url, "--trust", tmp_path / "both.toml")["found"] == 7


def test_a_url_needs_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    done = CliRunner().invoke(cli, ["search", "--ledger", "https://log.example/"])
    assert "or give --trust" in str(done.exception)
