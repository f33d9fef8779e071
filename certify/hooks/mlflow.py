"""A certificate beside a run or a registered model of MLflow: the case as an artifact, its digests as tags.

::

    with mlflow.start_run():
        with certify.unlearning(model, ledger="ledger", request=1) as run:
            ...
        log_certificate(run)
    log_certificate(run, run_id="…", version=("clinic-classifier", 3))       # a registered model version too

Tags, on the run and on the version (``certify verify`` of the artifact says whether any of it is so)::

    certify.certificate    SHA-256 of the signed statement
    certify.entry          its place in the log certify.log
    certify.tensor-root    of the model that it is about
    certify.grade          attested (unverified here)

Anybody who may write to the tracking server may write such tags: they help to find a certificate, and show nothing.
"""

import tempfile
from pathlib import Path
from typing import Any

from certify.errors import WorkspaceError
from certify.hooks.extras import needed
from certify.hooks.run import Attempt
from certify.hooks.torch import HookRun
from certify.statement import Unlearning

UNVERIFIED = "attested (unverified here)"
FOLDER = "certificates"


def log_certificate(
    run: HookRun | Attempt | Any,
    *,
    run_id: str | None = None,
    version: tuple[str, str | int] | None = None,
    client: Any = None,
) -> dict[str, str]:
    """Log the certificate of ``run`` (of a callback: the callback) to MLflow's run ``run_id``, by default the active one.

    A training has no case of its own: its signed statement is the artifact. Returns the tags. Raises WorkspaceError before there
    is a certificate, or without a run, and MissingExtra without MLflow.
    """
    mlflow = needed("mlflow", "mlflow")
    made: HookRun | None = run if isinstance(run, HookRun) else run.run
    if made is None or made.certificate is None:
        raise WorkspaceError("no certificate has been issued: the run isn't over, or it failed")
    if run_id is None:
        active = mlflow.active_run()
        if active is None:
            raise WorkspaceError("expected an active MLflow run, or its run_id: mlflow.start_run() begins one")
        run_id = active.info.run_id
    client = client or mlflow.MlflowClient()
    logged = made.certificate
    is_case = isinstance(logged.statement.predicate, Unlearning)
    tags = {
        "certify.certificate": logged.digest,
        "certify.entry": str(logged.index),
        "certify.log": made.workspace.origin,
        "certify.tensor-root": logged.statement.subjects[0].sha256,
        "certify.grade": UNVERIFIED,
    }
    with tempfile.TemporaryDirectory() as folder:
        name = f"{logged.digest[:16]}.{'bundle' if is_case else 'dsse.json'}"
        path = Path(folder) / name
        if is_case:
            made.bundle(path)
        else:
            path.write_bytes(logged.envelope.data)
        client.log_artifact(run_id, str(path), FOLDER)
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
        if version is not None:
            client.set_model_version_tag(version[0], str(version[1]), key, value)
    return tags
