"""Lies about a federation: forged updates, a round left out, somebody else's update taken back, keys swapped afterwards."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import certify
from certify import client
from certify.bundle import Bundle
from certify.client import ClientUpdate, join, sign, update_of
from certify.client_index import Index
from certify.envelope import Envelope
from certify.errors import ChainError, WorkspaceError
from certify.federation import at_home, leaving_of, subtracted, trained
from certify.hooks.torch import HookRun
from certify.keys import SigningKey
from certify.methods.federated import Federated, FederatedTraining, Leaving
from certify.trust import Trust
from certify.verifier import verify
from certify.workspace import Workspace
from tests.federation import (
    KEYS,
    NAMES,
    PUBLIC,
    Federation,
    a_round,
    ask,
    at_home_statement,
    federation,
    leave,
    written,
)

Rounds = list[list[Envelope]]
THIEF = SigningKey.generate("ed25519")


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinics", password=None) as workspace:
        yield workspace


def refused(
    made: Federation, why: str, change: Callable[[Federated], Any] = lambda detail: detail, **more: Any
) -> None:
    """No such certificate is issued, as no verifier would take it: both ask the same check."""
    with pytest.raises(WorkspaceError, match=why):
        leave(made, more.pop("request", None) or ask(made), change=change, **more)


def changed(detail: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(detail, **fields)


def resigned(envelope: Envelope, key: SigningKey, **other: Any) -> Envelope:
    return sign(changed(update_of(envelope), **other), key)


def training_of(change: Callable[[Rounds], Rounds]) -> Callable[[Rounds, HookRun], FederatedTraining]:
    """A training's detail made from altered rounds."""

    def make(rounds: Rounds, run: HookRun) -> FederatedTraining:
        return trained(run.workspace, PUBLIC, change([list(sent) for sent in rounds]))

    return make


def with_update(at: int, who: int, new: Callable[[Envelope], Envelope]) -> Callable[[Rounds], Rounds]:
    def change(rounds: Rounds) -> Rounds:
        rounds[at][who] = new(rounds[at][who])
        return rounds

    return change


def test_update_that_the_server_signed_itself(workspace: Workspace) -> None:
    forge = with_update(1, 2, lambda signed: resigned(signed, THIEF, update="cd" * 32))
    made = federation(workspace, detail=training_of(forge))
    refused(made, f"what client {NAMES[2][:16]} sent is not signed by its key")


def test_weight_that_was_altered_after_signing(workspace: Workspace) -> None:
    def heavier(signed: Envelope) -> Envelope:
        other = resigned(signed, KEYS[NAMES[1]], weight=10_000)
        wire = msgspec.json.decode(other.data)
        wire["signatures"] = msgspec.json.decode(signed.data)["signatures"]
        return Envelope.parse(msgspec.json.encode(wire, order="sorted"))

    made = federation(workspace, detail=training_of(with_update(0, 1, heavier)))
    refused(made, "is not signed by its key")


def test_update_of_another_client_under_ones_own_name(workspace: Workspace) -> None:
    theft = with_update(0, 0, lambda signed: resigned(signed, KEYS[NAMES[1]]))
    refused(federation(workspace, detail=training_of(theft)), "is not signed by its key")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"run": "00" * 16}, "signed for round 0 of run 0000000000000000"),
        ({"round": 1}, "signed for round 1 of run"),
        ({"log": "other.example/ledger"}, "signed for round 0 of run"),
        ({"start": "00" * 32}, "started from 2 different models"),
    ],
)
def test_update_from_elsewhere(workspace: Workspace, other: dict[str, Any], why: str) -> None:
    """Of another training, another round or another log, or given by the server another model to start from."""
    replay = with_update(0, 2, lambda signed: resigned(signed, KEYS[NAMES[2]], **other))
    refused(federation(workspace, detail=training_of(replay)), why)


def test_update_that_counts_twice(workspace: Workspace) -> None:
    def twice(rounds: Rounds, run: HookRun) -> FederatedTraining:
        detail = trained(run.workspace, PUBLIC, rounds)
        sent = sorted(rounds[0], key=lambda one: update_of(one).client)
        return changed(
            detail, signed=[run.workspace.attachments.put("details", join([sent[0], *sent])), detail.signed[1]]
        )

    refused(federation(workspace, detail=twice), "or one is there twice")


