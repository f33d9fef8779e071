"""Croissant metadata, validated by mlcroissant where it is there, and otherwise for what the format requires."""

import json
import logging
from hashlib import sha256
from pathlib import Path

import pytest

from certify.formats import croissant
from certify.formats.source import Source, read
from tests.cases import DATASET, TREE, Case

NEEDED = "needs mlcroissant (about 95 MB, mostly pandas): pip install mlcroissant"


@pytest.mark.parametrize("options", [{}, {"name": "patients", "url": "https://clinic.example/case.bundle"}])
def test_mlcroissant_accepts_it(
    source: Source, options: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason=NEEDED)
    path = tmp_path / "croissant.json"
    path.write_bytes(croissant.metadata(source, **options))
    with caplog.at_level(logging.WARNING):
        metadata = mlcroissant.Dataset(path).metadata  # raises ValidationError
    assert not metadata.ctx.issues.errors
    assert "is not standard" not in caplog.text  # the context is the format's own
    case, leaves = metadata.distribution
    assert (case.sha256, leaves.sha256) == (sha256(source.data).hexdigest(), sha256(DATASET.leaves).hexdigest())
    assert leaves.contained_in == ["case"]
    assert TREE.root in json.dumps(metadata.to_json()["identifier"])


def test_mlcroissant_would_refuse_something_else(stated: Source, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason=NEEDED)
    fields = json.loads(croissant.metadata(stated))
    del fields["distribution"][0]["encodingFormat"]
    (tmp_path / "croissant.json").write_text(json.dumps(fields))
    with pytest.raises(mlcroissant.ValidationError, match="encodingFormat"):
        mlcroissant.Dataset(tmp_path / "croissant.json")


def test_what_the_format_requires(stated: Source) -> None:
    fields = json.loads(croissant.metadata(stated))
    assert fields["@type"] == "sc:Dataset" and fields["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert fields["identifier"] == {
        "@type": "sc:PropertyValue",
        "propertyID": "urn:unlearning-ledger:dataset-root/v1",
        "value": TREE.root,
    }
    for file in fields["distribution"]:
        assert {"@id", "name", "contentUrl", "encodingFormat", "sha256"} <= set(file)
    assert "not verified here" in fields["description"]


def test_hashes_are_of_the_files_that_they_stand_with(stated: Source, tmp_path: Path) -> None:
    """Whoever follows the contained path finds these very bytes."""
    import zipfile

    fields = json.loads(croissant.metadata(stated))
    (tmp_path / "case.bundle").write_bytes(stated.data)
    case, leaves = fields["distribution"]
    assert case["sha256"] == sha256(stated.data).hexdigest()
    with zipfile.ZipFile(tmp_path / "case.bundle") as archive:
        assert sha256(archive.read(leaves["contentUrl"])).hexdigest() == leaves["sha256"]


def test_a_bundle_without_leaves_distributes_none(case: Case) -> None:
    from dataclasses import replace

    bare = replace(case.bundle(), leaves={}, removed={})
    fields = json.loads(croissant.metadata(read(bare.to_bytes())))
    assert [file["@id"] for file in fields["distribution"]] == ["case"]


def test_the_same_case_gives_the_same_bytes(case: Case, stated: Source) -> None:
    assert croissant.metadata(stated) == croissant.metadata(read(stated.data))
