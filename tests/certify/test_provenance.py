"""Which models saw a record, and which requests a model satisfies, by a ledger's vault; batches that were committed to."""

import hmac
import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from click.testing import CliRunner  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import certify  # noqa: E402
from certify import batches, provenance, request, sharding  # noqa: E402
from certify.batches import BatchMap  # noqa: E402
from certify.cli import cli  # noqa: E402
from certify.cli.exit_codes import exit_code  # noqa: E402
from certify.errors import CertifyError, DatasetError, WorkspaceError  # noqa: E402
from certify.hooks.torch import HookRun  # noqa: E402
from certify.statement import Base, Training  # noqa: E402
from certify.workspace import Logged, Workspace  # noqa: E402

PEOPLE = {f"p{i}": {"x": i} for i in range(6)}
BATCHES = [[0, 1, 2], [3, 4, 5], [5, 0, 3], [1, 2, 4]]


class Models:
    """Models that change with every step, so that each has a root of its own."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.step = workspace, 0

    def train(self, data: dict[str, Any] = PEOPLE, **how: Any) -> HookRun:
        model = torch.nn.Linear(2, 2)
        placed: Sequence[Sequence[int]] | None = how.pop("batches", None)
        self._change(model)
        with certify.training(model, ledger=self.workspace, data=data, method="sgd", **how) as run:
            run.batches = placed
        return run

    def ask(self, *ids: str, **how: Any) -> Logged:
        asked = {name: PEOPLE[name] for name in ids} if how.get("scope", "records") == "records" else {"c": b"class 3"}
        return certify.file_request(self.workspace, asked, ground="gdpr-17", **how)

    def forget(self, run: HookRun, *requests: Logged) -> HookRun:
        """From the model that a run left, in a copy, so that two may start from one."""
        assert isinstance(run.model, torch.nn.Module)
        model = torch.nn.Linear(2, 2)
        model.load_state_dict(run.model.state_dict())
        with certify.unlearning(model, ledger=self.workspace, request=requests, method="mine") as made:
            self._change(model)
        return made

    def _change(self, model: torch.nn.Module) -> None:
        self.step += 1
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(self.step)


@pytest.fixture
def models(workspace: Workspace) -> Models:
    return Models(workspace)


def root(run: HookRun) -> str:
    assert run.certificate is not None
    return run.certificate.statement.subjects[0].sha256


def entry(run: HookRun) -> int:
    assert run.certificate is not None
    return run.certificate.index


def states(workspace: Workspace, record_id: str) -> dict[int, tuple[str, int | None, bool]]:
    """Of each model, by entry: how it stands to the record, the entry that decides, and whether it is current."""
    found = provenance.trace(workspace, record_id)
    return {model.entry: (model.state, model.by, model.current) for one in found.trainings for model in one.models}


# -- batches -------------------------------------------------------------------------------------------------------------


def test_batches_are_committed_to_as_the_format_says() -> None:
    """By hand, from the text of the module."""
    made = BatchMap.of(BATCHES, 6)
    assert made.batches == ((0, 2), (0, 3), (0, 3), (1, 2), (1, 3), (1, 2))

    def leaf(position: int, numbers: bytes) -> bytes:
        salt = hmac.new(made.secret, position.to_bytes(8, "big"), sha256).digest()
        inner = sha256(b"unlearning-ledger/batches/v1\0" + salt + numbers).digest()
        return sha256(b"\0" + inner).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return sha256(b"\1" + left + right).digest()

    a, b, c, d, e, f = (leaf(i, json.dumps(list(made.batches[i]), separators=(",", ":")).encode()) for i in range(6))
    assert made.root() == node(node(node(a, b), node(c, d)), node(e, f)).hex()


def test_batches_of_one_record_are_opened_alone(models: Models) -> None:
    run = models.train(batches=BATCHES)
    assert run.certificate is not None
    training = run.certificate.statement.predicate
    assert isinstance(training, Training) and training.batches is not None
    for position, numbers in enumerate([(0, 2), (0, 3), (0, 3), (1, 2), (1, 3), (1, 2)]):
        opening = batches.open_batches(models.workspace.vault, training.batches, position)
        assert opening.numbers == numbers
        opening.check(training.batches)
        for forged in (replace(opening, numbers=(0,)), replace(opening, index=5 - position), replace(opening, path=())):
            with pytest.raises(DatasetError):
                forged.check(training.batches)


def test_batches_that_cannot_be_are_refused(models: Models) -> None:
    with pytest.raises(DatasetError, match="batch 1 has record 6, expected positions from 0 to 5"):
        models.train(batches=[[0], [6]])
    assert models.workspace.reader.size() == 0
    assert models.train().certificate.statement.predicate.batches is None  # type: ignore[union-attr]


def test_altered_batches_are_noticed(models: Models) -> None:
    run = models.train(batches=BATCHES)
    vault = models.workspace.vault
    [(name, note)] = vault.notes("batch-map/")
    vault.put_note(name, note | {"batches": [[1], *note["batches"][1:]]})
    with pytest.raises(WorkspaceError, match=r"batches .* were altered"):
        provenance.trace(models.workspace, "p0")
    vault.drop_note(name)
    with pytest.raises(WorkspaceError, match="no batches with root"):
        provenance.trace(models.workspace, "p0")
    assert entry(run) == 0


# -- trace ---------------------------------------------------------------------------------------------------------------


def test_record_is_followed_from_training_to_where_it_is_gone(models: Models) -> None:
    first = models.train(batches=BATCHES)
    asked = models.ask("p1", "p4")
    second = models.forget(first, asked)
    third = models.forget(second, models.ask("p0"))
    found = provenance.trace(models.workspace, "p4")
    [training] = found.trainings
    assert (training.entry, training.position, training.batches, training.shard) == (0, 4, (1, 3), None)
    assert states(models.workspace, "p4") == {
        0: ("holds", None, False),
        entry(second): ("gone", entry(second), False),
        entry(third): ("gone", entry(second), True),
    }
    assert found.holding == ()
    [request_] = found.requests
    assert (request_.entry, request_.answered, request_.overdue) == (asked.index, (entry(second),), False)
    left = provenance.trace(models.workspace, "p2")
    assert [model.entry for model in left.holding] == [entry(third)] and left.requests == ()


def test_models_that_nobody_made_forget_are_found(models: Models) -> None:
    """Two models of the same people, and two that came from one: each has to forget by itself."""
    first, other = models.train(), models.train({name: PEOPLE[name] for name in ("p1", "p3")})
    asked = models.ask("p3")
    left, right = models.forget(first, asked), models.forget(first, models.ask("p2"))
    assert states(models.workspace, "p3") == {
        entry(first): ("holds", None, False),
        entry(other): ("holds", None, True),
        entry(left): ("gone", entry(left), True),
        entry(right): ("holds", None, True),
    }
    holding = {model.tensor_root for model in provenance.trace(models.workspace, "p3").holding}
    assert holding == {root(other), root(right)}


def test_model_that_started_from_one_with_the_record_has_it_by_way(models: Models) -> None:
    base = models.train()
    tuned = models.train({"q": {"x": 9}}, base=[Base("ours", root(base))])
    again = models.train({"q": {"x": 9}}, base=[Base("ours", root(tuned))])
    assert states(models.workspace, "p1") == {
        entry(base): ("holds", None, True),
        entry(tuned): ("by way", entry(base), True),
        entry(again): ("by way", entry(tuned), True),
    }
    clean = models.forget(base, models.ask("p1"))
    after = models.train({"q": {"x": 9}}, base=[Base("ours", root(clean))])
    assert states(models.workspace, "p1")[entry(tuned)][0] == "by way"
    assert entry(after) not in states(models.workspace, "p1")


def test_nobody_is_found_under_an_unknown_or_destroyed_id(models: Models) -> None:
    run = models.train()
    assert provenance.trace(models.workspace, "stranger").trainings == ()
    asked = models.ask("p1")
    models.forget(run, asked)
    request.shred_request(models.workspace, asked)
    found = provenance.trace(models.workspace, "p1")
    assert (found.trainings, found.requests, found.destroyed) == ((), (), 1)


def test_vault_without_what_was_removed_says_unknown(models: Models) -> None:
    run = models.train()
    made = models.forget(run, models.ask("p1"))
    [(name, _)] = models.workspace.vault.notes("removed/")
    models.workspace.vault.drop_note(name)
    assert states(models.workspace, "p1")[entry(made)] == ("unknown", entry(made), True)
    assert provenance.trace(models.workspace, "p1").holding[0].entry == entry(made)


def test_shard_and_slice_are_shown(workspace: Workspace) -> None:
    model = torch.nn.ModuleDict({"0": torch.nn.Linear(2, 2), "1": torch.nn.Linear(2, 2)})
    holder = torch.nn.ModuleDict({"constituents": model})
    with certify.training(holder, ledger=workspace, data=PEOPLE, method="sisa/v1") as run:
        run.detail = sharding.trained(workspace, [[[5], [1, 2]], [[0, 4], [3]]])
    [training] = provenance.trace(workspace, "p4").trainings
    assert (training.shard, training.slice, training.batches) == (1, 0, None)


# -- requests ------------------------------------------------------------------------------------------------------------


def stands(workspace: Workspace, run: HookRun) -> dict[int, tuple[str, int, tuple[int, ...]]]:
    found = provenance.satisfied(workspace, root(run))
    return {one.entry: (one.state, one.left, one.by) for one in found.requests}


def test_requests_stand_differently_to_each_model(models: Models) -> None:
    small = models.train({name: PEOPLE[name] for name in ("p0", "p1")})
    large = models.train()
    one, two = models.ask("p1"), models.ask("p3", "p1")
    concept = models.ask(scope="concept")
    first = models.forget(large, one)
    assert stands(models.workspace, large) == {
        one.index: ("open", 1, ()),
        two.index: ("open", 2, ()),
        concept.index: ("open", 0, ()),
    }
    assert stands(models.workspace, first) == {
        one.index: ("answered", 0, (entry(first),)),
        two.index: ("open", 1, (entry(first),)),
        concept.index: ("open", 0, ()),
    }
    third = models.ask("p3")
    second = models.forget(first, third)
    assert stands(models.workspace, second)[two.index] == ("left out", 0, (entry(first), entry(second)))
    assert stands(models.workspace, small)[third.index] == ("never seen", 0, ())
    found = provenance.satisfied(models.workspace, root(first))
    assert (found.entry, found.kind, found.current) == (entry(first), "unlearning", False)


def test_answer_is_not_taken_for_more_than_it_is(models: Models) -> None:
    """A model fine-tuned from one with the record answers the request for its own data, and still has it by way."""
    base = models.train()
    tuned = models.train(base=[Base("ours", root(base))])
    asked = models.ask("p2")
    made = models.forget(tuned, asked)
    assert stands(models.workspace, made)[asked.index] == ("answered", 1, (entry(made),))
    assert states(models.workspace, "p2")[entry(made)] == ("by way", entry(base), True)


def test_destroyed_openings_leave_a_request_unknown(models: Models) -> None:
    run = models.train()
    asked = models.ask("p2")
    request.shred_request(models.workspace, asked)
    assert stands(models.workspace, run)[asked.index] == ("unknown", 0, ())


def test_model_that_was_not_logged_has_no_requests(models: Models) -> None:
    models.train()
    with pytest.raises(WorkspaceError, match="no training or certificate of this ledger is of a model"):
        provenance.satisfied(models.workspace, "ab" * 32)


# -- commands ------------------------------------------------------------------------------------------------------------


def test_commands_say_it_in_words_and_in_json(models: Models, tmp_path: Path) -> None:
    run = models.train(batches=BATCHES)
    made = models.forget(run, models.ask("p1"))
    models.ask("p3", due=None)
    assert isinstance(made.model, torch.nn.Module)
    save_file(made.model.state_dict(), tmp_path / "after.safetensors")

    def call(*arguments: object, expect: int = 0) -> str:
        command = [*map(str, arguments), "--ledger", str(models.workspace.path)]
        done = CliRunner().invoke(cli, command)
        assert (exit_code(done.exception) if isinstance(done.exception, CertifyError) else done.exit_code) == expect
        return done.stdout

    told = call("trace", "--id", "p1")
    assert "record 1 of its dataset, 2 batches (0, 3)" in told
    assert "left out by entry 2" in told and "no current model still has it" in told
    assert "a current model still has it" in call("trace", "--id", "p3")
    value = json.loads(call("trace", "--id", "p3", "--json"))
    assert value["holding"] == [root(made)] and value["trainings"][0]["models"][1]["state"] == "holds"
    assert "no training of this ledger has a record" in call("trace", "--id", "nobody")
    told = call("satisfied", tmp_path / "after.safetensors")
    assert "answered by entry 2" in told and "OPEN, 1 of its records in the model" in told
    value = json.loads(call("satisfied", root(made)[:12], "--open", "--json"))
    assert [one["state"] for one in value["requests"]] == ["open"]
    call("satisfied", "ab" * 32, expect=3)
    call("satisfied", "no such file", expect=3)
