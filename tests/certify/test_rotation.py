"""Rotations and revocations that are cut off at every place, and what the next command makes of them."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from certify import issuer
from certify.errors import StatementError, WorkspaceError
from certify.key_history import history
from certify.keyring import KeyRing
from certify.rotation import finish, give_up, pending, revoke_key, rotate_key
from certify.statement import KeyChange, Run, Statement
from certify.times import format_time, now, parse_time
from certify.trust import Trust
from certify.workspace import Workspace
from ledger.errors import StorageError
from ledger.log import Log
from tests.cases import training
from tests.tokens import PIN, new_reference

ORIGIN = "example.com/ledger"
_STRIDE = int(os.environ.get("ROTATION_KILL_STRIDE", "3"))
"""Every which step is killed where tokens take part, which is slow; 1 for all of them."""
_EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")


def dated_now() -> Statement:
    time = format_time(now())
    return training(log=ORIGIN, run=Run(token_hex(16), time, time))


def killed_at(folder: Path, step: int, change: Callable[[Workspace], object]) -> bool:
    """Do ``change`` in a process that is killed before its ``step``-th change of a file; False if it ended before."""
    child = os.fork()
    if child == 0:
        seen = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event not in _EVENTS or str(folder) not in os.fsdecode(str(arguments[0])):
                return
            if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
                return
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            with Workspace(folder) as workspace:
                change(workspace)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status != 0


def settled(workspace: Workspace) -> list[KeyChange]:
    """The changes in the log, after a statement was signed by whatever key is there; all are as a verifier wants them."""
    workspace.append(workspace.sign(dated_now()))
    ring = KeyRing(Trust.load(workspace.path / "trust.toml"), now())
    signers = [ring.admit(one.index, one.envelope, one.statement) for one in workspace.statements()]
    changes = [p for one in workspace.statements() if isinstance(p := one.statement.predicate, KeyChange)]
    assert signers[-1].key.keyid == workspace.issuer_key.public.keyid
    assert not (workspace.path / "keys" / "next").exists()
    return changes


def template(folder: Path, held: str | None = None) -> tuple[Path, str]:
    with Workspace.init(folder, origin=ORIGIN, issuer="Clinic", password=None, issuer_key=held) as workspace:
        workspace.append(workspace.sign(dated_now()))
        return folder, workspace.issuer_key.public.keyid


@pytest.fixture(autouse=True)
def pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTIFY_PIN", PIN)


@pytest.mark.parametrize("way", ["file to file", "file to token", "token to file", "token to token"])
def test_rotation_killed_at_every_step_is_done_or_never_was(way: str, tmp_path: Path) -> None:
    before, after = (new_reference() if end == "token" else None for end in way.split(" to "))
    made, old = template(tmp_path / "made", before)
    stride = _STRIDE if "token" in way else 1
    done, step = set(), 0
    while True:
        step += stride
        folder = tmp_path / f"at.{step}"
        shutil.copytree(made, folder)
        cut_off = killed_at(folder, step, lambda workspace: rotate_key(workspace, held=after))
        with Workspace(folder) as workspace:
            changes = settled(workspace)
            assert len(changes) <= 1
            expected = changes[0].successor.keyid if changes and changes[0].successor else old
            assert workspace.issuer_key.public.keyid == expected
            assert issuer.reference(folder) == (after if changes else before)
            rotate_key(workspace)  # nothing is in the way of another
            assert len(settled(workspace)) == len(changes) + 1
        done.add(bool(changes))
        if not cut_off:
            break
    assert done == {True, False} and step > 10


def test_revocation_killed_at_every_step_is_done_or_never_was(tmp_path: Path) -> None:
    made, old = template(tmp_path / "made")
    done, step = set(), 0
    while True:
        step += 1
        folder = tmp_path / f"at.{step}"
        shutil.copytree(made, folder)
        cut_off = killed_at(folder, step, lambda workspace: revoke_key(workspace, "compromised"))
        with Workspace(folder) as workspace:
            finish(workspace)
            revoked = any(isinstance(one.statement.predicate, KeyChange) for one in workspace.statements())
            if revoked:
                with pytest.raises(WorkspaceError, match="was revoked"):
                    _ = workspace.issuer_key
            else:
                assert workspace.issuer_key.public.keyid == old
        done.add(revoked)
        if not cut_off:
            break
    assert done == {True, False}


def test_rotation_that_the_log_does_not_take_is_finished_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, old = template(tmp_path / "ledger")
    with Workspace(folder) as workspace, monkeypatch.context() as broken:

        def fail(*_: object, **__: object) -> None:
            raise StorageError("no space left")

        broken.setattr(Log, "append", fail)
        with pytest.raises(StorageError):
            rotate_key(workspace)
        with pytest.raises(StorageError):  # the old key does not sign in the meantime
            _ = Workspace(folder).issuer_key
    with Workspace(folder) as workspace:
        change = pending(workspace)
        assert change is not None and change.keyid == old
        assert len(settled(workspace)) == 1
        assert pending(workspace) is None and finish(workspace) is None


def test_rotation_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, old = template(tmp_path / "ledger")
    with Workspace(folder) as workspace:
        with pytest.raises(WorkspaceError, match="nothing to give up"):
            give_up(workspace)
        with monkeypatch.context() as broken:
            broken.setattr(Workspace, "append", lambda *_, **__: (_ for _ in ()).throw(StorageError("refused")))
            with pytest.raises(StorageError):
                rotate_key(workspace)
        kept = give_up(workspace)
        assert (kept / "issuer.pem").exists()
        assert settled(workspace) == [] and workspace.issuer_key.public.keyid == old


def test_rotation_that_is_logged_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = template(tmp_path / "ledger")
    with Workspace(folder) as workspace:
        with monkeypatch.context() as broken:
            broken.setattr(issuer, "set_aside", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
            with pytest.raises(OSError, match="killed"):
                rotate_key(workspace)
        with pytest.raises(WorkspaceError, match="logged as entry 1"):
            give_up(workspace)
        assert len(settled(workspace)) == 1


def test_two_rotations_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    folder, _ = template(tmp_path / "ledger")
    children = []
    for _ in range(4):
        if (child := os.fork()) == 0:
            try:
                with Workspace(folder) as workspace:
                    rotate_key(workspace)
                os._exit(0)
            except BaseException:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    with Workspace(folder) as workspace:
        assert len(settled(workspace)) == 4


def test_rotation_that_cannot_be_stated_leaves_nothing(tmp_path: Path) -> None:
    folder, old = template(tmp_path / "ledger")
    with Workspace(folder) as workspace:
        with pytest.raises(StatementError):
            rotate_key(workspace, not_after=parse_time("2020-01-01T00:00:00Z"))
        assert sorted(path.name for path in (folder / "keys").iterdir()) == [
            "issuer.pem",
            "log.pem",
            "log.seen",
            "vault.json",
        ]
        assert workspace.issuer_key.public.keyid == old


def test_history_names_every_key(tmp_path: Path) -> None:
    folder, first = template(tmp_path / "ledger")
    end = now().replace(year=now().year + 1)
    with Workspace(folder) as workspace:
        second = rotate_key(workspace, not_after=end)[1].keyid
        third = rotate_key(workspace, "ed25519")[1].keyid
        keys = history(workspace)
        assert [(one.public.keyid, one.ended, one.ended_at, one.current) for one in keys] == [
            (first, "rotated", 1, False),
            (second, "rotated", 2, False),
            (third, None, None, True),
        ]
        assert [one.not_after for one in keys] == [None, end, None]
        revoke_key(workspace, "retired")
        assert [one.ended for one in history(workspace)] == ["rotated", "rotated", "revoked"]


def test_config_keeps_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "certify.toml"
    path.write_text('# ours\nversion = 1\norigin = "a.b/c" # here\n[other]\nissuer_key_x = "y"\n')
    issuer.set_field(path, "issuer_key", 'hsm:2?label="x"')
    assert path.read_text().splitlines()[3] == 'issuer_key = "hsm:2?label=\\"x\\""'
    issuer.set_field(path, "issuer_key", "hsm:3")
    issuer.set_field(path, "issuer_key", None)
    assert path.read_text() == '# ours\nversion = 1\norigin = "a.b/c" # here\n[other]\nissuer_key_x = "y"\n'
    path.write_text('issuer_key = """\nhsm:2"""\n')
    with pytest.raises(WorkspaceError, match="yourself"):
        issuer.set_field(path, "issuer_key", None)
