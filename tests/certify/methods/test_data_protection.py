"""Data that was transformed before training: recorded as preventive, and nothing more."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import certify  # noqa: E402
from certify.dataset import verify_opening  # noqa: E402
from certify.errors import StatementError, WorkspaceError  # noqa: E402
from certify.hooks.torch import HookRun  # noqa: E402
from certify.methods.data_protection import DataProtection  # noqa: E402
from certify.records import records_of  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402

PLAIN = {f"image {number}": [number, 0.0] for number in range(6)}
CLOAKED = {name: [value[0], 0.25] for name, value in PLAIN.items() if name < "image 3"}


def case_of(workspace: Workspace, **fields: Any) -> HookRun:
    model = torch.nn.Linear(2, 2)
    data = {**PLAIN, **CLOAKED}
    detail = DataProtection(
        label="preventive",
        tool="fawkes/v1",
        originals=workspace.vault.put_records(records_of({name: PLAIN[name] for name in CLOAKED})),
        transformed=workspace.vault.put_records(records_of(CLOAKED)),
        limit=0.3,
        limit_found=0.25,
        budget=0.2,
        budget_found=0.1,
    )
    with certify.training(model, ledger=workspace, data=data, method="data-protection/v1") as run:
        run.detail = msgspec.structs.replace(detail, **fields)
    request = certify.file_request(workspace, {"image 1": data["image 1"]}, ground="gdpr-17")
    with certify.unlearning(model, ledger=workspace, request=request, method="retraining") as run:
        model.weight.data += 1
    return run


def test_certificate_says_that_it_is_preventive(workspace: Workspace, tmp_path: Path) -> None:
    run = case_of(workspace)
    report = verify(run.bundle(tmp_path / "case.bundle").read_bytes(), Trust.load(workspace.path / "trust.toml"))
    assert any(
        "3 of 6 records were transformed by fawkes/v1 before training, by the operator's word; this is preventive"
        in line
        for line in report.steps[5].established
    )


def test_both_forms_of_a_record_can_be_opened(workspace: Workspace) -> None:
    from certify.dataset import Commitments, open_record

    case_of(workspace)
    training = next(iter(workspace.of_kind("training"))).statement.predicate
    detail = training.detail  # type: ignore[union-attr]
    assert isinstance(detail, DataProtection)
    for tree, records in ((detail.originals, PLAIN), (detail.transformed, CLOAKED)):
        openings = workspace.vault.openings(tree.root)
        salts = b"".join(one.salt for one in sorted(openings, key=lambda one: one.position))
        commitments = Commitments(salts, workspace.vault.leaves(tree.root))
        place = next(one.position for one in openings if one.record_id == "image 1")
        (_, record), *_ = records_of({"image 1": records["image 1"]})
        verify_opening(open_record(commitments, place), record, bytes.fromhex(tree.root), count=tree.count)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"limit_found": 0.4}, r"found 0\.4, more than its limit of 0\.3"),
        ({"budget_found": 0.21}, r"found 0\.21, more than its budget of 0\.2"),
        ({"originals": msgspec.UNSET}, "the same root"),
        ({"transformed": ("00" * 32, 4)}, "transformed 3 records into 4"),
        ({"transformed": ("00" * 32, 7), "originals": ("11" * 32, 7)}, "transformed 7 records, it was trained on 6"),
    ],
)
def test_figures_that_do_not_fit_are_refused(workspace: Workspace, fields: dict[str, Any], why: str) -> None:
    from certify.fields import Tree

    changed = {name: Tree(*value) if isinstance(value, tuple) else value for name, value in fields.items()}
    if changed.get("originals") is msgspec.UNSET:
        changed = {name: Tree("00" * 32, 3) for name in ("originals", "transformed")}
    with pytest.raises(WorkspaceError, match=why):
        case_of(workspace, **changed)


def test_protection_cannot_be_called_anything_but_preventive(workspace: Workspace) -> None:
    with pytest.raises(StatementError, match="Invalid enum value 'unlearning'"):
        case_of(workspace, label="unlearning")
