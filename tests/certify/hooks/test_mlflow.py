"""A certificate in a real MLflow file or database store: tags and an artifact that verifies."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")

import certify  # noqa: E402
from certify.errors import WorkspaceError  # noqa: E402
from certify.hooks.mlflow import log_certificate  # noqa: E402
from certify.state_dict import digest_state_dict  # noqa: E402
from certify.trust import Trust  # noqa: E402
from certify.verifier import verify  # noqa: E402
from certify.workspace import Workspace  # noqa: E402
from tests.certify.hooks.cases import PEOPLE, ask  # noqa: E402


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    return mlflow.MlflowClient()


def test_a_case_and_its_digests_stand_beside_the_run(workspace: Workspace, client: Any, tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    with mlflow.start_run() as tracked:
        with certify.training(model, ledger=workspace, data=PEOPLE) as training:
            with pytest.raises(WorkspaceError, match="no certificate has been issued"):
                log_certificate(training)
        log_certificate(training)
    with certify.unlearning(model, ledger=workspace, request=ask(workspace)) as run:
        torch.nn.init.zeros_(model.bias)
    with pytest.raises(WorkspaceError, match="expected an active MLflow run"):
        log_certificate(run)
    client.create_registered_model("classifier")
    client.create_model_version("classifier", (tmp_path / "anything").as_uri())
    tags = log_certificate(run, run_id=tracked.info.run_id, version=("classifier", 1))

    root = digest_state_dict(model).root().hex()
    assert (tags["certify.grade"], tags["certify.tensor-root"]) == ("attested (unverified here)", root)
    found = client.get_run(tracked.info.run_id).data.tags
    version = client.get_model_version("classifier", "1").tags
    assert tags.items() <= found.items() and tags.items() <= version.items()
    files = [file.path for file in client.list_artifacts(tracked.info.run_id, "certificates")]
    assert sorted(Path(file).suffix for file in files) == [".bundle", ".json"]
    for file in files:
        data = Path(client.download_artifacts(tracked.info.run_id, file)).read_bytes()
        if file.endswith(".bundle"):
            report = verify(data, Trust.load(workspace.path / "trust.toml"))
            assert (report.certificate, report.tensor_root) == (tags["certify.certificate"], root)
        else:
            assert json.loads(data)["payloadType"] == "application/vnd.in-toto+json"
