"""A ledger on disk: its files and modes, looking things up, and crashes."""

import sqlite3
from pathlib import Path

import pytest

from certify.errors import CertifyError, WorkspaceError
from certify.request import file_request, shred_request
from certify.trust import Trust
from certify.workspace import Workspace
from ledger.errors import KeyFileError, LedgerError
from ledger.log import Log
from tests.cases import training


def init(path: Path, password: bytes | None = None, issuer: str = "Clinic") -> Workspace:
    return Workspace.init(path, origin="example.com/ledger", issuer=issuer, password=password)


def ask(workspace: Workspace, name: str = "a") -> str:
    return file_request(workspace, {name: {"x": name}}, ground="gdpr-17").digest


def test_secrets_are_for_their_owner_alone(tmp_path: Path) -> None:
    init(tmp_path / "ledger", b"secret").close()
    keys = tmp_path / "ledger" / "keys"
    assert keys.stat().st_mode & 0o777 == 0o700
    for path in (keys / "issuer.pem", keys / "log.pem", keys / "vault.json", tmp_path / "ledger" / "vault.db"):
        assert path.stat().st_mode & 0o777 == 0o600, path
    for name in ("issuer.pem", "log.pem"):
        assert b"ENCRYPTED PRIVATE KEY" in (keys / name).read_bytes()
    assert b'"sealed"' in (keys / "vault.json").read_bytes()


@pytest.mark.parametrize("occupied", ["file", "folder with a file", "ledger"])
def test_init_never_writes_over_anything(tmp_path: Path, occupied: str) -> None:
    path = tmp_path / "ledger"
    if occupied == "file":
        path.write_text("mine")
    elif occupied == "ledger":
        init(path).close()
    else:
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WorkspaceError, match="not an empty folder"):
        init(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_init_takes_an_empty_folder(tmp_path: Path) -> None:
    init(tmp_path).close()
    assert Trust.load(tmp_path / "trust.toml").issuers[0].name == "Clinic"


@pytest.mark.parametrize("issuer", ["Clinic", 'Dr. "O\\\'Neil"\n', "Universitätsklinik", "\N{HOSPITAL} AG", "\x7f\x00"])
def test_any_issuer_name_survives(tmp_path: Path, issuer: str) -> None:
    init(tmp_path, issuer=issuer).close()
    assert Workspace(tmp_path).issuer == issuer
    assert Trust.load(tmp_path / "trust.toml").issuers[0].name == issuer


def test_reopened_with_the_password_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CERTIFY_PASSWORD", raising=False)
    monkeypatch.delenv("CERTIFY_PASSWORD_FILE", raising=False)
    with init(tmp_path, b"secret") as workspace:
        digest = ask(workspace)
    for wrong in (b"guess", None):
        with Workspace(tmp_path, wrong) as workspace, pytest.raises(KeyFileError, match="password"):
            ask(workspace)
    monkeypatch.setenv("CERTIFY_PASSWORD", "secret")
    for password in (b"secret", None):
        with Workspace(tmp_path, password) as workspace:
            assert workspace.find(digest).index == 0
            assert workspace.vault.openings(workspace.entry(0).statement.subjects[0].sha256)
    monkeypatch.delenv("CERTIFY_PASSWORD")
    (tmp_path / "password").write_text("secret\r\nsomething else\n")
    (tmp_path / "password").chmod(0o600)
    monkeypatch.setenv("CERTIFY_PASSWORD_FILE", str(tmp_path / "password"))
    with Workspace(tmp_path) as workspace:
        assert ask(workspace, "b")
    (tmp_path / "password").chmod(0o644)
    with Workspace(tmp_path) as workspace, pytest.raises(KeyFileError, match="expected 0600"):
        ask(workspace, "c")


@pytest.mark.parametrize(
    "text", ["", "version = 2\norigin = 'a'\nissuer = 'b'\n", "version = 1", "\x00", "version = 1\nx = 1"]
)
def test_damaged_configuration_is_a_clear_error(tmp_path: Path, text: str) -> None:
    init(tmp_path).close()
    (tmp_path / "certify.toml").write_text(text)
    with pytest.raises(WorkspaceError, match=r"certify\.toml"):
        Workspace(tmp_path)


def test_missing_ledger_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="certify init"):
        Workspace(tmp_path / "nothing")