def test_index_that_leaves_an_update_out(workspace: Workspace) -> None:
    """So that it need not be subtracted."""

    def short(rounds: Rounds, run: HookRun) -> FederatedTraining:
        whole = trained(run.workspace, PUBLIC, rounds)
        less = trained(run.workspace, PUBLIC, [rounds[0], rounds[1][:2]])
        return changed(less, signed=whole.signed)

    refused(federation(workspace, detail=short), "what was signed in round 1 is not what its index names")


def test_root_of_other_updates_than_those_of_the_index(workspace: Workspace) -> None:
    def other(rounds: Rounds, run: HookRun) -> FederatedTraining:
        whole = trained(run.workspace, PUBLIC, rounds)
        return changed(whole, updates=changed(whole.updates, root="00" * 32))

    refused(federation(workspace, detail=other), "states 3 clients, 2 rounds and updates 0000000000000000")


def test_round_left_out_of_the_subtraction(workspace: Workspace) -> None:
    made = federation(workspace)
    refused(
        made,
        "subtracts 1 updates, the leaving clients signed 2",
        lambda detail: changed(detail, subtracted=detail.subtracted[:1]),
    )


def test_subtraction_of_one_round_twice(workspace: Workspace) -> None:
    refused(
        federation(workspace),
        "expected each once",
        lambda detail: changed(detail, subtracted=[detail.subtracted[0]] * 2),
    )


def test_subtraction_of_another_clients_update(workspace: Workspace) -> None:
    made = federation(workspace)
    other = made.rounds[1][0].digest
    refused(
        made,
        f"subtracts update {other[:16]}, which the leaving clients did not sign",
        lambda detail: changed(detail, subtracted=[detail.subtracted[0], other]),
    )


@pytest.mark.parametrize("honest_salt", [True, False])
def test_another_client_leaves_than_the_one_who_asked(workspace: Workspace, honest_salt: bool) -> None:
    made = federation(workspace)
    own = ask(made)
    other = subtracted(workspace, made.training, [ask(made, 1)])
    salts = changed(other, leaving=[Leaving(NAMES[1], leaving_of(workspace, [own])[0].salt)])
    with (
        pytest.raises(WorkspaceError, match="the request is about other clients"),
        certify.unlearning(made.model, ledger=workspace, request=own, method="federated/v1", seeds=[]) as run,
    ):
        made.model.weight.data += 1
        run.detail = other if honest_salt else salts


def test_one_of_two_who_asked_is_forgotten_about(workspace: Workspace) -> None:
    made = federation(workspace)
    names = {NAMES[1]: NAMES[1], NAMES[2]: NAMES[2]}
    request = certify.file_request(workspace, names, ground="gdpr-17", scope="client")

    def only_one(detail: Federated) -> Federated:
        return changed(detail, leaving=detail.leaving[:1], subtracted=detail.subtracted[:2])

    refused(made, "the request is about other clients", only_one, request=request)


def test_one_client_asked_for_twice_is_subtracted_twice(workspace: Workspace) -> None:
    made = federation(workspace)
    names = {"a": NAMES[2], "b": NAMES[2]}
    request = certify.file_request(workspace, names, ground="gdpr-17", scope="client")
    salts = [one.salt for one in leaving_of(workspace, [request])]

    def double(_: Federated) -> Federated:
        once = subtracted(workspace, made.training, [ask(made)])
        return changed(once, leaving=[Leaving(NAMES[2], salt) for salt in salts], subtracted=once.subtracted * 2)

    with (
        pytest.raises(WorkspaceError, match="names a client twice"),
        certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1", seeds=[]) as run,
    ):
        made.model.weight.data += 1
        run.detail = double(subtracted(workspace, made.training, [ask(made)]))


def test_client_who_did_not_ask_leaves_as_well(workspace: Workspace) -> None:
    made = federation(workspace)

    def more(detail: Federated) -> Federated:
        own = [digest for sent in made.rounds for digest in [sent[1].digest]]
        leaving = [*detail.leaving, Leaving(NAMES[1], "00" * 32)]
        return changed(detail, leaving=leaving, subtracted=detail.subtracted + own)

    refused(made, "names 2 clients, its requests are about 1", more)


def test_request_about_something_else(workspace: Workspace) -> None:
    made = federation(workspace)
    detail = subtracted(workspace, made.training, [ask(made)])
    request = certify.file_request(workspace, {NAMES[2]: NAMES[2]}, ground="gdpr-17", scope="concept")
    with (
        pytest.raises(WorkspaceError, match="answers a request about concept"),
        certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1") as run,
    ):
        made.model.weight.data += 1
        run.detail = detail


