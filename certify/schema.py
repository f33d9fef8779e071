"""JSON Schemas of the statements (draft 2020-12), one for each predicate type, made from the records in certify.statement.

They are in certify/schemas; ``python -m certify.schema`` writes them anew. A schema is necessary and not sufficient: canonical
form, times in order and subjects that fit are checked by :meth:`certify.statement.Statement.parse` alone.

>>> schemas()["request"]["$id"]
'urn:unlearning-ledger:request/v1'
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from certify.statement import PREDICATES, PREFIX, STATEMENT_TYPE, Subject

FOLDER = Path(__file__).parent / "schemas"


def schemas() -> dict[str, dict[str, Any]]:
    """``training``, ``request``, ``unlearning`` and ``key``: the schema of the whole statement."""
    return {
        type_.removeprefix(PREFIX).removesuffix("/v1"): _schema(type_, predicate)
        for type_, predicate in PREDICATES.items()
    }


def files() -> dict[str, bytes]:
    """File name to contents."""
    return {
        f"{kind}.v1.json": (json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
        for kind, schema in schemas().items()
    }


def write(folder: Path = FOLDER) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in files().items():
        (folder / name).write_bytes(data)


def _schema(type_: str, predicate: type[Any]) -> dict[str, Any]:
    statement = msgspec.defstruct(
        f"{predicate.__name__}Statement",
        [
            ("_type", Literal[STATEMENT_TYPE]),
            ("subject", Annotated[list[Subject], Meta(min_length=1)]),
            ("predicateType", Literal[type_]),
            ("predicate", predicate),
        ],
        forbid_unknown_fields=True,
    )
    (root,), definitions = msgspec.json.schema_components([statement], ref_template="#/$defs/{name}")
    whole = definitions.pop(root["$ref"].removeprefix("#/$defs/"))
    for definition in definitions.values():
        for name, field in definition.get("properties", {}).items():
            definition["properties"][name] = _without_default(field)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": type_, "title": f"{type_} statement"}
    return {**whole, **head, "$defs": definitions}


def _without_default(field: dict[str, Any]) -> dict[str, Any]:
    """A field that has its default value is absent in canonical form: it is neither null nor empty."""
    match field:
        case {"anyOf": [kind, {"type": "null"}], "default": None}:
            return dict(kind)
        case {"type": "array", "default": []}:
            return {**field, "minItems": 1}
        case {"type": "object", "default": {}}:
            return {**field, "minProperties": 1}
    return field


if __name__ == "__main__":
    write()
