"""A witness on disk: ``witness.pem`` (private keys), ``witness.pub`` (verifier keys, to hand out) and ``witness.db``.

::

    create(Path("w"), "witness.example/w", password=b"…")
    with open_witness(Path("w"), password=b"…") as witness:
        witness.follow([VerifierKey.parse("example.com/log+0f3b…+AQ…")])
"""

from pathlib import Path

from ledger.errors import KeyFileError, MalformedError
from ledger.keyfile import is_encrypted
from ledger.note import VerifierKey
from ledger.witness import Witness
from ledger.witness_key import WitnessKey

KEY, PUBLIC, DATABASE = "witness.pem", "witness.pub", "witness.db"


def create(folder: Path, name: str, *, password: bytes | None, post_quantum: bool = False) -> tuple[VerifierKey, ...]:
    """New keys, and a witness that follows no log yet. ``password`` None leaves the keys unencrypted. Raises KeyFileError."""
    if (folder / KEY).exists() or (folder / DATABASE).exists():
        raise KeyFileError(f"{folder} holds a witness already: name another folder")
    key = WitnessKey.generate(name, post_quantum=post_quantum)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    Witness.create(folder / DATABASE).close()
    key.save(folder / KEY, password)
    (folder / PUBLIC).write_text("".join(f"{public.format()}\n" for public in key.verifier_keys), encoding="utf-8")
    return key.verifier_keys


def verifier_keys(folder: Path) -> tuple[VerifierKey, ...]:
    """A witness's public keys. Raises KeyFileError."""
    try:
        lines = (folder / PUBLIC).read_text(encoding="utf-8").splitlines()
        keys = tuple(VerifierKey.parse(line) for line in lines)
    except FileNotFoundError as error:
        raise KeyFileError(f"no witness in {folder}: create one with 'certify witness init'") from error
    except (OSError, UnicodeDecodeError, MalformedError) as error:
        raise KeyFileError(f"cannot read {folder / PUBLIC}: {error}") from error
    if not keys:
        raise KeyFileError(f"{folder / PUBLIC} is empty, expected the witness's verifier keys")
    return keys


def needs_password(folder: Path) -> bool:
    """Whether the private keys are encrypted."""
    return is_encrypted(folder / KEY)


def open_witness(folder: Path, *, password: bytes | None) -> Witness:
    """Ready to cosign. Raises KeyFileError, StorageError."""
    public = verifier_keys(folder)
    key = WitnessKey.load(folder / KEY, public[0].name, password)
    if key.verifier_keys != public:
        raise KeyFileError(f"{folder / PUBLIC} has other keys than {folder / KEY}: restore the right one")
    return Witness.open(folder / DATABASE, key)
