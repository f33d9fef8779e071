"""OMS signatures, judged by the model_signing package: it accepts ours, and refuses them when anything has changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from certify.errors import MismatchError, StatementKeyError
from certify.files import hash_files
from certify.formats import oms
from certify.formats.source import Source
from certify.keys import SigningKey

KEY = SigningKey.generate()
Verify = Callable[..., None]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "net"
    (folder / "a").mkdir(parents=True)
    save_file({"w": torch.arange(4.0)}, folder / "model.safetensors")
    (folder / "a" / "b").write_bytes(b"first in OMS order")
    (folder / "a-b").write_bytes(b"second")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    verifying = pytest.importorskip(
        "model_signing.verifying", reason="needs model-signing: pip install 'unlearning-ledger[test]'"
    )

    def call(model: Path, signature: bytes, key: SigningKey = KEY, place: Path | None = None) -> None:
        (tmp_path / "key.pem").write_text(key.public.pem())
        place = place or tmp_path / "model.sig"
        place.write_bytes(signature)
        config = verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "key.pem")
        config.verify(model, place)

    return call


def signature(model: Path, **options: Any) -> bytes:
    ignore = options.pop("ignore", ())
    files = hash_files(model, ignore=[*oms.IGNORED, *ignore])
    return oms.signature(model.name, files, KEY, ignore=ignore, single=not model.is_dir())


def test_model_signing_verifies_a_folder(model: Path, verify: Verify) -> None:
    verify(model, signature(model))


def test_model_signing_verifies_one_file(model: Path, verify: Verify) -> None:
    verify(model / "model.safetensors", signature(model / "model.safetensors"))


def test_the_signature_may_lie_in_the_folder(model: Path, verify: Verify) -> None:
    verify(model, signature(model, ignore=["model.sig"]), place=model / "model.sig")


def test_files_left_out_may_change(model: Path, verify: Verify) -> None:
    made = signature(model, ignore=["config.json"])
    (model / "config.json").write_text('{"a": 1}')
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("ref")
    verify(model, made)


@pytest.mark.parametrize("change", ["changed", "missing", "extra", "renamed"])
def test_model_signing_refuses_another_model(model: Path, verify: Verify, change: str) -> None:
    made = signature(model)
    match change:
        case "changed":
            (model / "config.json").write_text("{ }")
        case "missing":
            (model / "a-b").unlink()
        case "extra":
            (model / "more").write_text("")
        case "renamed":
            (model / "a-b").rename(model / "a-c")
    with pytest.raises(ValueError, match="mismatch"):
        verify(model, made)


def test_model_signing_refuses_another_key_and_another_payload(model: Path, verify: Verify) -> None:
    made = signature(model)
    with pytest.raises(ValueError, match="Key mismatch"):
        verify(model, made, SigningKey.generate())
    fields = json.loads(made)
    other = json.loads(oms.signature("other", hash_files(model), KEY))
    fields["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]
    with pytest.raises(Exception):  # noqa: B017 - cryptography's InvalidSignature
        verify(model, json.dumps(fields).encode())


def test_hundreds_of_files_are_no_log_entry(model: Path, verify: Verify) -> None:
    for number in range(600):
        (model / f"shard-{number:05d}").write_bytes(b"%d" % number)
    made = signature(model)
    assert len(made) > 65_535
    verify(model, made)


def test_the_same_files_give_the_same_bytes(model: Path) -> None:
    assert signature(model) == signature(model)


@pytest.mark.parametrize("algorithm", ["ed25519", "ml-dsa-65"])
def test_keys_that_model_signing_does_not_know(model: Path, algorithm: Any) -> None:
    with pytest.raises(StatementKeyError, match="expected ecdsa-p256"):
        oms.signature("net", hash_files(model), SigningKey.generate(algorithm))


def test_only_the_certified_weights_are_signed(stated: Source) -> None:
    certificate = stated.certificate
    oms.check_model(stated, certificate.post.tensor_root)
    with pytest.raises(MismatchError, match="from before the unlearning"):
        oms.check_model(stated, certificate.pre.tensor_root)
    with pytest.raises(MismatchError, match="nothing is signed"):
        oms.check_model(stated, "00" * 32)
    assert not oms.named(stated, {"model.safetensors": bytes(32)})