def test_client_that_takes_no_part(workspace: Workspace) -> None:
    made = federation(workspace)
    stranger = client.pseudonym("nobody", bytes(32))
    request = certify.file_request(workspace, {stranger: stranger}, ground="gdpr-17", scope="client")
    refused(made, "which is none of the training's", request=request)


def test_index_made_up_afterwards(workspace: Workspace) -> None:
    """With another key for the client that asks."""
    made = federation(workspace)

    def swapped(detail: Federated) -> Federated:
        index = Index.parse(workspace.attachments.get("details", detail.index))
        own = Index({**index.keys, NAMES[2]: THIEF.public}, index.rounds)
        return changed(detail, index=workspace.attachments.put("details", own.to_json()))

    refused(made, "goes by the clients' index", swapped)


def test_repair_by_the_one_who_left(workspace: Workspace) -> None:
    made = federation(workspace)
    request = ask(made)
    with (
        pytest.raises(WorkspaceError, match=f"repaired with an update of client {NAMES[2][:16]}, which has left"),
        certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1", seeds=[]) as run,
    ):
        made.model.weight.data += 1
        _, signed = a_round(made.model, workspace.origin, run.id, 0, [0, 2])
        run.detail = subtracted(workspace, made.training, [request], repair=[signed])


def test_repair_by_one_who_left_before(workspace: Workspace) -> None:
    made = federation(workspace)
    leave(made, ask(made))
    request = ask(made, 1)
    with (
        pytest.raises(WorkspaceError, match=f"repaired with an update of client {NAMES[2][:16]}, which has left"),
        certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1", seeds=[]) as run,
    ):
        made.model.weight.data += 1
        _, signed = a_round(made.model, workspace.origin, run.id, 0, [0, 2])
        run.detail = subtracted(workspace, made.training, [request], repair=[signed])


def test_repair_by_updates_of_the_training(workspace: Workspace) -> None:
    made = federation(workspace)

    def replayed(detail: Federated) -> Federated:
        old = workspace.attachments.put("details", join(sorted_by_client(made.rounds[0][:2])))
        return changed(detail, repair=[old])

    refused(made, "signed for round 0 of run", replayed)


def sorted_by_client(sent: list[Envelope]) -> list[Envelope]:
    return sorted(sent, key=lambda one: update_of(one).client)


def test_leaving_twice(workspace: Workspace) -> None:
    made = federation(workspace)
    leave(made, ask(made))
    refused(made, "which had left before")


def test_federated_unlearning_of_a_training_that_committed_to_no_clients(workspace: Workspace) -> None:
    made = federation(workspace)
    detail = subtracted(workspace, made.training, [ask(made)])
    with certify.training(made.model, ledger=workspace, data=[b"x"], method="sgd"):
        made.model.weight.data += 1
    request = ask(made)
    with (
        pytest.raises(WorkspaceError, match="its training committed to no clients"),
        certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1", seeds=[]) as run,
    ):
        made.model.weight.data += 1
        run.detail = detail


@pytest.mark.parametrize(
    ("key", "other", "why"),
    [
        (THIEF, {}, "is not signed by its key"),
        (KEYS[NAMES[1]], {}, "is not signed by its key"),
        (KEYS[NAMES[1]], {"client": NAMES[1]}, "of another run, client, request or model before"),
        (KEYS[NAMES[2]], {"run": "00" * 16}, "of another run, client, request or model before"),
        (KEYS[NAMES[2]], {"request": "00" * 32}, "of another run, client, request or model before"),
        (KEYS[NAMES[2]], {"start": "00" * 32}, "of another run, client, request or model before"),
    ],
)
def test_unlearning_at_home_that_the_client_did_not_sign(
    workspace: Workspace, key: SigningKey, other: dict[str, Any], why: str
) -> None:
    made = federation(workspace)
    request = ask(made)
    with (
        pytest.raises(WorkspaceError, match=why),
        certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1", seeds=[]) as run,
    ):
        statement = at_home_statement(made, run, request, key, other)
        detail = at_home(workspace, made.training, [request], [at_home_statement(made, run, request, KEYS[NAMES[2]])])
        made.model.weight.data += 1
        run.detail = changed(detail, statements=workspace.attachments.put("details", join([statement])))


