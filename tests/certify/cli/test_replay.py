"""certify replay and replay-log, and the gate of certify issue, as operators and replayers call them."""

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from certify.cli import cli
from certify.cli.exit_codes import exit_code
from certify.errors import CertifyError
from tests.certify.cli.conftest import PASSWORD

RECIPE = """
import torch

def train(records, parameters, seeds):
    return {"head": torch.tensor([float(row["age"]) for row in records]), "body": torch.zeros(2)}

def unlearn(records, removed, before):
    before["head"][torch.tensor(removed)] = 0
    return before
"""


def call(folder: Path, *arguments: object, expect: int = 0, text: bool = False) -> Any:
    """In this process, by default in JSON."""
    with chdir(folder):
        command = [*map(str, arguments), *([] if text else ["--json"])]
        done = CliRunner().invoke(cli, command, env={"CERTIFY_PASSWORD": PASSWORD, "CERTIFY_LEDGER": None})
    code = exit_code(done.exception) if isinstance(done.exception, CertifyError) else done.exit_code
    assert code == expect, (arguments, done.output, done.exception)
    if text:
        return done.output
    return json.loads(done.stdout) if done.stdout else str(done.exception)


def weights(path: Path, ages: list[int], forgotten: int | None = None) -> None:
    head = torch.tensor([float(age) for age in ages])
    if forgotten is not None:
        head[forgotten] = 0
    save_file({"head": head, "body": torch.zeros(2)}, path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with a training, two requests, and a certificate for the first, whose weights are not what its recipe gives."""
    folder = tmp_path_factory.mktemp("replay-cli")
    ages = [20 + i for i in range(8)]
    (folder / "people.csv").write_text("id,age\n" + "".join(f"p{i},{age}\n" for i, age in enumerate(ages)))
    (folder / "recipe.py").write_text(RECIPE)
    weights(folder / "before.safetensors", ages)
    weights(folder / "wrong.safetensors", ages, forgotten=4)
    call(folder, "init", "--origin", "clinic.example/ledger", "--issuer", "Clinic")
    how = ("--method", "own", "--recipe", "recipe.py")
    call(folder, "train-commit", "--data", "people.csv", "-w", "before.safetensors", *how)
    call(folder, "request", "--data", "people.csv", "--id", "p3")
    call(folder, "issue", "-r", 1, "--pre", "before.safetensors", "--post", "wrong.safetensors", *how)
    call(folder, "bundle")
    call(folder, "keygen", "replayer.pem")
    call(folder, "audit", "salts", "-o", "people.salts")
    public = (folder / "replayer.pem.pub").read_text()
    table = f'\n[[replayer]]\nname = "Example Replays"\npublic_key = """\n{public}"""\n'
    (folder / "trust.toml").write_text((folder / "ledger" / "trust.toml").read_text() + table)
    return folder


@pytest.fixture
def folder(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "work"))


REPLAY = ("replay", "case.bundle", "--data", "people.csv", "--recipe", "recipe.py", "--key", "replayer.pem")


def test_replay_that_differs_is_signed_logged_and_refused(folder: Path) -> None:
    """From the replayer, by way of the operator, to a regulator."""
    told = call(folder, *REPLAY, "--trust", "trust.toml", "--salts", "people.salts", expect=61, text=True)
    assert "DIFFERENT: 1 tensors are not the certificate's" in told
    assert "it names this recipe" in told and "those committed to at training" in told
    logged = call(folder, "replay-log", "replay.dsse.json", "--replayer", "replayer.pem.pub")
    assert logged[0]["entry"] == 3 and logged[0]["checkedSigner"]
    call(folder, "bundle", "-o", "replayed.bundle")
    assert "FAILED REPLAY" in call(folder, "verify", "replayed.bundle", "-t", "trust.toml", expect=61)
    told = call(folder, "verify", "replayed.bundle", "-t", "trust.toml", "--allow-failed-replay", text=True)
    assert "AUTHENTIC  grade: attested" in told and "FAILED REPLAY  different by Example Replays" in told
    call(folder, "report", "replayed.bundle", "-t", "trust.toml", expect=61)
    page = (folder / "replayed.html").read_text()
    assert "FAILED REPLAY" in page and "the weights are not shown to follow from the recipe" in page
    call(folder, "report", "replayed.bundle", "-t", "trust.toml", "--allow-failed-replay")
    page = (folder / "replayed.html").read_text()
    assert "FAILED REPLAY" in page and "head" in page and "--allow-failed-replay" in page
    value = call(folder, "show", "replay.dsse.json")
    assert value["content"]["predicate"]["before"] == "trained"


def test_what_is_not_the_certificates_is_refused_before_it_runs(folder: Path) -> None:
    (folder / "other.py").write_text(RECIPE + "\n")
    others = ("replay", "case.bundle", "--data", "people.csv", "--recipe", "other.py", "--key", "replayer.pem")
    assert "the certificate names" in call(folder, *others, expect=19)
    (folder / "few.csv").write_text("id,age\np1,20\n")
    few = ("replay", "case.bundle", "--data", "few.csv", "--recipe", "recipe.py", "--key", "replayer.pem")
    assert "expected 8, or the 7" in call(folder, *few, expect=19)
    assert "tensor root" in call(folder, *REPLAY, "--before", "wrong.safetensors", expect=19)
    (folder / "replay.dsse.json").write_text("{}")
    assert "exists" in call(folder, *REPLAY, expect=3)
    call(folder, "init", "other", "--origin", "other.example/ledger", "--issuer", "Clinic")
    (folder / "replay.dsse.json").unlink()
    assert "not one of the trusted" in call(folder, *REPLAY, "--trust", "other/trust.toml", expect=22)


def test_operator_cannot_log_its_own_replay(folder: Path) -> None:
    from certify import replay
    from certify.bundle import Bundle
    from certify.statement import Replay, Run
    from certify.times import format_time, now
    from certify.workspace import Workspace

    about = replay.target(Bundle.parse((folder / "case.bundle").read_bytes()))
    moment = format_time(now())
    certificate = about.certificate
    said = Replay(
        certificate.log,
        Run("0" * 32, moment, moment),
        about.case.digest,
        "ab" * 32,
        "identical",
        certificate.post,
        certificate.environment,
        "none",
    )
    with Workspace(folder / "ledger", PASSWORD.encode()) as workspace:
        envelope = replay.signed(workspace.issuer_key, said)
    (folder / "own.dsse.json").write_bytes(envelope.data)
    assert "an issuer signed this" in call(folder, "replay-log", "own.dsse.json", expect=7)
    assert "expected a replay" in call(folder, "replay-log", _certificate(folder), expect=7)


def _certificate(folder: Path) -> Path:
    from certify.workspace import Workspace

    with Workspace(folder / "ledger", PASSWORD.encode()) as workspace:
        (folder / "certificate.json").write_bytes(workspace.entry(2).envelope.data)
    return folder / "certificate.json"


ISSUE = ("issue", "-r", 2, "--pre", "before.safetensors", "--post", "after.safetensors", "--method", "own")


@pytest.fixture
def asked(folder: Path) -> Path:
    """A second ledger, with a request that is not answered yet."""
    (folder / "second").mkdir()
    for name in ("people.csv", "before.safetensors", "recipe.py"):
        shutil.copy(folder / name, folder / "second" / name)
    second = folder / "second"
    weights(second / "after.safetensors", [20 + i for i in range(8)], forgotten=3)
    call(second, "init", "--origin", "clinic.example/ledger", "--issuer", "Clinic")
    call(second, "train-commit", "--data", "people.csv", "-w", "before.safetensors", "--method", "own")
    call(second, "request", "--data", "people.csv", "--id", "p7")
    call(second, "request", "--data", "people.csv", "--id", "p3")
    return second


def test_gate_of_issue(asked: Path) -> None:
    gate = ("--utility-before", 0.95, "--utility-after", 0.9)
    assert "fell from 0.95 to 0.9, expected 0.92 or more" in call(asked, *ISSUE, *gate, "--floor", 0.92, expect=60)
    assert "expected 0.93 or more" in call(asked, *ISSUE, *gate, "--floor", 0.5, "--drop", 0.02, expect=60)
    for wrong in (gate, ("--floor", 0.5), (*gate[:2], "--floor", 0.5), (*gate[:3], "nan", "--floor", 0.5)):
        assert "a gate takes numbers" in call(asked, *ISSUE, *wrong, expect=3)
    assert call(asked, "log", "checkpoint")["size"] == 3
    value = call(asked, *ISSUE, *gate, "--drop", 0.1, "--utility-metric", "test accuracy")
    assert value["utility"]["floor"] == pytest.approx(0.85)
    call(asked, "bundle")
    told = call(asked, "verify", "case.bundle", "-t", "ledger/trust.toml", text=True)
    assert "by the operator's word, test accuracy was 0.95 before and 0.9 after, of at least 0.85" in told
    call(asked, "report", "case.bundle", "-t", "ledger/trust.toml")
    page = (asked / "case.html").read_text()
    assert "test accuracy, before" in page and "at least 0.85 was set" in page
