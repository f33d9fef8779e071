"""Adding an ML-DSA-44 key to a log that has signed with Ed25519 alone (C2SP tlog-checkpoint recommends both).

The stored checkpoints get the second signature beside the first, the key file the second key, and the trust file asks for both.
Each part can be done again: cut off, the same command does the rest. Whatever else has the log open has to be stopped before,
as it would go on with one signature.
"""

from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from certify.errors import WorkspaceError
from certify.inputs import write_file
from certify.trust import Trust
from certify.workspace import Workspace
from ledger.keyfile import sync_folder
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import VerifierKey


def add_post_quantum(workspace: Workspace) -> VerifierKey:
    """The new key's public half, which the ledger's trust file names from now on. Raises WorkspaceError."""
    if workspace.is_remote:
        raise WorkspaceError("the log is served by somebody else: this is done where its key is")
    keys = workspace.path / "keys"
    path, coming = keys / "log.pem", keys / "log.next.pem"
    key = workspace.log_signing_key()
    if key.mldsa44 is None:
        if not coming.exists():
            password = workspace.password_for(path if path.exists() else keys / "vault.json")
            replace(key, mldsa44=MLDSA44PrivateKey.generate()).save(coming, password)
        key = workspace.log_signing_key(coming)
    before = LogKey(key.name, key.ed25519)
    with Log.open(workspace.log_place, before, watermark=keys / "log.seen") as log:
        log.countersign(key)
        if coming.exists():
            coming.replace(path)
            sync_folder(keys)
    _trust(workspace.path / "trust.toml", *key.verifier_keys)
    return key.verifier_keys[1]


def _trust(path: Path, ed25519: VerifierKey, mldsa44: VerifierKey) -> None:
    """Ask for the second key where the first is asked for."""
    if any(mldsa44 in log.keys for log in Trust.load(path).logs):
        return
    text = path.read_text(encoding="utf-8")
    edited = text.replace(f'"{ed25519.format()}"', f'"{ed25519.format()}", "{mldsa44.format()}"').encode()
    if text.count(f'"{ed25519.format()}"') != 1 or not any(mldsa44 in log.keys for log in Trust.parse(edited).logs):
        raise WorkspaceError(
            f"{path} is not written as expected: put this key beside the log's others: {mldsa44.format()}"
        )
    write_file(path, edited)
