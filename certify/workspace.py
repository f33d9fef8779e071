"""An operator's ledger on disk: the log, its keys, the vault, and the trust file to hand out.

::

    ledger/
      certify.toml      origin and issuer name
      log.db            the log: commitments and signatures only
      vault.db          openings, encrypted
      trust.toml        what a verifier needs to believe
      zk/               commitments and proofs that statements name, once there are any
      keys/             issuer.pem, log.pem, vault.json (encrypted), log.seen (the log's watermark)

Opening a workspace reads no key; each is loaded when it is first needed.
"""

import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from certify import passwords, vault
from certify.attachments import Attachments
from certify.envelope import Envelope, sign
from certify.errors import StatementError, WorkspaceError
from certify.fields import Label, Origin
from certify.keys import Algorithm, SigningKey
from certify.statement import Statement, Training, Unlearning
from certify.trust import Trust, TrustedIssuer, TrustedLog, accept_circuit, format_trust, quoted
from certify.vault import Vault
from certify.zk import CircuitDescription
from ledger.keyfile import is_encrypted
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import VerifierKey

_INDEXED = "indexed"
_INDEX_BATCH = 1000


class _Config(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    origin: str
    issuer: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A statement and where it stands in the log."""

    index: int
    envelope: Envelope
    statement: Statement

    @property
    def digest(self) -> str:
        return self.envelope.digest


class Workspace:
    """See the module. ``password`` opens all keys; without one it is obtained when a key turns out to be encrypted."""

    def __init__(self, path: Path, password: bytes | None = None) -> None:
        self.path = path
        self._password = password
        try:
            wire = msgspec.convert(tomllib.loads((path / "certify.toml").read_text(encoding="utf-8")), type=_Config)
        except FileNotFoundError as error:
            raise WorkspaceError(f"no ledger in {path}: create one with 'certify init {path}'") from error
        except (OSError, ValueError) as error:
            raise WorkspaceError(f"cannot read {path / 'certify.toml'}: {error}") from error
        if wire.version != 1:
            raise WorkspaceError(f"{path / 'certify.toml'} has version {wire.version}, expected 1")
        self.origin, self.issuer = wire.origin, wire.issuer

    @classmethod
    def init(
        cls,
        path: Path,
        *,
        origin: str,
        issuer: str,
        password: bytes | None,
        algorithm: Algorithm = "ecdsa-p256",
        post_quantum: bool = False,
    ) -> "Workspace":
        """Make keys, an empty log, an empty vault and the trust file in a new folder. ``password`` None: unencrypted keys."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise WorkspaceError(f"{path} exists and is not an empty folder")
        _check_names(origin, issuer)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))  # all of it or, after an error, nothing
        try:
            cls._make(made, origin, issuer, password, algorithm, post_quantum)
            made.chmod(0o755)
            made.rename(path)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        return cls(path, password)

    @staticmethod
    def _make(
        path: Path, origin: str, issuer: str, password: bytes | None, algorithm: Algorithm, post_quantum: bool
    ) -> None:
        log_key = LogKey.generate(origin, post_quantum=post_quantum)
        issuer_key = SigningKey.generate(algorithm)
        keys = path / "keys"
        keys.mkdir(mode=0o700)
        log_key.save(keys / "log.pem", password)
        issuer_key.save(keys / "issuer.pem", password)
        secret = vault.create_key(keys / "vault.json", password)
        Vault.create(path / "vault.db", secret).close()
        Log.create(path / "log.db", log_key, watermark=keys / "log.seen").close()
        trust = format_trust([TrustedLog(origin, log_key.verifier_keys)], [TrustedIssuer(issuer, issuer_key.public)])
        config = f"version = 1\norigin = {quoted(origin)}\nissuer = {quoted(issuer)}\n"
        for name, text in (("trust.toml", trust), ("certify.toml", config)):
            (path / name).write_text(text, encoding="utf-8")
            (path / name).chmod(0o644)

    def close(self) -> None:
        for name in ("log", "reader", "vault"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def log(self) -> Log:
        """The log, open for appending."""
        path = self.path / "keys" / "log.pem"
        key = LogKey.load(path, self.origin, self.password_for(path))
        watermark = self.path / "keys" / "log.seen"
        if not watermark.exists() or not watermark.stat().st_size:
            raise WorkspaceError(
                f"{watermark} is missing or empty: without it nobody notices a rollback of the log. Restore it, or compare "
                f"'certify log checkpoint' with one that you kept, and write it to that file"
            )
        return Log.open(self.path / "log.db", key, watermark=watermark)

    @cached_property
    def reader(self) -> Log:
        """The log, open for reading: no password is needed."""
        watermark = self.path / "keys" / "log.seen"
        return Log.open(
            self.path / "log.db",
            verifier_keys=self.log_keys(),
            watermark=watermark if watermark.exists() else None,
        )

    def accept_circuit(self, circuit: CircuitDescription) -> None:
        """Add a circuit to the trust file that is handed out: whoever gets it should build the circuit themselves."""
        accept_circuit(self.path / "trust.toml", circuit.digest, circuit.title)

    def log_keys(self) -> Sequence[VerifierKey]:
        """The log's verifier keys, as the trust file names them."""
        for log in Trust.load(self.path / "trust.toml").logs:
            if log.origin == self.origin:
                return log.keys
        raise WorkspaceError(f"{self.path / 'trust.toml'} does not name the log {self.origin}")

    @cached_property
    def issuer_key(self) -> SigningKey:
        path = self.path / "keys" / "issuer.pem"
        if not path.exists() and any(path.parent.glob("issuer.*.revoked.pem")):
            raise WorkspaceError(
                f"the issuer's key was revoked: make another with 'certify keygen {path}' and hand it out"
            )
        return SigningKey.load(path, self.password_for(path))

    @cached_property
    def vault(self) -> Vault:
        path = self.path / "keys" / "vault.json"
        return Vault(self.path / "vault.db", vault.load_key(path, self.password_for(path)))

    @cached_property
    def attachments(self) -> Attachments:
        """Points, proofs and circuits that statements name."""
        return Attachments(self.path / "zk")

    def forget_issuer_key(self) -> None:
        """Read the issuer's key anew when it is next needed: its file has changed."""
        self.__dict__.pop("issuer_key", None)

    def password_for(self, path: Path) -> bytes | None:
        """The password of a key file; obtained once, and only if the file is encrypted."""
        if self._password is None and (vault.is_encrypted(path) if path.name == "vault.json" else is_encrypted(path)):
            self._password = passwords.obtain(f"password of the ledger {self.path}")
        return self._password

    # -- statements --------------------------------------------------------------------------------------------------

    def sign(self, statement: Statement, others: Sequence[SigningKey] = ()) -> Envelope:
        """A statement in an envelope signed by the issuer, and by ``others``."""
        return sign(statement.payload(), [self.issuer_key, *others])

    def append(self, envelope: Envelope) -> Logged:
        """Log an envelope; durable and included on return."""
        index = self.log.append(envelope.data).index
        return Logged(index, envelope, Statement.parse(envelope.payload))

    def entry(self, index: int) -> Logged:
        """The statement at ``index`` of the log."""
        return _logged(index, self.reader.entry(index))

    def find(self, name: str) -> Logged:
        """A statement by its index or by (the start of) its digest."""
        if name.isdecimal() and len(name) < 10 and (int(name) < self.reader.size() or len(name) < 4):
            return self.entry(int(name))
        self._index()
        is_digest = len(name) >= 4 and set(name) <= set("0123456789abcdef")
        found = list(self.vault.notes(f"entry/{name}")) if is_digest else []
        if len(found) != 1:
            raise WorkspaceError(
                f"{len(found) or 'no'} statements match {name!r}, expected one: give an index or more of the digest"
            )
        logged = self.entry(found[0][1])
        if not logged.digest.startswith(name):
            raise WorkspaceError(
                f"the vault says that {name} is entry {logged.index}, which has digest {logged.digest}"
            )
        return logged

    def latest(self, kind: str) -> Logged:
        """The last statement of a kind."""
        self._index()
        indices = [index for _, index in self.vault.notes(f"kind/{kind}/")]
        if not indices:
            raise WorkspaceError(f"no {kind} statement in the ledger {self.path}")
        return self.entry(indices[-1])

    def statements(self, first: int = 0, end: int | None = None) -> Iterator[Logged]:
        """The statements in the log, in order."""
        for index, data in self.reader.entries(first, end):
            yield _logged(index, data)

    def model(self, root: str) -> Logged | None:
        """The first training or unlearning statement whose model has this tensor root (hex)."""
        self._index()
        index = self.vault.note(f"model/{root}")
        return None if index is None else self.entry(index)

    def lineage(self, logged: Logged) -> list[Logged]:
        """From the training at the start to ``logged``, each the parent of the next."""
        chain = [logged]
        while isinstance(certificate := chain[-1].statement.predicate, Unlearning):
            chain.append(self.find(certificate.parent))
        if not isinstance(chain[-1].statement.predicate, Training):
            raise WorkspaceError(
                f"entry {chain[-1].index} is a {chain[-1].statement.kind} statement, expected a training"
            )
        return chain[::-1]

    def of_kind(self, kind: str) -> Iterator[Logged]:
        """The statements of a kind (training, request, unlearning or key), in order."""
        self._index()
        for _, index in self.vault.notes(f"kind/{kind}/"):
            yield self.entry(index)

    def _index(self) -> None:
        """Bring the look-up notes up to date with the log, from which they can always be rebuilt."""
        done = self.vault.note(_INDEXED) or 0
        size = self.reader.size()
        for first in range(done, size, _INDEX_BATCH):
            notes: dict[str, int] = {}
            end = min(first + _INDEX_BATCH, size)
            for logged in self.statements(first, end):
                notes[f"entry/{logged.digest}"] = logged.index
                notes[f"kind/{logged.statement.kind}/{logged.index:012d}"] = logged.index
                match logged.statement.predicate:
                    case Training(model=model) | Unlearning(post=model):
                        place = f"model/{model.tensor_root}"
                        if place not in notes and self.vault.note(place) is None:  # the first counts: it is before most
                            notes[place] = logged.index
            self.vault.put_notes(notes | {_INDEXED: end})


def _check_names(origin: str, issuer: str) -> None:
    """Refuse what no statement or trust file could hold, before anything is made."""
    for what, name, type_ in (("origin", origin, Origin), ("issuer", issuer, Label)):
        try:
            name.encode()
            msgspec.convert(name, type_)
        except (UnicodeEncodeError, msgspec.ValidationError) as error:
            raise WorkspaceError(f"not a name for the {what}: {name[:80]!r} ({error})") from error


def _logged(index: int, data: bytes) -> Logged:
    try:
        envelope = Envelope.parse(data)
        return Logged(index, envelope, Statement.parse(envelope.payload))
    except StatementError as error:
        raise WorkspaceError(f"entry {index} is not a statement: {error}") from error
