"""Networks: what fitting and forgetting log, crashes in the middle, and proofs made on a real Ray cluster."""

from pathlib import Path

import pytest
import torch

from certify import case, committed, provable
from certify.errors import DatasetError
from certify.proof_task import Provable
from certify.provable_sgd import Sgd
from certify.request import file_request
from certify.state_dict import digest_state_dict
from certify.statement import Training, Unlearning
from certify.trust import Trust
from certify.verifier import Given, verify
from certify.workspace import Workspace
from certify.zk import STATES, Evidence
from circuits import engine as engines
from tests.chain_cases import FIRST, SEED, Engine, ledger, people, trained
from tests.exclusion_cases import ceremony, new_workspace, seeded


def evidence(made: Provable) -> Evidence:
    certificate = made.logged.statement.predicate
    assert isinstance(certificate, Unlearning) and certificate.evidence is not None
    return certificate.evidence


def journals(workspace: Workspace) -> list[str]:
    return [name for name, _ in workspace.vault.notes("chain/")]


def verified(workspace: Workspace, made: Provable) -> str:
    has = Given(weights=digest_state_dict(dict(made.weights)), read=lambda name: made.weights[name].numpy().tobytes())
    trust = Trust.load(workspace.path / "trust.toml")
    return verify(case.collect(workspace, made.logged).to_bytes(), trust, given=has).grade


def test_what_a_training_states() -> None:
    training = ledger().trained.logged.statement.predicate
    assert isinstance(training, Training)
    parameters = training.recipe.parameters
    assert training.recipe.name == "exclusion-chain/v1"
    assert (parameters["seed"], parameters["chain_steps"], parameters["steps"]) == (SEED, 3, 2)
    assert training.zk is not None and training.zk.tensors[0].count == 2


def test_what_certificates_state() -> None:
    first, second = map(evidence, ledger().forgot)
    for found in (first, second):
        assert (found.statement, found.seed, len(found.proofs), len(found.start)) == ("exclusion-chain/v1", SEED, 2, 1)
        assert [tensor.name for tensor in found.commitments.tensors] == [STATES]
    assert first.start == second.start  # whoever knows the seed knows these
    assert not set(first.proofs) & set(second.proofs)
    assert not journals(ledger().workspace)


def test_each_certificate_has_weights_of_its_own_and_they_are_integers() -> None:
    """What training without a record gives is in tests/circuits/test_chain.py."""
    ours = [dict(made.weights) for made in (ledger().trained, *ledger().forgot)]
    assert list(ours[0]) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert any(not torch.equal(ours[one][name], ours[other][name]) for name in ours[0])
    for state in ours:
        assert all(torch.equal(value * 1024, (value * 1024).round()) for value in state.values())


def test_a_crash_in_the_middle_costs_no_proof() -> None:
    with trained() as (workspace, _, asked):
        before = len([*workspace.statements()])
        dying = Engine(lives=1)
        with pytest.raises(KeyboardInterrupt):
            provable.forget(workspace, [asked], engine=dying)
        assert dying.asked == 1 and len([*workspace.statements()]) == before
        [journal] = journals(workspace)
        kept = workspace.vault.note(journal)
        zk = asked.statement.predicate.zk  # type: ignore[union-attr]
        assert zk is not None and list(kept["proofs"]) == ["0"]
        spent = committed._note(workspace, zk.tensors[0])["proofs"]

        again = Engine()
        made = provable.forget(workspace, [asked], engine=again)
        assert again.asked == 1, "the first proof is not made again"
        assert evidence(made).proofs[0] == kept["proofs"]["0"]
        assert evidence(made).commitments.tensors[0].points == kept["states"]
        assert evidence(made).proofs == evidence(ledger().forgot[0]).proofs, "as if nothing had happened"
        assert not journals(workspace)
        assert committed._note(workspace, zk.tensors[0])["proofs"] == spent == 2, "nor is its salt spent twice"
        assert verified(workspace, made) == "exclusion proven"


def test_a_crash_before_the_first_proof_and_after_the_last() -> None:
    with trained() as (workspace, _, asked):
        with pytest.raises(KeyboardInterrupt):
            provable.forget(workspace, [asked], engine=Engine(lives=0))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("certify.provable_sgd.open_places", interrupt)
            provable.forget(workspace, [asked], engine=Engine())
        assert len(journals(workspace)) == 1
        last = Engine(lives=0)
        made = provable.forget(workspace, [asked], engine=last)
        assert last.asked == 0 and not journals(workspace)
        assert evidence(made).proofs == evidence(ledger().forgot[0]).proofs


def test_a_logistic_model_is_forgotten_step_by_step() -> None:
    with ceremony(), seeded("logistic"):
        workspace = new_workspace()
        sgd = Sgd(hidden=0, batch=6, steps=4, together=2, learning_rate=1.5, loss="logistic")
        fitted = provable.fit(workspace, people(), objective=sgd)
        training = fitted.logged.statement.predicate
        assert isinstance(training, Training) and training.recipe.parameters["network"] == "logistic"
        asked = file_request(workspace, {FIRST: people()[FIRST]}, ground="gdpr-17")
        made = provable.forget(workspace, [asked], engine=Engine())
        assert verified(workspace, made) == "exclusion proven"
        assert any(not torch.equal(made.weights[name], fitted.weights[name]) for name in made.weights)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


BAD = [
    (Sgd(hidden=3, batch=5, steps=3), "expected full batches of 5 records, 12 came: leave out 2"),
    (Sgd(hidden=3, batch=6, steps=3, together=3), "as many batches as there are steps in a proof, 3, got 2"),
    (Sgd(hidden=3, batch=12, steps=9, passes=8), "expected 9 passes at least"),
    (Sgd(hidden=3, batch=1, steps=65, passes=8), "expected 64 proofs at most, got 65"),
    (Sgd(hidden=3, batch=6, loss="logistic"), "expected no hidden units for a logistic loss, got 3"),
    (Sgd(hidden=3, batch=6, learning_rate=1e-4), "expected a learning rate of 0.04[0-9]* at least for these scales"),
]


@pytest.mark.parametrize(("sgd", "match"), BAD)
def test_trainings_whose_unlearning_could_not_be_proven(sgd: Sgd, match: str) -> None:
    with ceremony():
        workspace = new_workspace()
        with pytest.raises(DatasetError, match=match):
            provable.fit(workspace, people(), objective=sgd)
        assert not [*workspace.statements()]


def test_on_a_ray_cluster(tmp_path: Path) -> None:
    """Here Ray is started for the proofs, and ends with them."""
    ray = pytest.importorskip("ray")
    with trained() as (workspace, _, asked), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        patch.setenv("RAY_TMPDIR", "/tmp")  # a socket's path is short
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = provable.forget(workspace, [asked], engine=engines.engine("ray", cache=tmp_path / "keys"))
        assert not ray.is_initialized()
        assert verified(workspace, made) == "exclusion proven"
        assert evidence(made).commitments == evidence(ledger().forgot[0]).commitments
        assert digest_state_dict(dict(made.weights)) == digest_state_dict(dict(ledger().forgot[0].weights))
