"""An operator's ledger on disk: the log, its keys, the vault, and the trust file to hand out.

::

    ledger/
      certify.toml      origin and issuer name
      log.db            the log: commitments and signatures only
      vault.db          openings, encrypted
      trust.toml        what a verifier needs to believe
      policy.txt        witnesses that have to cosign each checkpoint, if any (C2SP tlog-policy)
      zk/               commitments and proofs that statements name, once there are any
      timestamps/       RFC 3161 tokens on checkpoints, once there are any
      search.db         an index that 'certify search' makes from the log, and can make again
      keys/             issuer.pem, log.pem, vault.json (encrypted), log.seen (the log's watermark); see certify.issuer

Opening a workspace reads no key; each is loaded when it is first needed.

The log may be elsewhere. ``log = "https://…"`` in ``certify.toml`` names one that somebody serves: then there is no ``log.db`` or
``log.pem`` here, but ``keys/token`` (:mod:`certify.connect`); ``log = "postgresql://…"`` names a database. Others may append too.
"""

import shutil
import tempfile
import tomllib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from certify import passwords, places, signers, vault
from certify.attachments import Attachments
from certify.envelope import Envelope, sign
from certify.errors import StatementError, WorkspaceError
from certify.fields import Label, Origin
from certify.inputs import write_file
from certify.keys import Algorithm, PublicKey, SigningKey, StatementSigner
from certify.outbox import Outbox
from certify.own import OwnKeys
from certify.statement import Audit, AuditPlan, Circuit, Replay, Statement, Training, Unlearning
from certify.trust import Trust, TrustedIssuer, TrustedLog, accept_circuit, format_trust, quoted
from certify.vault import Vault
from certify.zk import CircuitDescription
from ledger.errors import AdmissionError, RemoteError, StorageError, WitnessError
from ledger.http import is_url
from ledger.keyfile import is_encrypted, read_private
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.note import VerifierKey
from ledger.reader import AppendableLog, LogReader

if TYPE_CHECKING:
    from ledger.witnessing import Witnessing

T = TypeVar("T")

INDEXED = "indexed"
_INDEX_BATCH = 1000


