"""Building a circuit anew from its description, and saying so: ``circuit/v1``, which makes others accept it.

A verification key does not tell what it stands for. Whoever wants to know exports the circuit from the described parameters,
compiles it, makes the keys under the same reference string, and compares all digests::

    built = rebuild(description)                       # needs the zk extra; raises CircuitMismatchError
    envelope = state(built, "clinic.example/ledger", [auditor_key])
    log_statement(workspace, envelope.data)            # by the operator, verbatim

Bundles made afterwards hold the statement, and a trust.toml that names the auditor's key needs to name no circuit.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from certify.bundle import Bundle
from certify.envelope import Envelope, sign
from certify.errors import CircuitMismatchError, StatementError, UntrustedKeyError, WorkspaceError
from certify.keyring import CLOCK_SKEW, claimed_time
from certify.keys import PublicKey, SigningKey
from certify.statement import CIRCUIT, Circuit, Statement, Unlearning, subject
from certify.times import format_time, now
from certify.trust import Trust
from certify.workspace import Logged, Workspace
from certify.zk import CircuitDescription
from circuits import description, srs
from circuits.step_problem import StepProblem

Progress = Callable[[str, float], None]


def rebuild(
    circuit: CircuitDescription,
    *,
    folders: Sequence[Path] | None = None,
    onnx: Sequence[bytes] = (),
    remark: Callable[[str], object] = lambda line: None,
    progress: Progress = lambda stage, left: None,
) -> CircuitDescription:
    """``circuit`` itself, once everything that it names was made anew from its statement and parameters alone.

    Nothing is taken from the cache of keys. ``folders``: where to look for the reference string. ``onnx``: of operators' own
    steps, which no parameters describe (:mod:`circuits.own_step`); the one with the described digest is used, and tried out:
    ``remark`` hears what is odd about it. Raises CircuitMismatchError, which names each difference, SrsError where there is no
    such reference string, and ProverError for what cannot be built.
    """
    from circuits import own_step, prover

    parameters = description.parse(circuit.statement, circuit.parameters)
    path = _string(circuit, parameters.logrows, folders)
    progress("build", 0)
    own = next((model for model in onnx if sha256(model).hexdigest() == circuit.onnx), None)
    built = description.build(parameters, own)
    if isinstance(parameters, StepProblem) and parameters.is_own:
        for line in own_step.probe(built.onnx, parameters):
            remark(line)
    with tempfile.TemporaryDirectory(prefix="circuit-rebuild-") as cache:
        keys = prover.setup(built, path, cache=Path(cache), progress=progress)
    made = {"onnx": built.onnx, "settings": built.settings, "vk": keys.vk}
    differences = [
        f"{name} has SHA-256 {found}, the description says {stated}"
        for name, data in made.items()
        if (found := sha256(data).hexdigest()) != (stated := getattr(circuit, name))
    ]
    if differences:
        raise CircuitMismatchError(
            f"circuit {circuit.digest[:16]} is not what its description says: the rebuilt {'; the rebuilt '.join(differences)}"
        )
    return circuit


def _string(circuit: CircuitDescription, logrows: int, folders: Sequence[Path] | None) -> Path:
    """The file of the circuit's reference string."""
    development = is_development(circuit)
    path = srs.find(logrows, folders, development=development)
    found = srs.load(path)
    if not development:
        srs.require_ceremony(found)
    digest = sha256(srs.reduced(found)).hexdigest()
    if digest != circuit.srs:
        raise CircuitMismatchError(
            f"circuit {circuit.digest[:16]} was made with reference string {circuit.srs}, {path} is {digest}: ask for the file"
        )
    return path


def is_development(circuit: CircuitDescription) -> bool:
    """Whether its reference string is not the ceremony's."""
    return circuit.srs != srs.CEREMONY[1]


def origin_of(bundle: Bundle) -> str:
    """The log that a bundle's statements are made for, as they say. Raises StatementError when they differ."""
    origins = {Statement.parse(entry.envelope.payload).predicate.log for entry in bundle.entries}
    if len(origins) != 1:
        raise StatementError(f"expected statements made for one log, got {', '.join(sorted(origins)) or 'none'}")
    return origins.pop()


def state(circuit: CircuitDescription, origin: str, keys: Sequence[SigningKey]) -> Envelope:
    """``circuit/v1``: whoever holds the keys has built this circuit. Raises StatementError."""
    predicate = Circuit(origin, circuit, format_time(now()))
    return sign(Statement((subject(CIRCUIT, circuit.digest),), predicate).payload(), keys)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A logged statement. ``signers``: the keys that turned out to have signed it; none, where they are not known here."""

    logged: Logged
    circuit: CircuitDescription
    signers: tuple[PublicKey, ...]


def log_statement(workspace: Workspace, data: bytes, known: Sequence[PublicKey] = ()) -> Admitted:
    """Append an auditor's statement to the log, as it came.

    It has to be made for this log, about a circuit of this ledger, by somebody else than the issuer, and not dated in the future.
    A signature by a key in ``known``, or by an auditor in the ledger's trust file, has to hold: a wrong one in a bundle would
    make verifiers refuse it. Raises StatementError, WorkspaceError or EnvelopeSignatureError.
    """
    envelope = Envelope.parse(data)
    statement = Statement.parse(envelope.payload)
    predicate = statement.predicate
    if not isinstance(predicate, Circuit):
        raise StatementError(f"a {statement.kind} statement came, expected one of a circuit")
    if predicate.log != workspace.origin:
        raise StatementError(f"the statement is made for log {predicate.log!r}, this one is {workspace.origin!r}")
    if claimed_time(statement) > now() + CLOCK_SKEW:
        raise StatementError(f"the statement is dated {predicate.built}, which is in the future")
    if predicate.circuit.digest not in known_circuits(workspace):
        raise WorkspaceError(f"no certificate in this ledger has proofs by circuit {predicate.circuit.digest}")
    signers = _signers(workspace, envelope, known)
    return Admitted(workspace.append(envelope), predicate.circuit, signers)


def known_circuits(workspace: Workspace) -> set[str]:
    """Digests of the circuits that the ledger's certificates have proofs by."""
    evidence = (
        logged.statement.predicate.evidence
        for logged in workspace.of_kind("unlearning")
        if isinstance(logged.statement.predicate, Unlearning)
    )
    return {digest for item in evidence if item is not None for digest in item.circuits}


def _signers(workspace: Workspace, envelope: Envelope, known: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
    trust = Trust.load(workspace.path / "trust.toml")
    issuers = {issuer.key.keyid: issuer.key for issuer in trust.issuers}
    keys = {key.keyid: key for key in [*known, *(auditor.key for auditor in trust.auditors)]} | issuers
    try:
        signers = envelope.verify(keys.values())
    except UntrustedKeyError:
        if {signature.keyid for signature in envelope.signatures} & issuers.keys():
            raise StatementError(
                "the issuer signed beside a key that is not known here: name it with --auditor"
            ) from None
        return ()
    if all(signer.keyid in issuers for signer in signers):
        raise StatementError(
            "the statement is signed by this ledger's issuer alone, whose word on its own circuits counts for nothing"
        )
    return tuple(signer for signer in signers if signer.keyid not in issuers)
