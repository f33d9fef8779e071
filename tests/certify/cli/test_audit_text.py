"""certify audit of a causal language model: a transformer through the three arms, with the text probe beside."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from certify import audit_subject
from certify.audit import shadows
from tests.certify.cli.test_audit import call

ADAPTER = Path(__file__).parents[2] / "text_adapter.py"
WHO = ("--key", "auditor.pem", "--adapter", "adapter.py")
RULES = ("--seed", "2", "--shadows", "4", "--retrained", "4", "--margin", "0.2", "--utility-margin", "0.9")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_transformer_that_forgot_nothing_fails_and_the_text_probe_says_why(tmp_path: Path) -> None:
    shutil.copy(ADAPTER, tmp_path / "adapter.py")
    loaded = audit_subject.load(ADAPTER)
    [made] = shadows.unstack(shadows.train(loaded.subject, [loaded.training], ["original"]))
    for name, moved in (("original", 0.0), ("unlearned", 1e-5)):
        save_file({key: (value + moved).contiguous() for key, value in made.items()}, tmp_path / f"{name}.safetensors")
    lines = [{"id": f"t{place}", "tokens": loaded.record(int(place)).decode()} for place in loaded.training]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ids = [part for place in loaded.records.forget for part in ("--id", f"t{place}")]
    call(tmp_path, "init", "--origin", "press.example/ledger", "--issuer", "Press")
    call(tmp_path, "train-commit", "--data", "texts.jsonl", "-w", "original.safetensors", "--method", "adam")
    call(tmp_path, "request", "--data", "texts.jsonl", *ids)
    weights = ("--pre", "original.safetensors", "--post", "unlearned.safetensors")
    call(tmp_path, "issue", "-r", "1", *weights, "--method", "nothing")
    call(tmp_path, "keygen", "auditor.pem")
    planned = call(tmp_path, "audit", "plan", *WHO, *RULES, "--also", "text:share=0.3", "--also", "relearn:limit=100")
    assert planned["also"] == ["relearn", "text"]
    models = ("--original", "original.safetensors", "--unlearned", "unlearned.safetensors")
    found = call(tmp_path, "audit", "run", *WHO, *models)
    assert found["verdict"] == "FAIL"
    relearn, text = found["probes"]
    assert relearn["figures"]["steps-unlearned"] <= 1
    for score in ("loss", "min-k", "memorised"):
        assert text["figures"][f"{score}-difference-low"] > 0, score
    assert "by the loss of texts: AUC" in text["said"] and "min-k %" in text["said"]
    assert len(text["worst"]) == 10 and text["worst"][0]["value"] > 0