class _Config(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    origin: str
    issuer: str
    log: str | None = None
    issuer_key: str | None = None
    log_key: str | None = None
    timestamping: str | None = None


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

    def __init__(self, path: str | Path, password: bytes | None = None) -> None:
        self.path = path = places.folder_of(path)
        self._password = password
        try:
            wire = msgspec.convert(tomllib.loads((path / "certify.toml").read_text(encoding="utf-8")), type=_Config)
        except FileNotFoundError as error:
            raise WorkspaceError(f"no ledger in {path}: create one with 'certify init {path}'") from error
        except (OSError, ValueError) as error:
            raise WorkspaceError(f"cannot read {path / 'certify.toml'}: {error}") from error
        if wire.version != 1:
            raise WorkspaceError(f"{path / 'certify.toml'} has version {wire.version}, expected 1")
        self.origin, self.issuer, self.log_key_reference = wire.origin, wire.issuer, wire.log_key
        self.timestamping = wire.timestamping
        self._log = wire.log
        self._lenient = self._down = False
        if wire.log is not None and not is_url(wire.log) and not wire.log.startswith("postgresql"):
            raise WorkspaceError(
                f"{path / 'certify.toml'} has log = {wire.log[:80]!r}, expected https:// or postgresql://"
            )

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
        issuer_key: str | None = None,
        log_key: str | None = None,
    ) -> "Workspace":
        """Make keys, an empty log, an empty vault and the trust file in a new folder. ``password`` None: unencrypted keys.

        ``issuer_key`` and ``log_key`` say where keys are that are held elsewhere (:mod:`certify.signers`).
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise WorkspaceError(f"{path} exists and is not an empty folder")
        check_names(origin, issuer)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))  # all of it or, after an error, nothing
        try:
            cls._make(made, origin, issuer, password, algorithm, post_quantum, issuer_key, log_key)
            made.chmod(0o755)
            made.rename(path)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        return cls(path, password)

    @staticmethod
    def _make(
        path: Path,
        origin: str,
        issuer: str,
        password: bytes | None,
        algorithm: Algorithm,
        post_quantum: bool,
        issuer_held: str | None,
        log_held: str | None,
    ) -> None:
        log_key = LogKey.generate(
            origin, post_quantum=post_quantum, held=signers.log_key(log_held) if log_held is not None else None
        )
        issuer_key = SigningKey.generate(algorithm) if issuer_held is None else signers.connect(issuer_held)
        keys = path / "keys"
        keys.mkdir(mode=0o700)
        log_key.save(keys / "log.pem", password)
        if isinstance(issuer_key, SigningKey):
            issuer_key.save(keys / "issuer.pem", password)
        else:
            write_file(keys / "issuer.pub", issuer_key.public.pem().encode())
        secret = vault.create_key(keys / "vault.json", password)
        Vault.create(path / "vault.db", secret).close()
        Log.create(path / "log.db", log_key, watermark=keys / "log.seen").close()
        trust = format_trust([TrustedLog(origin, log_key.verifier_keys)], [TrustedIssuer(issuer, issuer_key.public)])
        config = f"version = 1\norigin = {quoted(origin)}\nissuer = {quoted(issuer)}\n"
        for name, held in (("issuer_key", issuer_held), ("log_key", log_held)):
            config += f"{name} = {quoted(signers.check_reference(held))}\n" if held is not None else ""
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

    @property
    def is_remote(self) -> bool:
        """Whether the log is served by somebody, and has its key elsewhere."""
        return is_url(self._log)

    @property
    def log_place(self) -> Path | str:
        """The database that the log is in, or the URL of a remote one."""
        return self._log if self._log is not None else self.path / "log.db"

    @cached_property
    def log(self) -> AppendableLog:
        """The log, open for appending."""
        if self.is_remote:
            return self._remote()
        return Log.open(
            self.log_place, self.log_signing_key(), watermark=self._watermark(), witnessing=self.witnessing()
        )

    def log_signing_key(self, path: Path | None = None) -> LogKey:
        """The log's own key: from ``path``, by default ``keys/log.pem``, and the token that ``log_key`` names."""
        path = path or self.path / "keys" / "log.pem"
        held = signers.log_key(self.log_key_reference) if self.log_key_reference is not None else None
        password = self.password_for(path) if held is None or path.exists() else None
        return LogKey.load(path, self.origin, password, held=held)

    @cached_property
    def reader(self) -> LogReader:
        """The log, open for reading: no password is needed."""
        if self.is_remote:
            return self.log
        watermark = self.path / "keys" / "log.seen"
        return Log.open(
            self.log_place,
            verifier_keys=self.log_keys(),
            watermark=watermark if watermark.exists() else None,
            witnessing=self.witnessing(),
        )

    def witnessing(self) -> "Witnessing | None":
        """Whom the log asks to cosign, by ``policy.txt`` (C2SP tlog-policy), which may not be there."""
        path = self.path / "policy.txt"
        if not path.exists():
            return None
        from ledger.witnessing import Witnessing

        return Witnessing.load(path, self.log_keys())

    def _watermark(self) -> Path:
        watermark = self.path / "keys" / "log.seen"
        if not watermark.exists() or not watermark.stat().st_size:
            raise WorkspaceError(
                f"{watermark} is missing or empty: without it nobody notices a rollback of the log. Restore it, or compare "
                f"'certify log checkpoint' with one that you kept, and write it to that file"
            )
        return watermark

    def _remote(self) -> AppendableLog:
        from ledger.client import RemoteLog

        token = self.path / "keys" / "token"
        trust = Trust.load(self.path / "trust.toml")
        return RemoteLog(
            str(self.log_place),
            self.log_keys(),
            watermark=self._watermark(),
            policy=trust.witnessing if trust.witnessing.quorum is not None else None,
            token=read_private(token).decode(errors="replace").strip() if token.exists() else None,
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
    def issuer_key(self) -> StatementSigner:
        """What signs statements, after a change of it that was cut off is done."""
        from certify.rotation import issuer_key  # which imports this module

        return issuer_key(self)

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

    def sign(self, statement: Statement, others: Sequence[StatementSigner] = ()) -> Envelope:
        """A statement in an envelope signed by the issuer, and by ``others``."""
        envelope = sign(statement.payload(), [self.issuer_key, *others])
        self._keep_own([self.issuer_key.public])
        return envelope

    @property
    def outbox(self) -> Outbox:
        """Envelopes that a log elsewhere has not acknowledged yet."""
        return Outbox(self.path / "outbox")

    def append(self, envelope: Envelope, *, keep: bool = True) -> Logged:
        """Log an envelope; durable and included on return.

        To a log elsewhere, what waits in the outbox is sent first. If it cannot be reached, or does not take the envelope, this
        raises, and the envelope waits in the outbox too, unless ``keep`` is False.
        """
        statement = Statement.parse(envelope.payload)
        if self._log is None:
            return Logged(self.log.append(envelope.data).index, envelope, statement)
        kept = self.outbox.put(envelope.data, envelope.digest) if keep else None
        try:
            sent = self.flush()
            index = sent.get(envelope.data)
            return Logged(self.log.append(envelope.data).index if index is None else index, envelope, statement)
        except (RemoteError, AdmissionError, StorageError, WitnessError) as error:
            if kept is None:
                raise
            raise type(error)(
                f"{error}. Nothing is certified yet, and nothing is lost: the signed statement waits in {kept}, and goes out "
                f"before the next one, or with 'certify connect --flush --ledger {self.path}'"
            ) from error

    def flush(self) -> dict[bytes, int]:
        """Send what waits in the outbox; the index of each envelope."""
        return self.outbox.send(self.log)

    @contextmanager
    def even_offline(self) -> Iterator[None]:
        """While the log cannot be reached, go by what was read of it before.

        For issuing at the end of a long run: what is signed then waits in the outbox.
        """
        self._lenient, self._down = True, False
        try:
            yield
        finally:
            self._lenient = self._down = False

    def _ask(self, log: Callable[[], T], known: Callable[[], T | None]) -> T:
        """What the log says; or what is known, where it cannot be reached and that will do."""
        if not self._down:
            try:
                return log()
            except RemoteError:
                if not self._lenient or (before := known()) is None:
                    raise
                self._down = True
                return before
        if (before := known()) is None:
            raise RemoteError(f"{self._log} cannot be reached, and what is asked of it was not read before")
        return before

    def extent(self) -> int:
        """How many entries the log has."""

        def indexed() -> int | None:
            size: int | None = self.vault.note(INDEXED)
            return size

        return self._ask(self.reader.size, indexed)

    def entry(self, index: int) -> Logged:
        """The statement at ``index`` of the log."""
        return _logged(index, self._ask(lambda: self.reader.entry(index), lambda: self._copy(index)))

    def _copy(self, index: int) -> bytes | None:
        """A statement of ours as it was read from a log elsewhere."""
        copy: str | None = self.vault.note(f"copy/{index:012d}")
        return None if copy is None else copy.encode()

    def find(self, name: str) -> Logged:
        """A statement by its index or by (the start of) its digest."""
        if name.isdecimal() and len(name) < 10 and (int(name) < self.extent() or len(name) < 4):
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
        """The last statement of a kind, by this issuer."""
        self._index()
        indices = [index for _, index in self.vault.notes(f"kind/{kind}/")]
        if not indices:
            raise WorkspaceError(f"no {kind} statement in the ledger {self.path}")
        return self.entry(indices[-1])

    def statements(self, first: int = 0, end: int | None = None) -> Iterator[Logged]:
        """The statements in the log, in order, by whatever issuer. Entries that are none are passed over."""
        for index, data in self.reader.entries(first, end):
            with suppress(WorkspaceError):
                yield _logged(index, data)

    def model(self, root: str) -> Logged | None:
        """This issuer's first training or unlearning statement whose model has this tensor root (hex)."""
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
        """This issuer's statements of a kind (training, request, unlearning, key), in order; anybody's of circuits, audits
        and replays."""
        self._index()
        for _, index in self.vault.notes(f"kind/{kind}/"):
            yield self.entry(index)

    def _index(self) -> None:
        """Bring the look-up notes up to date with the log, from which they can always be rebuilt."""
        done = self.vault.note(INDEXED) or 0
        size = self.extent()
        own = self._own_keys() if done < size else OwnKeys(())
        for first in range(done, size, _INDEX_BATCH):
            notes: dict[str, int | str] = {}
            end = min(first + _INDEX_BATCH, size)
            for logged in self.statements(first, end):
                notes[f"entry/{logged.digest}"] = logged.index
                is_ours = (
                    own.signed(logged.envelope, logged.statement) and logged.statement.predicate.log == self.origin
                )
                outside = isinstance(
                    logged.statement.predicate, Circuit | AuditPlan | Audit | Replay
                )  # by outsiders, perhaps
                if not is_ours and not outside:
                    continue
                notes[f"kind/{logged.statement.kind}/{logged.index:012d}"] = logged.index
                if self.is_remote:
                    notes[f"copy/{logged.index:012d}"] = logged.envelope.data.decode()
                match logged.statement.predicate:
                    case Training(model=model) | Unlearning(post=model):
                        place = f"model/{model.tensor_root}"
                        if place not in notes and self.vault.note(place) is None:  # the first counts: it is before most
                            notes[place] = logged.index
            self._keep_own(own.keys)
            self.vault.put_notes(notes | {INDEXED: end})

    def _own_keys(self) -> OwnKeys:
        named = [issuer.key for issuer in Trust.load(self.path / "trust.toml").issuers if issuer.name == self.issuer]
        noted = [PublicKey.from_spki(b64decode(spki)) for _, spki in self.vault.notes("own/")]
        return OwnKeys([*named, *noted])

    def _keep_own(self, keys: Sequence[PublicKey]) -> None:
        """Remember keys as this issuer's."""
        notes = {f"own/{key.keyid}": b64encode(key.spki).decode() for key in keys}
        self.vault.put_notes({name: spki for name, spki in notes.items() if self.vault.note(name) is None})


def check_names(origin: str, issuer: str) -> None:
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