def test_update_passed_off_as_unlearning_at_home(workspace: Workspace) -> None:
    made = federation(workspace)
    request = ask(made)
    with (
        pytest.raises(WorkspaceError, match="not the expected JSON"),
        certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1", seeds=[]) as run,
    ):
        detail = at_home(workspace, made.training, [request], [at_home_statement(made, run, request, KEYS[NAMES[2]])])
        made.model.weight.data += 1
        run.detail = changed(detail, statements=workspace.attachments.put("details", join([made.rounds[0][2]])))


def test_statement_of_another_client_beside_the_one_who_asked(workspace: Workspace) -> None:
    made = federation(workspace)
    request = ask(made)
    with (
        pytest.raises(WorkspaceError, match="has 2 clients' statements, expected 1"),
        certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1", seeds=[]) as run,
    ):
        own = at_home_statement(made, run, request, KEYS[NAMES[2]])
        other = at_home_statement(made, run, request, KEYS[NAMES[1]], {"client": NAMES[1]})
        detail = at_home(workspace, made.training, [request], [own])
        made.model.weight.data += 1
        run.detail = changed(detail, statements=workspace.attachments.put("details", join([own, other])))


def test_update_of_somebody_who_takes_no_part(workspace: Workspace) -> None:
    stranger = client.pseudonym("nobody", bytes(32))
    more = with_update(0, 2, lambda signed: resigned(signed, THIEF, client=stranger))

    def make(rounds: Rounds, run: HookRun) -> FederatedTraining:
        whole = trained(run.workspace, PUBLIC, rounds)
        file = join(sorted_by_client(more([list(sent) for sent in rounds])[0]))
        return changed(whole, signed=[run.workspace.attachments.put("details", file), whole.signed[1]])

    refused(federation(workspace, detail=make), f"client {stranger[:16]} signed, which is none of the training's")


@pytest.mark.parametrize("what", ["index", "round"])
def test_attachment_that_is_no_such_file(workspace: Workspace, what: str) -> None:
    def make(rounds: Rounds, run: HookRun) -> FederatedTraining:
        whole = trained(run.workspace, PUBLIC, rounds)
        junk = run.workspace.attachments.put("details", b'{"clients":[]}')
        return changed(whole, **({"index": junk} if what == "index" else {"signed": [junk, whole.signed[1]]}))

    made = federation(workspace, detail=make)
    request = ask(made)
    with (
        pytest.raises(WorkspaceError, match=r"not the expected JSON|each with a line feed"),
        certify.unlearning(made.model, ledger=workspace, request=request, method="federated/v1", seeds=[]) as run,
    ):
        made.model.weight.data += 1
        honest = trained(workspace, PUBLIC, made.rounds)
        run.detail = Federated(
            index=honest.index,
            way="subtraction",
            leaving=leaving_of(workspace, [request]),
            subtracted=[sent[2].digest for sent in made.rounds],
            weighting="zero",
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda detail: changed(detail, weighting=None),
        lambda detail: changed(detail, way="local"),
        lambda detail: changed(detail, way="local", subtracted=[], weighting=None),
        lambda detail: changed(detail, statements=detail.index),
    ],
)
def test_detail_that_is_neither_one_way_nor_the_other(workspace: Workspace, change: Any) -> None:
    refused(federation(workspace), "expected a weighting|expected their statements", change)


def test_bundle_with_another_index_or_a_round_less_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    made = federation(workspace)
    data = written(leave(made, ask(made)), tmp_path)
    trust = Trust.load(workspace.path / "trust.toml")
    verify(data, trust)
    bundle = Bundle.parse(data)
    for digest in bundle.details:
        left = {name: value for name, value in bundle.details.items() if name != digest}
        with pytest.raises(ChainError, match="which is not in the bundle"):
            verify(replace(bundle, details=left).to_bytes(), trust)


def test_statement_with_more_than_the_known_fields() -> None:
    said = ClientUpdate("example.com/ledger", "00" * 16, NAMES[0], 0, "00" * 32, "11" * 32, 5)
    honest = sign(said, KEYS[NAMES[0]])
    for old, new in ((b'"weight":5', b'"weight":5,"x":1'), (b'"weight":5', b'"weight":0'), (b"1111", b"1112")):
        from certify.envelope import sign as sign_any

        with pytest.raises(Exception, match=r"not the expected JSON|about another update"):
            update_of(sign_any(honest.payload.replace(old, new, 1), [KEYS[NAMES[0]]]))
