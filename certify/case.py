"""Collecting a case: a certificate with all that it follows from, out of a workspace and into a bundle."""

import math
from collections.abc import Sequence
from dataclasses import replace

from certify import chain, exclusion, methods, timestamping
from certify.bundle import Bundle, Entry
from certify.chain import Link
from certify.digest import Manifest
from certify.errors import OrderError, VerificationError, WorkspaceError
from certify.keyring import CLOCK_SKEW, claimed_time
from certify.statement import Audit, AuditPlan, Circuit, Deployment, Replay, Request, Training, Unlearning
from certify.times import now
from certify.workspace import Logged, Workspace


def collect(workspace: Workspace, certificate: Logged, *, leaves: bool = True, stamps: bool = True) -> Bundle:
    """A certificate with all that it follows from, proven under one checkpoint, with the time stamps on it.

    Where ``certify.toml`` names a time-stamping authority and there is no token yet, it is asked; ``stamps=False`` goes without.

    ``leaves=False`` leaves out the dataset's leaf hashes (32 bytes a record): then nobody can check that the retained set is the
    dataset less the removed records.

    A training in place of a certificate gives the bundle of its model, for whoever verifies one that was made from it.
    """
    needed, parts = _gather(workspace, certificate, leaves=leaves)
    needed |= {logged.index: logged for logged in workspace.of_kind("key")}
    needed |= {
        logged.index: logged
        for logged in workspace.of_kind("circuit")
        if isinstance(built := logged.statement.predicate, Circuit) and built.circuit.digest in parts.circuits
    }
    needed |= {
        logged.index: logged
        for kind in ("audit-plan", "audit", "replay")
        for logged in workspace.of_kind(kind)
        if isinstance(said := logged.statement.predicate, AuditPlan | Audit | Replay)
        and said.certificate == certificate.digest
    }
    if isinstance(certificate.statement.predicate, Unlearning):
        logging = {logged.digest for logged in workspace.lineage(certificate)}
        needed |= {
            logged.index: logged
            for logged in workspace.of_kind("deployment")
            if isinstance(serves := logged.statement.predicate, Deployment) and serves.statement in logging
        }
    indices = sorted(needed)
    proofs = workspace.reader.prove_all(indices)
    entries = (
        Entry(index, needed[index].envelope.data, proof.format()) for index, proof in zip(indices, proofs, strict=True)
    )
    text = timestamping.checkpoint_text(proofs[0].checkpoint)
    return replace(parts, entries=tuple(entries), timestamps=timestamping.for_bundle(workspace, text) if stamps else {})


def rehearse(workspace: Workspace, certificate: Logged) -> None:
    """Refuse a certificate, signed but not logged yet, that no verifier would accept. Raises WorkspaceError."""
    needed, parts = _gather(workspace, certificate, leaves=True)
    links = [Link(logged.index, logged.digest, logged.statement) for _, logged in sorted(needed.items())]
    try:
        for link in links:
            if claimed_time(link.statement) > now() + CLOCK_SKEW:
                raise OrderError(f"the {link.statement.kind} statement at entry {link.index} is dated in the future")
        built = chain.build(links)
        chain.check_order(built, None)
        chain.check(built, parts)
        methods.check(built, parts.manifests, parts.details)
        accepted = dict.fromkeys(parts.circuits, "the ledger itself")
        exclusion.check(built, parts, accepted, max_radius=math.inf, allow_development=True)
    except VerificationError as error:
        raise WorkspaceError(f"no certificate is issued, because no verifier would accept it: {error}") from error


def _gather(workspace: Workspace, certificate: Logged, *, leaves: bool) -> tuple[dict[int, Logged], Bundle]:
    """The statements that a certificate follows from, by index, and a bundle of all else."""
    if isinstance(trained := certificate.statement.predicate, Training):
        root = trained.model.tensor_root
        return {certificate.index: certificate}, Bundle((), {root: _manifest(workspace, root)}, {}, {})
    if not isinstance(certificate.statement.predicate, Unlearning):
        raise WorkspaceError(
            f"entry {certificate.index} is a {certificate.statement.kind} statement, expected a certificate or a training"
        )
    vault = workspace.vault
    lineage = workspace.lineage(certificate)
    needed = {logged.index: logged for logged in lineage}
    manifests: dict[str, Manifest] = {}
    trees: dict[str, bytes] = {}
    removed: dict[str, tuple[int, ...]] = {}
    for logged in lineage:
        match logged.statement.predicate:
            case Training(model=model, dataset=tree):
                manifests[model.tensor_root] = _manifest(workspace, model.tensor_root)
                if leaves:
                    trees[tree.root] = vault.leaves(tree.root)
                if (start := chain.start_of(logged.statement.predicate)) is not None:
                    earlier = workspace.find(start)
                    needed[earlier.index] = earlier
            case Unlearning(post=model, requests=requests):
                manifests[model.tensor_root] = _manifest(workspace, model.tensor_root)
                for digest in requests:
                    request = workspace.find(digest)
                    needed[request.index] = request
                positions = vault.note(f"removed/{logged.digest}")
                if leaves and positions is not None:
                    removed[logged.digest] = tuple(positions)
    attached = methods.attachments_of(
        [said for one in lineage if isinstance(said := one.statement.predicate, Training | Unlearning)]
    )
    details = {digest: workspace.attachments.get("details", digest) for digest in attached}
    parts = Bundle((), manifests, trees if removed else {}, removed, details=details)
    return needed, _with_evidence(parts, workspace, certificate, list(needed.values()), lineage)


def _with_evidence(
    parts: Bundle, workspace: Workspace, certificate: Logged, statements: Sequence[Logged], lineage: Sequence[Logged]
) -> Bundle:
    """Also what the certificate's proofs are checked with, where it has any."""
    predicate = certificate.statement.predicate
    assert isinstance(predicate, Unlearning)
    if (evidence := predicate.evidence) is None:
        return parts
    stated = [evidence.commitments] + [
        logged.statement.predicate.zk
        for logged in statements
        if isinstance(logged.statement.predicate, Training | Request) and logged.statement.predicate.zk is not None
    ]
    stated += exclusion.begun_from(evidence, [logged.statement.predicate for logged in lineage[:-1]])
    points = {tensor.points for commitments in stated for tensor in commitments.tensors}
    get = workspace.attachments.get
    return replace(
        parts,
        circuits={digest: workspace.attachments.get_circuit(digest) for digest in evidence.circuits},
        points={digest: get("points", digest) for digest in points},
        proofs={digest: get("proofs", digest) for digest in evidence.proofs},
        srs={evidence.commitments.srs: get("srs", evidence.commitments.srs)},
    )


def _manifest(workspace: Workspace, root: str) -> Manifest:
    text = workspace.vault.note(f"manifest/{root}")
    if text is None:
        raise WorkspaceError(f"the vault has no manifest of the model with tensor root {root}")
    return Manifest.parse(text.encode())
