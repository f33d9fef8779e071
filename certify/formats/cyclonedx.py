"""CycloneDX 1.7 ML-BOM of an unlearned model, with its certificate as an external reference (https://cyclonedx.org/docs/1.7/json).

::

    {"bomFormat":"CycloneDX","specVersion":"1.7","metadata":{"component":{"type":"machine-learning-model",
      "hashes":[{"alg":"SHA-256","content":"<tensor root>"}], "components":[{"type":"file","name":"model.safetensors",…}],
      "externalReferences":[{"type":"attestation","url":"urn:unlearning-ledger:certificate:…","hashes":[…]}],
      "pedigree":{"ancestors":[{"type":"machine-learning-model","hashes":[…]}]}, …}}}

A model's hash is its tensor root, and a property says so; files have the SHA-256 of their bytes. The serial number is made from
the certificate's digest, and there is no time of writing, so that the same case gives the same file.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID

from certify.formats.document import Json, pretty
from certify.formats.source import Source
from certify.formats.text import line
from certify.statement import PREFIX, TENSOR_ROOT

SCHEMA = "http://cyclonedx.org/schema/bom-1.7.schema.json"
_PROPERTY = "unlearning-ledger:"


def bom(source: Source, *, name: str | None = None, url: str | None = None) -> bytes:
    """The BOM. ``name``: what the model is called, by default after its tensor root; ``url``: where the bundle can be had."""
    return pretty(
        {
            "$schema": SCHEMA,
            "bomFormat": "CycloneDX",
            "specVersion": "1.7",
            "serialNumber": f"urn:uuid:{_uuid(source, name, url)}",
            "version": 1,
            "metadata": {"component": _model(source, name, url)},
            "components": [_data(source)],
            "dependencies": [
                {"ref": "model", "dependsOn": ["parent-model", "training-data"]},
                {"ref": "parent-model"},
                {"ref": "training-data"},
            ],
        }
    )


def _model(source: Source, name: str | None, url: str | None) -> Json:
    certificate = source.certificate
    return {
        "bom-ref": "model",
        "type": "machine-learning-model",
        "name": line(name) if name else f"model {certificate.post.tensor_root[:16]}",
        "description": f"As its certificate states: made from an earlier model in answer to {source.summary}.",
        "hashes": _hashes(certificate.post.tensor_root),
        "components": [
            {"bom-ref": f"file-{number}", "type": "file", "name": line(file), "hashes": _hashes(digest)}
            for number, (file, digest) in enumerate(sorted(source.files.items()), 1)
        ],
        "pedigree": {"ancestors": [_parent(source)], "notes": "The ancestor is the model before the unlearning."},
        "externalReferences": _references(source, url),
        "modelCard": {"considerations": {"technicalLimitations": [line(limit) for limit in source.limits]}},
        "properties": _properties(_stated(source)),
    }


def _parent(source: Source) -> Json:
    pre = source.certificate.pre
    return {
        "bom-ref": "parent-model",
        "type": "machine-learning-model",
        "name": f"model {pre.tensor_root[:16]}",
        "hashes": _hashes(pre.tensor_root),
        "properties": _properties({"hash": _HASH, "statement": source.certificate.parent}),
    }


def _data(source: Source) -> Json:
    dataset = source.training.dataset
    return {
        "bom-ref": "training-data",
        "type": "data",
        "name": f"dataset {dataset.root[:16]}",
        "description": "Training data, as a commitment to salted records; the model before was trained on it.",
        "hashes": _hashes(dataset.root),
        "properties": _properties(
            {"hash": "dataset root, RFC 6962 over salted records, not of a file", "records": str(dataset.count)}
        ),
    }


def _references(source: Source, url: str | None) -> list[Json]:
    references: list[Json] = [
        {
            "type": "attestation",
            "url": f"{PREFIX}certificate:{source.digest}",
            "comment": f"The certificate, unlearning/v1; hash of its DSSE envelope. {source.standing.capitalize()}.",
            "hashes": _hashes(source.digest),
        }
    ]
    if url is not None:
        comment = "The case, to be checked with 'certify verify' and a trust file of one's own."
        hashes = _hashes(sha256(source.data).hexdigest())
        references.append({"type": "evidence", "url": url, "comment": comment, "hashes": hashes})
    return references


_HASH = f"{TENSOR_ROOT}, a Merkle root over the tensors, not of a file"


def _stated(source: Source) -> dict[str, str]:
    certificate = source.certificate
    stated = {
        "hash": _HASH,
        "log": line(certificate.log),
        "method": line(certificate.method.name),
        "verification": source.standing,
    }
    if source.verified is not None:
        stated["grade"] = source.verified.report.grade
    stated |= {
        f"metric:{line(name)}": f"{value:g} (the operator's figure)" for name, value in certificate.metrics.items()
    }
    return stated


def _properties(values: Mapping[str, str]) -> list[Json]:
    return [{"name": _PROPERTY + name, "value": value} for name, value in sorted(values.items())]


def _hashes(digest: str) -> list[Json]:
    return [{"alg": "SHA-256", "content": digest}]


def _uuid(source: Source, *more: Any) -> UUID:
    """A hash over what the BOM says, in the form of a random UUID: another BOM has another number."""
    text = "\0".join([source.digest, source.standing, *(f"{value}" for value in more)])
    return UUID(bytes=sha256(text.encode()).digest()[:16], version=4)
