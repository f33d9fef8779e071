"""Certificates by environment variables: scripts that know nothing of them, run as their users would."""

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from certify.errors import WorkspaceError  # noqa: E402
from certify.hooks.activate import Settings, lightning_callbacks  # noqa: E402
from certify.records import read_records  # noqa: E402
from certify.request import file_request  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402

ROWS = "id,x,y\n" + "".join(f"p{i},{i},{i % 2}\n" for i in range(6))

LIGHTNING = """
    import torch, lightning.pytorch as lightning

    class Network(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Linear(3, 2)

        def training_step(self, batch, index):
            return self.model(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    network = Network()
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    lightning.Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(network, torch.utils.data.DataLoader(torch.ones(6, 3)))
    torch.save(network.model.state_dict(), "model.pt")
"""
TRAINER = """
    import sys, torch
    from transformers import Trainer, TrainingArguments

    class Network(torch.nn.Linear):
        def forward(self, x):
            return {"loss": -super().forward(x).square().mean()}

    network = Network(3, 2)
    network.load_state_dict(torch.load("model.pt"))
    options = dict(max_steps=2, report_to="none", disable_tqdm=True, use_cpu=True, save_strategy="no")
    for _ in range(2):
        Trainer(network, TrainingArguments("out", **options), train_dataset=[{"x": torch.ones(3)}] * 6).train()
"""


@pytest.fixture
def folder(workspace: Workspace, tmp_path: Path) -> Path:
    (tmp_path / "patients.csv").write_text(ROWS)
    return tmp_path


def run(folder: Path, script: str, *arguments: str, module: bool = True, **variables: str) -> tuple[int, str]:
    (folder / "train.py").write_text(textwrap.dedent(script))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTIFY_")}
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[3])])
    environment |= {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "CERTIFY_LEDGER": "ledger", **variables}
    command = [sys.executable, *(["-m", "certify.hooks.activate"] if module else []), "train.py", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    return done.returncode, done.stderr


@pytest.mark.skipif(not find_spec("lightning"), reason="lightning is not installed")
@pytest.mark.skipif(not find_spec("transformers"), reason="transformers is not installed")
def test_scripts_that_know_nothing_of_it_train_and_forget(workspace: Workspace, folder: Path) -> None:
    """Lightning finds the callback by the package's entry point."""
    code, said = run(folder, LIGHTNING, module=False, CERTIFY_DATA="patients.csv", CERTIFY_PART="model")
    assert code == 0, said
    assert [logged.statement.kind for logged in workspace.statements()] == ["training"]

    gone = dict(read_records(folder / "patients.csv"))["p2"]
    file_request(workspace, {"p2": gone}, ground="gdpr-17")
    code, said = run(folder, TRAINER, CERTIFY_REQUEST="1", CERTIFY_BUNDLE="case.bundle")
    assert code == WorkspaceError.exit_code and "a second training began, and the environment asks for one's" in said
    report = verify((folder / "case.bundle").read_bytes(), Trust.load(workspace.path / "trust.toml"))
    assert (report.grade, report.index, workspace.log.size()) == ("attested", 2, 3)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"REQUEST": "1", "DATA": "patients.csv", "LEDGER": "ledger"}, "got both"),
        ({"REQUEST": "1"}, "CERTIFY_REQUEST is set, but not CERTIFY_LEDGER"),
        ({"DATA": "nowhere.csv", "LEDGER": "ledger"}, "expected a file of records"),
        ({"DATA": __file__, "LEDGER": "ledger", "BUNDLE": "case.bundle"}, "a training has no case"),
    ],
)
def test_what_contradicts_itself_is_an_error(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LEDGER", "REQUEST", "DATA", "BUNDLE"):
        monkeypatch.delenv(f"CERTIFY_{name}", raising=False)
    monkeypatch.setenv("CERTIFY_LEDGER", "ledger")
    assert lightning_callbacks() == []  # the ledger alone asks for nothing
    monkeypatch.delenv("CERTIFY_LEDGER")
    for name, value in variables.items():
        monkeypatch.setenv(f"CERTIFY_{name}", value)
    with pytest.raises(WorkspaceError, match=words):
        Settings.read()


def test_nothing_to_certify_is_an_error(folder: Path) -> None:
    code, said = run(folder, "")
    assert code == WorkspaceError.exit_code and said.startswith("error: expected CERTIFY_REQUEST or CERTIFY_DATA")
