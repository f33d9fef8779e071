"""The hook around real torch code: what is issued, what is refused, and that nothing personal gets into the log."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

import certify  # noqa: E402
from certify.bundle import Bundle  # noqa: E402
from certify.errors import DatasetError, DigestError, WorkspaceError  # noqa: E402
from certify.hooks.torch import HookRun  # noqa: E402
from certify.records import record_bytes  # noqa: E402
from certify.request import make_receipt  # noqa: E402
from certify.state_dict import digest_state_dict  # noqa: E402
from certify.statement import OMS_ROOT, TENSOR_ROOT, Request, Training, Unlearning  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import Given, Report, verify  # noqa: E402
from certify.workspace import Logged, Workspace  # noqa: E402

PEOPLE = {f"mary.poppins+{i}@example.org": {"rare-disease": i * 1000 + 7} for i in range(6)}
IDS = list(PEOPLE)


def build() -> Any:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))


def step(model: Any) -> None:
    with torch.no_grad():
        model[1].weight.add_(1)


def train(workspace: Workspace, model: Any | None = None) -> tuple[Any, Logged]:
    model = build() if model is None else model
    with certify.training(model, ledger=workspace, data=PEOPLE, method="sgd", seeds=[3]) as run:
        step(model)
    assert run.certificate is not None
    return model, run.certificate


def ask(workspace: Workspace, *ids: str) -> Logged:
    return certify.file_request(workspace, {id_: PEOPLE[id_] for id_ in ids}, ground="gdpr-17")


def forget(workspace: Workspace, model: Any, request: Any, block: Callable[[Any], None] = step) -> HookRun:
    with certify.unlearning(model, ledger=workspace, request=request, method="retrain", seeds=[3]) as run:
        block(model)
    return run


def check(run: HookRun, tmp_path: Path, given: Given | None = None) -> Report:
    data = run.bundle(tmp_path / "case.bundle").read_bytes()
    return verify(data, Trust.load(run.workspace.path / "trust.toml"), given=given)


def test_training_then_unlearning_makes_a_case_that_verifies(workspace: Workspace, tmp_path: Path) -> None:
    model, trained = train(workspace)
    request = ask(workspace, *IDS[1:3])
    with certify.unlearning(
        model,
        ledger=workspace,
        request=request,
        method="retrain",
        parameters={"epochs": 3, "rates": [0.1, 0.2]},
        seeds=[1],
    ) as run:
        step(model)
        run.metrics["accuracy"] = 0.5
    assert run.certificate is not None
    said = run.certificate.statement.predicate
    assert isinstance(said, Unlearning)
    assert (said.method.name, said.method.parameters, said.method.seeds) == (
        "retrain",
        {"epochs": 3, "rates": [0.1, 0.2]},
        ["1"],
    )
    assert said.metrics == {"accuracy": 0.5}
    assert (said.parent, said.requests) == (trained.digest, [request.digest])
    assert (said.changes.changed, said.changes.unchanged) == (1, 3)
    assert said.removed is not None
    assert said.retained is not None
    assert (said.removed.count, said.retained.count) == (2, 4)
    assert said.environment.libraries["torch"]
    receipt = make_receipt(workspace, request, trained, IDS[1], record_bytes(PEOPLE[IDS[1]]))
    report = check(run, tmp_path, Given(weights=digest_state_dict(model), receipts=[receipt.to_json()]))
    assert report.grade == "attested"
    assert report.tensor_root == digest_state_dict(model).root().hex()
    assert workspace.vault.note(f"run/{run.id}")["state"] == "issued"


@pytest.mark.parametrize("named", [int, str, "digest", "several"])
def test_request_by_index_digest_or_object(workspace: Workspace, named: Any) -> None:
    model, _ = train(workspace)
    first, second = ask(workspace, IDS[0]), ask(workspace, IDS[1])
    names: dict[Any, Any] = {int: 1, str: "1", "digest": first.digest[:16], "several": [first, 2]}
    run = forget(workspace, model, names[named])
    assert run.certificate is not None
    said = run.certificate.statement.predicate
    assert isinstance(said, Unlearning)
    assert said.requests == ([first.digest, second.digest] if named == "several" else [first.digest])


@pytest.mark.parametrize(
    "error", [ValueError("no gradient"), KeyboardInterrupt(), SystemExit(3), torch.OutOfMemoryError()]
)
def test_exception_issues_nothing_and_goes_on(workspace: Workspace, error: BaseException) -> None:
    model, _ = train(workspace)
    request = ask(workspace, IDS[0])
    before = workspace.log.checkpoint()

    def fail(model: Any) -> None:
        step(model)
        raise error

    with pytest.raises(type(error)) as caught:
        with certify.unlearning(model, ledger=workspace, request=request) as run:
            fail(model)
    assert caught.value is error
    assert workspace.log.checkpoint() == before
    attempt = workspace.vault.note(f"run/{run.id}")
    assert attempt["state"] == "failed"
    assert type(error).__name__ in attempt["error"]
    assert run.certificate is None
    with pytest.raises(WorkspaceError, match="no certificate has been issued"):
        run.bundle("case.bundle")
    with pytest.raises(RuntimeError, match="boom"), certify.training(build(), ledger=workspace, data=PEOPLE):
        raise RuntimeError("boom")
    assert workspace.log.checkpoint() == before
    states = sorted(note["state"] for _, note in workspace.vault.notes("run/"))
    assert states == ["failed", "failed", "issued"]


def test_unknown_model_is_refused_before_the_block_runs(workspace: Workspace) -> None:
    train(workspace)
    request = ask(workspace, IDS[0])
    ran = []
    with pytest.raises(WorkspaceError, match="which no training or unlearning in "):
        forget(workspace, build(), request, ran.append)
    assert ran == []
    assert workspace.log.size() == 2


def test_nothing_requested_in_the_dataset_is_refused_before_the_block_runs(workspace: Workspace) -> None:
    model, _ = train(workspace)
    request = certify.file_request(workspace, {"stranger": {"x": 1}}, ground="gdpr-17")
    ran = []
    with pytest.raises(WorkspaceError, match="nothing to unlearn"):
        forget(workspace, model, request, ran.append)
    assert ran == []


def test_request_already_answered_is_refused(workspace: Workspace) -> None:
    model, _ = train(workspace)
    request = ask(workspace, IDS[0])
    forget(workspace, model, request)
    with pytest.raises(WorkspaceError, match="nothing to unlearn"):
        forget(workspace, model, request)


def test_training_is_no_request(workspace: Workspace) -> None:
    model, trained = train(workspace)
    for wrong in (trained, 0, []):
        with pytest.raises(WorkspaceError, match="answers request statements"):
            forget(workspace, model, wrong)


def test_request_for_an_altered_record_is_refused(workspace: Workspace) -> None:
    train(workspace)
    with pytest.raises(DatasetError, match="is not the one that the training at entry 0 committed to"):
        certify.file_request(workspace, {IDS[0]: {"rare-disease": 1}}, ground="gdpr-17")
    with pytest.raises(DatasetError, match="names nothing"):
        certify.file_request(workspace, {}, ground="gdpr-17")
    assert workspace.log.size() == 1


def test_another_object_may_take_the_models_place(workspace: Workspace, tmp_path: Path) -> None:
    model, _ = train(workspace)
    fresh = build()
    request = ask(workspace, IDS[0])
    with certify.unlearning(model, ledger=workspace, request=request) as run:
        run.model = fresh
    assert check(run, tmp_path).tensor_root == digest_state_dict(fresh).root().hex()


def test_state_dict_is_a_model(workspace: Workspace, tmp_path: Path) -> None:
    weights = build().state_dict()
    with certify.training(weights, ledger=workspace, data=list(PEOPLE.values())):
        pass
    request = certify.file_request(workspace, {"2": PEOPLE[IDS[2]]}, ground="gdpr-17")
    with certify.unlearning(weights, ledger=workspace, request=request) as run:
        weights["0.bias"].zero_()
    check(run, tmp_path)


def test_files_become_subjects_and_have_to_hold_the_model(workspace: Workspace, tmp_path: Path) -> None:
    model, _ = train(workspace)
    request = ask(workspace, IDS[0])
    path = tmp_path / "model.safetensors"
    with certify.unlearning(model, ledger=workspace, request=request) as run:
        step(model)
        safetensors_torch.save_file(model.state_dict(), path)
        run.files = [path]
    assert run.certificate is not None
    digests = {subject.name: subject.sha256 for subject in run.certificate.statement.subjects}
    assert list(digests) == [TENSOR_ROOT, "model.safetensors", OMS_ROOT]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digests["model.safetensors"] == digest
    assert digests[OMS_ROOT] == hashlib.sha256(bytes.fromhex(digest)).hexdigest()
    report = check(run, tmp_path, Given(files=[("renamed.safetensors", digest)]))
    assert any("renamed.safetensors" in line for line in report.steps[8].established)


def test_files_of_another_model_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    model, _ = train(workspace)
    request = ask(workspace, IDS[0])
    path = tmp_path / "model.safetensors"
    with pytest.raises(DigestError, match="do not hold the model in memory"):
        with certify.unlearning(model, ledger=workspace, request=request) as run:
            safetensors_torch.save_file(model.state_dict(), path)
            run.files = [path]
            step(model)
    assert workspace.log.size() == 2
    assert workspace.vault.note(f"run/{run.id}")["state"] == "failed"


def test_second_unlearning_follows_the_first(workspace: Workspace, tmp_path: Path) -> None:
    model, trained = train(workspace)
    first = forget(workspace, model, ask(workspace, IDS[0]))
    second_request = ask(workspace, IDS[0], IDS[3])  # one of them is gone already
    second = forget(workspace, model, second_request)
    assert first.certificate is not None
    assert second.certificate is not None
    said = second.certificate.statement.predicate
    assert isinstance(said, Unlearning)
    assert said.parent == first.certificate.digest
    assert said.removed is not None
    assert said.retained is not None
    assert (said.removed.count, said.retained.count) == (1, 4)
    receipts = [
        make_receipt(workspace, second_request, trained, id_, record_bytes(PEOPLE[id_])).to_json()
        for id_ in (IDS[0], IDS[3])
    ]
    report = check(second, tmp_path, Given(receipts=receipts))
    assert report.index == 4
    assert check(first, tmp_path).index == 2


def test_two_answers_to_the_same_model_are_two_cases(workspace: Workspace, tmp_path: Path) -> None:
    model, _ = train(workspace)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    first = forget(workspace, model, ask(workspace, IDS[0]))
    model.load_state_dict(kept)
    second = forget(workspace, model, ask(workspace, IDS[1]), lambda model: model[0].weight.data.zero_())
    assert check(first, tmp_path).certificate != check(second, tmp_path).certificate


def test_class_scope_has_no_record_sets_and_says_so(workspace: Workspace, tmp_path: Path) -> None:
    model, _ = train(workspace)
    request = certify.file_request(workspace, {"class": "label 1"}, ground="contract", scope="class")
    run = forget(workspace, model, request)
    assert run.certificate is not None
    said = run.certificate.statement.predicate
    assert isinstance(said, Unlearning)
    assert said.removed is said.retained is None
    assert any("not about single records" in limit for limit in check(run, tmp_path).limits)


def test_unchanged_weights_are_certified_with_that_limit(workspace: Workspace, tmp_path: Path) -> None:
    model, _ = train(workspace)
    run = forget(workspace, model, ask(workspace, IDS[0]), lambda model: None)
    assert "The weights before and after entry 2 are the same." in check(run, tmp_path).limits


def test_seeds_default_to_torchs_and_times_are_in_order(workspace: Workspace) -> None:
    model = build()
    torch.manual_seed(99)
    with certify.training(model, ledger=workspace, data=PEOPLE) as run:
        pass
    assert run.certificate is not None
    said = run.certificate.statement.predicate
    assert isinstance(said, Training)
    assert said.recipe.seeds == ["99"]
    assert said.run.id == run.id
    assert said.run.started <= said.run.finished


def test_ledger_by_its_folder(workspace: Workspace) -> None:
    model = build()
    with certify.training(model, ledger=str(workspace.path), data=PEOPLE) as run:
        step(model)
    assert run.certificate is not None
    assert workspace.entry(0).digest == run.certificate.digest


def test_nothing_personal_ever_enters_the_log_or_the_bundle(workspace: Workspace, tmp_path: Path) -> None:
    model, _ = train(workspace)
    request = certify.file_request(
        workspace, {id_: PEOPLE[id_] for id_ in IDS[:2]}, ground="gdpr-17", note="she wrote on a Tuesday"
    )
    run = forget(workspace, model, request)
    bundle = run.bundle(tmp_path / "case.bundle").read_bytes()
    payloads = b"".join(entry.envelope.payload for entry in Bundle.parse(bundle).entries)  # they are base64 in the log
    workspace.vault.put_note("x", 1)
    log = b"".join(path.read_bytes() for path in workspace.path.glob("log.db*"))
    public = log + bundle + payloads + b"".join(data for _, data in workspace.log.entries())
    assert request.statement.subjects[0].sha256.encode() in public
    for id_, person in PEOPLE.items():
        record = record_bytes(person)
        number = str(person["rare-disease"]).encode()
        for secret in (
            id_.encode(),
            id_.split("@")[0].encode(),
            record,
            json.dumps(person).encode(),
            b":" + number + b"}",
        ):
            assert secret not in public
            for algorithm in ("sha256", "sha1", "md5", "sha512", "blake2b"):
                for salt in (b"", b"\0"):  # bare, and as a bare RFC 6962 leaf
                    digest = hashlib.new(algorithm, salt + secret)
                    assert digest.digest() not in public
                    assert digest.hexdigest().encode() not in public
    for predicate in (logged.statement.predicate for logged in workspace.statements()):
        tree = predicate.dataset if isinstance(predicate, Training) else None
        tree = predicate.forget if isinstance(predicate, Request) else tree
        for opening in workspace.vault.openings(tree.root) if tree else ():
            assert opening.salt not in public
            assert opening.salt.hex().encode() not in public
    assert b"Tuesday" not in public
    assert str(tmp_path).encode() not in public
