"""Clients that leave a federation, or unlearn at home: what a verifier sees of it."""

import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import certify
from certify import client
from certify.client_index import Index
from certify.dataset import new_salt
from certify.envelope import PAYLOAD_TYPE, Envelope, pae
from certify.errors import DatasetError, StatementError, WorkspaceError
from certify.federation import at_home, leaving_of
from certify.methods.federated import FederatedTraining
from certify.trust import Trust
from certify.verifier import verify
from certify.workspace import Workspace
from ledger.merkle import leaf_hash, root
from tests.federation import (
    KEYS,
    NAMES,
    PUBLIC,
    X,
    ask,
    at_home_statement,
    detail_of,
    federation,
    leave,
    written,
)


def test_client_leaves_and_others_repair(workspace: Workspace, tmp_path: Path) -> None:
    made = federation(workspace)
    run = leave(made, ask(made), repair=2)
    detail = detail_of(run)
    assert detail.subtracted == [sent[2].digest for sent in made.rounds]
    report = verify(written(run, tmp_path), Trust.load(workspace.path / "trust.toml"))
    lines = report.steps[5].established
    assert any("6 updates of 2 rounds are signed by the 3 clients" in line for line in lines)
    assert any(
        "2 updates it names as subtracted are all that the leaving signed in training, 1 of 3 clients" in line
        for line in lines
    )
    assert any("2 rounds of repair are signed by 2 clients, none of which left" in line for line in lines)
    assert any("does not show that the weights are what the subtraction gives" in line for line in report.limits)


def test_client_says_that_it_unlearned_at_home(workspace: Workspace, tmp_path: Path) -> None:
    made = federation(workspace)
    request = ask(made)
    with certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1", seeds=[]) as run:
        signed = at_home_statement(made, run, request, KEYS[NAMES[2]])
        made.model.weight.data += 0.01
        run.detail = at_home(workspace, made.training, [request], [signed])
    report = verify(written(run, tmp_path), Trust.load(workspace.path / "trust.toml"))
    assert any(
        "signed, under the key that the training committed to, that it unlearned 3 of its records" in line
        for line in report.steps[5].established
    )


def test_bundle_names_no_client_and_holds_no_update(workspace: Workspace, tmp_path: Path) -> None:
    made = federation(workspace)
    data = written(leave(made, ask(made), repair=1), tmp_path)
    assert b"clinic" not in data
    for sent in made.history:
        for update in sent:
            for value in update.delta.values():
                assert value.numpy().tobytes() not in data
    assert X[2].numpy().tobytes() not in data


def test_two_clients_leave_in_one_certificate_and_a_third_in_the_next(workspace: Workspace, tmp_path: Path) -> None:
    made = federation(workspace)
    names = {NAMES[0]: NAMES[0], NAMES[1]: NAMES[1]}
    both = certify.file_request(workspace, names, ground="gdpr-17", scope="client")
    assert [one.client for one in leaving_of(workspace, [both])] == NAMES[:2]
    leave(made, both, who=frozenset({0, 1}))
    run = leave(made, ask(made))
    report = verify(written(run, tmp_path), Trust.load(workspace.path / "trust.toml"))
    assert any("the 4 updates it names" in line for line in report.steps[5].established)


def test_openssl_verifies_what_a_client_signed(workspace: Workspace, tmp_path: Path) -> None:
    signed = federation(workspace, 1).rounds[0][0]
    (tmp_path / "key.pem").write_text(PUBLIC[NAMES[0]].pem())
    (tmp_path / "signature").write_bytes(signed.signatures[0].sig)
    (tmp_path / "pae").write_bytes(pae(PAYLOAD_TYPE, signed.payload))
    check = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "pae"]
    assert b"Verified OK" in subprocess.run(check, cwd=tmp_path, check=True, capture_output=True).stdout


def test_sigstore_verifies_what_a_client_signed(workspace: Workspace) -> None:
    dsse = pytest.importorskip("sigstore.dsse", reason="sigstore is not installed")
    signed = federation(workspace, 1).rounds[0][0]
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    theirs = dsse.Envelope._from_json(signed.data.decode())
    assert dsse._verify(load_der_public_key(PUBLIC[NAMES[0]].spki), theirs) == signed.payload


def test_client_finds_its_update_in_the_committed_root(workspace: Workspace) -> None:
    made = federation(workspace)
    detail = made.training.statement.predicate.detail
    assert isinstance(detail, FederatedTraining)
    leaves = [
        leaf_hash(bytes.fromhex(envelope.digest))
        for sent in made.rounds
        for envelope in sorted(sent, key=lambda one: client.update_of(one).client)
    ]
    assert (detail.updates.root, detail.updates.count) == (root(leaves).hex(), 6)


def test_index_reads_what_it_writes_and_nothing_else() -> None:
    names = sorted(NAMES)
    index = Index({name: PUBLIC[name] for name in names}, [{names[0]: "ab" * 32, names[2]: "cd" * 32}])
    data = index.to_json()
    assert Index.parse(data) == index
    turned = Index(dict(reversed(index.keys.items())), [{names[0]: "ab" * 32}])
    same_key = Index(dict.fromkeys(names, PUBLIC[names[0]]), index.rounds)
    no_key = data.replace(b64encode(PUBLIC[names[0]].spki)[:8], b"AAAAAAAA")
    twice = data.replace(b"[[0,", b"[[2,")
    for bad in (
        data + b" ",
        twice,
        turned.to_json(),
        same_key.to_json(),
        no_key,
        data.replace(b"[2,", b"[7,"),
        b"{}",
        b"",
    ):
        with pytest.raises(StatementError):
            Index.parse(bad)


def test_file_of_envelopes_reads_what_it_writes_and_nothing_else(workspace: Workspace) -> None:
    sent = federation(workspace, 1).rounds[0]
    data = client.join(sent)
    assert client.split(data, most=3) == sent
    for bad in (b"", b"\n", data[:-1], data + b"\n", b" " + data, data.replace(b'"payload":', b'"payload": ')):
        with pytest.raises(StatementError):
            client.split(bad, most=3)
    with pytest.raises(StatementError, match="1 to 2 envelopes"):
        client.split(data, most=2)
    with pytest.raises(StatementError):
        client.unlearning_of(Envelope.parse(sent[0].data))


def test_pseudonym_needs_its_salt() -> None:
    assert client.pseudonym("clinic", new_salt()) != client.pseudonym("clinic", new_salt())
    with pytest.raises(DatasetError, match="expected 32"):
        client.pseudonym("clinic", b"")


def test_leaving_needs_a_request_about_a_client(workspace: Workspace) -> None:
    made = federation(workspace)
    request = certify.file_request(workspace, {NAMES[2]: NAMES[2]}, ground="gdpr-17")
    with pytest.raises(WorkspaceError, match="is not a request about a client"):
        leaving_of(workspace, [request])
    with pytest.raises(WorkspaceError, match="ask it for its statement"):
        at_home(workspace, made.training, [ask(made)], [])
