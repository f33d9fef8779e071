"""Croissant 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html) for training data
of which only commitments are public.

The files that it distributes are the bundle, with its SHA-256, and in it the dataset's leaves, 32 bytes for each salted record;
their RFC 6962 root is the dataset root. The root itself is no file's hash, so it is an identifier::

    "identifier": {"@type": "sc:PropertyValue", "propertyID": "urn:unlearning-ledger:dataset-root/v1", "value": "…"},
    "distribution": [{"@type": "cr:FileObject", "@id": "case", "contentUrl": "case.bundle", "sha256": "…", …},
                     {"@type": "cr:FileObject", "@id": "leaves", "containedIn": {"@id": "case"}, …}]

No record is in it, and none can be made from it.
"""

from hashlib import sha256

from certify.formats.document import Json, pretty
from certify.formats.source import Source
from certify.formats.text import line
from certify.statement import PREFIX

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
DATASET_ROOT = PREFIX + "dataset-root/v1"
CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the format prescribes."""


def metadata(source: Source, *, name: str | None = None, url: str | None = None) -> bytes:
    """The metadata. ``name``: what the data are called; ``url``: where the bundle can be had, by default beside this file."""
    dataset = source.training.dataset
    return pretty(
        {
            "@context": CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": CONFORMS_TO,
            "name": line(name) if name else f"dataset-{dataset.root[:16]}",
            "description": (
                f"Commitments to {dataset.count} training records, salted, in the order that they were committed to. No record "
                f"is in here. Stated by a training statement ({source.chain.training.digest}); {source.standing}."
            ),
            "identifier": {"@type": "sc:PropertyValue", "propertyID": DATASET_ROOT, "value": dataset.root},
            "distribution": _distribution(source, url),
        }
    )


def _distribution(source: Source, url: str | None) -> list[Json]:
    root = source.training.dataset.root
    files: list[Json] = [
        {
            "@type": "cr:FileObject",
            "@id": "case",
            "name": "case",
            "description": "The case's bundle: check it with 'certify verify' and a trust file of one's own.",
            "contentSize": f"{len(source.data)} B",
            "contentUrl": url or line(source.name),
            "encodingFormat": "application/zip",
            "sha256": sha256(source.data).hexdigest(),
        }
    ]
    if (leaves := source.bundle.leaves.get(root)) is not None:
        files.append(
            {
                "@type": "cr:FileObject",
                "@id": "leaves",
                "name": "leaves",
                "description": "The leaves of the tree whose root is the dataset root, 32 bytes each.",
                "contentSize": f"{len(leaves)} B",
                "containedIn": {"@id": "case"},
                "contentUrl": f"datasets/{root}.leaves",
                "encodingFormat": "application/octet-stream",
                "sha256": sha256(leaves).hexdigest(),
            }
        )
    return files
