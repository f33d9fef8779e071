"""SLSA provenance v1 (https://slsa.dev/spec/v1.0/provenance) of an unlearned model, built from the model before.

::

    "buildDefinition": {"buildType": "urn:unlearning-ledger:unlearning/v1",
                        "externalParameters": {"method": "sisa-retrain", …},
                        "resolvedDependencies": [{"name": "pre-model", "digest": {"sha256": "…"}, …}, {"name": "request", …}, …]},
    "runDetails": {"builder": {"id": "urn:unlearning-ledger:key:<key id>"}, "metadata": {"invocationId": …, "startedOn": …, …}}

All of it is the operator's word, as in the certificate, which is the byproduct: no SLSA level follows. The builder is whoever
holds the key that signed the certificate. Digests of models and data are Merkle roots, as their annotations say.
"""

from typing import Any

import msgspec

from certify.formats.document import Json, compact, pretty, signed
from certify.formats.sigstore import keyid_of
from certify.formats.source import Source
from certify.keys import StatementSigner
from certify.statement import PREFIX, STATEMENT_TYPE, TENSOR_ROOT

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = PREFIX + "unlearning/v1"
LABEL = "unlearningLedger_status"
"""SLSA's form for a field of somebody's own: vendor, underscore, name."""
UNSIGNED = "unsigned: a rendering of the certificate by whoever wrote this file, not a statement of the operator"
SIGNED = "signed by the issuer's key of the ledger that the certificate is in; not an entry of the log"
STATED = "as the operator stated it in the certificate; no SLSA level follows from it"


def unsigned(source: Source) -> bytes:
    """The statement alone, which says that nobody signed it."""
    return pretty(statement(source, status=UNSIGNED))


def provenance(source: Source, key: StatementSigner) -> bytes:
    """The statement in a DSSE envelope, signed now."""
    return pretty(signed(compact(statement(source, status=SIGNED)), key))


def statement(source: Source, *, status: str) -> Json:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": subject.name, "digest": {"sha256": subject.sha256}}
            for subject in source.chain.case.statement.subjects
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": _definition(source),
            "runDetails": _run(source),
            LABEL: {"document": status, "content": STATED, "case": source.standing},
        },
    }


def _definition(source: Source) -> Json:
    certificate = source.certificate
    method = msgspec.to_builtins(certificate.method)
    external: dict[str, Any] = {
        "method": method["name"],
        "parameters": method.get("parameters", {}),
        "seeds": method.get("seeds", []),
        "requests": list(certificate.requests),
    }
    pre, data = certificate.pre, source.training.dataset
    dependencies = [
        _resource("pre-model", pre.tensor_root, TENSOR_ROOT, bytes=pre.bytes, tensors=pre.tensors),
        _resource("pre-model-statement", certificate.parent, "sha256 of its DSSE envelope"),
        *(_resource("request", link.digest, "sha256 of its DSSE envelope") for link, _ in source.requests),
        _resource("training-data", data.root, "dataset root, RFC 6962 over salted records", records=data.count),
    ]
    if (retained := certificate.retained) is not None:
        what = "root over the training data's leaves that were retained, RFC 6962"
        dependencies.append(_resource("retained-data", retained.root, what, records=retained.count))
    if certificate.method.recipe is not None:
        dependencies.append(_resource("recipe", certificate.method.recipe, "sha256 of the file"))
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": external,
        "internalParameters": {"environment": msgspec.to_builtins(certificate.environment)},
        "resolvedDependencies": dependencies,
    }


def _run(source: Source) -> Json:
    run = source.certificate.run
    return {
        "builder": {"id": f"{PREFIX}key:{keyid_of(source.envelope)}"},
        "metadata": {"invocationId": run.id, "startedOn": run.started, "finishedOn": run.finished},
        "byproducts": [_resource("certificate", source.digest, "sha256 of its DSSE envelope")],
    }


def _resource(name: str, digest: str, what: str, **annotations: Any) -> Json:
    return {"name": name, "digest": {"sha256": digest}, "annotations": {"digestOf": what, **annotations}}
