"""ML-DSA-44 beside Ed25519 on a log that began without, and both judged by others' code where it is installed."""

import shutil
from pathlib import Path
from secrets import token_hex

import pytest

from certify.errors import TrustError, WorkspaceError
from certify.post_quantum import add_post_quantum
from certify.statement import Run, Statement
from certify.times import format_time, now
from certify.workspace import Workspace
from ledger.checkpoint import Checkpoint
from ledger.cosignature import cosign
from ledger.errors import SignatureError
from ledger.finality import FINAL
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import COSIGNATURE_MLDSA44, Note, VerifierKey
from ledger.proof import TlogProof
from ledger.signed_checkpoint import open_checkpoint
from tests.cases import training
from tests.certify.test_rotation import killed_at
from tests.tokens import PIN, new_reference

ORIGIN = "example.com/ledger"


def dated_now() -> Statement:
    time = format_time(now())
    return training(log=ORIGIN, run=Run(token_hex(16), time, time))


def template(folder: Path, **held: str) -> Path:
    with Workspace.init(folder, origin=ORIGIN, issuer="Clinic", password=None, **held) as workspace:
        workspace.append(workspace.sign(dated_now()))
    return folder


def check(folder: Path, old: list[VerifierKey]) -> None:
    """Both signatures are asked for and there, on what was there before and on what comes."""
    with Workspace(folder) as workspace:
        keys = workspace.log_keys()
        assert [key.type for key in keys] == [1, COSIGNATURE_MLDSA44] and list(keys[:1]) == old
        before = workspace.log.size()
        for size in (before, before + 1):
            note = workspace.log.checkpoint()
            assert open_checkpoint(note, log_keys=keys).checkpoint.size == size
            assert open_checkpoint(note, log_keys=old).checkpoint.size == size
            assert len(Note.parse(note).signatures) == 2
            if size == before:
                workspace.append(workspace.sign(dated_now()))
        proof = workspace.log.prove(0)
        assert TlogProof.parse(proof.format()).verify(workspace.log.entry(0), log_keys=keys)


def test_added_to_a_log_that_is_there(tmp_path: Path) -> None:
    folder = template(tmp_path / "ledger")
    with Workspace(folder) as workspace:
        old, earlier = list(workspace.log_keys()), workspace.log.checkpoint()
    with Workspace(folder) as workspace:
        new = add_post_quantum(workspace)
    check(folder, old)
    with Workspace(folder) as workspace:
        assert add_post_quantum(workspace) == new  # again: nothing changes
    check(folder, old)
    with pytest.raises(SignatureError, match="no ML-DSA-44 signature"):
        open_checkpoint(earlier, log_keys=[*old, new])


def test_added_beside_a_key_in_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTIFY_PIN", PIN)
    folder = template(tmp_path / "ledger", log_key=new_reference("ed25519"))
    with Workspace(folder) as workspace:
        old = list(workspace.log_keys())
        add_post_quantum(workspace)
    check(folder, old)


def test_killed_at_every_step_and_done_again(tmp_path: Path) -> None:
    made = template(tmp_path / "made")
    with Workspace(made) as workspace:
        old = list(workspace.log_keys())
    step, cut_off = 0, True
    while cut_off:
        step += 1
        folder = tmp_path / f"at.{step}"
        shutil.copytree(made, folder)
        cut_off = killed_at(folder, step, add_post_quantum)
        with Workspace(folder) as workspace:
            add_post_quantum(workspace)
        check(folder, old)
    assert step > 5


def test_checkpoint_that_witnesses_have_cosigned_keeps_their_signatures(tmp_path: Path) -> None:
    folder = template(tmp_path / "ledger")
    with Workspace(folder) as workspace:
        key = workspace.log_signing_key()
        witness = LogKey.generate("example.com/witness", post_quantum=True)
        assert witness.mldsa44 is not None
        note = Note.parse(workspace.log.checkpoint())
        checkpoint = Checkpoint.parse(note.text)
        line = cosign(witness.verifier_keys[1], witness.mldsa44.sign, checkpoint, 7)
        final = Note(note.text, (*note.signatures, line)).format()
    with Log.open(folder / "log.db", key) as log, log._storage.transaction() as transaction:
        transaction.keep(FINAL, final)
    with Workspace(folder) as workspace:
        add_post_quantum(workspace)
        keys = workspace.log_keys()
    with Log.open(folder / "log.db", verifier_keys=keys) as log, log._storage.snapshot() as snapshot:
        kept = snapshot.kept(FINAL)
    assert kept is not None
    opened = open_checkpoint(kept, log_keys=keys, witness_keys=witness.verifier_keys[1:])
    assert opened.cosigned == {"example.com/witness": 7}


def test_trust_file_that_was_rewritten_by_hand_says_what_to_do(tmp_path: Path) -> None:
    folder = template(tmp_path / "ledger")
    trust = folder / "trust.toml"
    trust.write_text(trust.read_text().replace('"example.com/ledger+', "'example.com/ledger+").replace('"]', "']"))
    with Workspace(folder) as workspace, pytest.raises((WorkspaceError, TrustError), match="put this key beside"):
        add_post_quantum(workspace)


def test_only_a_checkpoint_of_this_log_is_countersigned() -> None:
    key, other = (LogKey.generate(ORIGIN, post_quantum=True) for _ in range(2))
    note = LogKey(ORIGIN, other.ed25519).sign(Checkpoint(ORIGIN, 1, bytes(32)), 7)
    with pytest.raises(SignatureError):
        key.countersign(note, 7)


@pytest.mark.parametrize("time", [0, 7, 2**63 - 1])
def test_ml_dsa_signatures_verify_by_others(time: int) -> None:
    """A log's signature and a witness's cosignature, by a Python implementation of FIPS 204 that shares no code with ours."""
    dilithium = pytest.importorskip("dilithium_py.ml_dsa", reason="needs the package dilithium-py")
    log = LogKey.generate(ORIGIN, post_quantum=True)
    witness = LogKey.generate("example.com/witness", post_quantum=True)
    checkpoint = Checkpoint(ORIGIN, 9, bytes(range(32)))
    assert witness.mldsa44 is not None
    lines = (
        Note.parse(log.sign(checkpoint, time)).signatures[1],
        cosign(witness.verifier_keys[1], witness.mldsa44.sign, checkpoint, time),
    )
    for key, line in zip((log.verifier_keys[1], witness.verifier_keys[1]), lines, strict=True):
        name, origin = key.name.encode(), ORIGIN.encode()
        message = (
            b"subtree/v1\n\0" + bytes([len(name)]) + name + time.to_bytes(8, "big") + bytes([len(origin)]) + origin
        )
        message += (0).to_bytes(8, "big") + (9).to_bytes(8, "big") + bytes(range(32))
        assert line.payload[:8] == time.to_bytes(8, "big")
        assert dilithium.ML_DSA_44.verify(key.public, message, line.payload[8:])
        assert not dilithium.ML_DSA_44.verify(key.public, message + b"x", line.payload[8:])