def test_found_by_index_and_by_the_start_of_the_digest(workspace: Workspace) -> None:
    digests = [ask(workspace, name) for name in "abc"]
    for index, digest in enumerate(digests):
        for name in (str(index), digest, digest[:12]):
            assert workspace.find(name).digest == digest
    for name in ("3", "999"):
        with pytest.raises(LedgerError, match="no entry"):
            workspace.find(name)
    for name in ("", "abc", "z" * 64, "%", "____", digests[0] + "0"):
        with pytest.raises(WorkspaceError, match="expected one"):
            workspace.find(name)
    assert [logged.digest for logged in workspace.statements()] == digests
    assert workspace.latest("request").index == 2
    with pytest.raises(WorkspaceError, match="no training statement"):
        workspace.latest("training")


def test_index_is_rebuilt_when_the_notes_are_gone(workspace: Workspace) -> None:
    digest = ask(workspace)
    assert workspace.find(digest).index == 0
    with sqlite3.connect(workspace.path / "vault.db") as database:
        database.execute("DELETE FROM notes")
    assert workspace.find(digest).index == 0


def test_index_follows_entries_that_others_appended(workspace: Workspace) -> None:
    ask(workspace)
    assert workspace.find("0").index == 0
    with Workspace(workspace.path) as other:
        digest = ask(other, "b")
    assert workspace.find(digest).index == 1


def test_entry_that_is_no_statement_is_a_clear_error(workspace: Workspace) -> None:
    workspace.log.append(b"not a statement")
    with pytest.raises(WorkspaceError, match="entry 0 is not a statement"):
        workspace.entry(0)


def test_crash_between_signing_and_appending_leaves_nothing_in_the_log(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(workspace)
    before = workspace.log.checkpoint()

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", crash)
        with pytest.raises(KeyboardInterrupt):
            ask(workspace, "b")
    assert workspace.log.checkpoint() == before
    assert [logged.index for logged in workspace.statements()] == [0]
    with Workspace(workspace.path) as again:
        assert again.log.size() == 1
        ask(again, "b")
        assert again.log.size() == 2


def test_log_cannot_be_opened_with_another_logs_key(workspace: Workspace, tmp_path: Path) -> None:
    ask(workspace)
    workspace.close()
    init(tmp_path / "other").close()
    (workspace.path / "keys" / "log.pem").write_bytes((tmp_path / "other" / "keys" / "log.pem").read_bytes())
    with Workspace(workspace.path) as changed, pytest.raises(LedgerError):
        ask(changed, "b")


def test_shredding_a_request_destroys_openings_and_the_note(workspace: Workspace) -> None:
    request = file_request(workspace, {"mary": {"x": 1}}, ground="gdpr-17", note="she wrote on a Tuesday")
    root = request.statement.subjects[0].sha256
    assert workspace.vault.note(f"note/{root}") == "she wrote on a Tuesday"
    assert shred_request(workspace, request) == 1
    assert workspace.vault.note(f"note/{root}") is None
    assert workspace.vault.openings(root) == []
    assert workspace.find(request.digest) == request
    assert shred_request(workspace, request) == 0


def test_only_requests_can_be_shredded(workspace: Workspace) -> None:
    request = file_request(workspace, {"mary": {"x": 1}}, ground="gdpr-17")
    other = type(request)(0, request.envelope, training())
    with pytest.raises(WorkspaceError, match="expected a request"):
        shred_request(workspace, other)


def test_a_failed_init_leaves_nothing(tmp_path: Path) -> None:
    for origin, issuer in (("a b", "x"), ("a" * 300, "x"), ("a", "\udcff"), ("a", "")):
        with pytest.raises(WorkspaceError, match="not a name"):
            Workspace.init(tmp_path / "new", origin=origin, issuer=issuer, password=None)
    with pytest.raises(LedgerError):
        Workspace.init(tmp_path / "new", origin="a", issuer="x", password=b"")
    assert list(tmp_path.iterdir()) == []
    Workspace.init(tmp_path / "new", origin="a", issuer="x", password=None)


def test_a_missing_watermark_stops_appends_and_not_reads(workspace: Workspace) -> None:
    ask(workspace)
    workspace.close()
    (workspace.path / "keys" / "log.seen").unlink()
    again = Workspace(workspace.path)
    with pytest.raises(WorkspaceError, match="missing or empty"):
        ask(again, "b")
    (workspace.path / "keys" / "log.seen").write_bytes(again.reader.checkpoint())
    assert again.reader.size() == 1


def test_what_cannot_be_stated_leaves_nothing_in_the_vault(workspace: Workspace) -> None:
    with pytest.raises(CertifyError):
        file_request(workspace, {"a": b"x"}, ground="g" * 300)
    with sqlite3.connect(workspace.path / "vault.db") as database:
        assert database.execute("SELECT count(*) FROM openings").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM trees").fetchone() == (0,)
