"""What :mod:`ledger.server` speaks, as OpenAPI 3.1: ``GET /openapi.json``. Written by hand, and held to by the tests.

One thing OpenAPI cannot say: tile numbers above 999 have more groups, each a path segment, like ``tile/0/x001/x234/067``.
"""

from typing import Any

from ledger.tiles import MAX_ENTRY_SIZE

PROOF_TYPE = "text/x.tlog-proof"
NOTE_TYPE = "text/plain; charset=utf-8"
BYTES_TYPE = "application/octet-stream"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
JSON_TYPE = "application/json"

Json = dict[str, Any]

_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_NUMBER: Json = {"type": "string", "pattern": "^[0-9]{3}$"}
_GROUP: Json = {"type": "string", "pattern": "^x[0-9]{3}$"}
_WIDTH: Json = {"type": "integer", "minimum": 1, "maximum": 255}
_LEVEL: Json = {"type": "integer", "minimum": 0, "maximum": 63}


def _error(description: str, headers: Json | None = None) -> Json:
    return {"description": description, "content": _ERROR} | ({"headers": headers} if headers else {})


def _common() -> Json:
    return {
        "404": _error("There is no such thing here."),
        "503": _error("The database or the witnesses fail, or there is too much to do.", _RETRY),
        "500": _error("A defect of the server."),
    }


def _path(name: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _read(id_: str, summary: str, type_: str, parameters: list[Json], errors: list[str]) -> Json:
    body: Json = {"type": "string"} | ({"format": "binary"} if type_ == BYTES_TYPE else {})
    ok = {"description": summary, "content": {type_: {"schema": body}}}
    responses = {"200": ok} | {status: reply for status, reply in _common().items() if status in errors}
    return {"get": {"operationId": id_, "summary": summary, "parameters": parameters, "responses": responses}}


def _tile(kind: str, name: str, levelled: bool) -> Json:
    paths: Json = {}
    deep: list[list[tuple[str, Json]]] = [[], [("group", _GROUP)]]
    for groups, title in zip(deep, ("", "Deep"), strict=True):
        for partial in (False, True):
            at = "/".join(f"{{{group}}}" for group, _ in [*groups, ("number", _NUMBER)])
            prefix = "/tile/{level}" if levelled else "/tile/entries"
            fields = [("level", _LEVEL)] if levelled else []
            fields += [*groups, ("number", _NUMBER), *([("width", _WIDTH)] if partial else [])]
            id_ = f"get{'Partial' if partial else ''}{title}{kind}"
            what = f"{name}{', not full yet: its first entries' if partial else ''} (C2SP tlog-tiles)."
            path = f"{prefix}/{at}{'.p/{width}' if partial else ''}"
            paths[path] = _read(id_, what, BYTES_TYPE, [_path(*field) for field in fields], ["404", "503", "500"])
    return paths


def _append() -> Json:
    entry = {"schema": {"type": "string", "format": "binary", "maxLength": MAX_ENTRY_SIZE}}
    size = {"type": "string", "pattern": '^"(0|[1-9][0-9]{0,17})"$'}
    return {
        "post": {
            "operationId": "append",
            "summary": "Log an entry. Answered when it is durable, and included under a signed checkpoint.",
            "description": (
                "The same bytes are logged once: to send them again is safe, and gives a proof of the same index. "
                "What is logged is the body to the byte, here a signed statement (DSSE)."
            ),
            "security": [{"token": []}],
            "parameters": [
                {
                    "name": "If-Match",
                    "in": "header",
                    "required": False,
                    "description": 'Only if the tree has this size, like "42".',
                    "schema": size,
                }
            ],
            "requestBody": {"required": True, "content": {BYTES_TYPE: entry, ENVELOPE_TYPE: entry}},
            "responses": {
                "200": {
                    "description": "The entry's proof (C2SP tlog-proof), under a checkpoint that includes it.",
                    "content": {PROOF_TYPE: {"schema": {"type": "string"}}},
                },
                "400": _error("A header that does not parse."),
                "401": _error(
                    "No token, or an unknown one.",
                    {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True}},
                ),
                "403": _error("Not a statement, or not signed by an issuer that the token is for."),
                "408": _error("The body took too long to arrive."),
                "412": _error("The tree has another size."),
                "413": _error(f"More than {MAX_ENTRY_SIZE:,} bytes."),
                "415": _error("The body is something else than bytes or a DSSE envelope."),
                "429": _error("Too many appends with this token at once.", _RETRY),
                "500": _error("A defect of the server."),
                "503": _error("The database or the witnesses fail, or there is too much to do.", _RETRY),
            },
        }
    }


def _json(id_: str, summary: str, schema: Json, parameters: list[Json], errors: Json) -> Json:
    ok = {"description": summary, "content": {JSON_TYPE: {"schema": schema}}}
    return {
        "get": {"operationId": id_, "summary": summary, "parameters": parameters, "responses": {"200": ok} | errors}
    }


def document(origin: str, *, appends: bool) -> Json:
    """The description of a server of the log ``origin``."""
    leaf = {"type": "string", "pattern": "^[0-9a-f]{64}$", "minLength": 64, "maxLength": 64}
    index = {
        "type": "object",
        "required": ["index"],
        "properties": {"index": {"type": ["integer", "null"], "minimum": 0}},
        "additionalProperties": False,
    }
    health = {
        "type": "object",
        "required": ["status", "origin", "size"],
        "properties": {
            "status": {"const": "ok"},
            "origin": {"type": "string"},
            "size": {"type": "integer", "minimum": 0},
        },
        "additionalProperties": False,
    }
    unwell = {status: reply for status, reply in _common().items() if status != "404"}
    find = [{"name": "leaf", "in": "query", "required": True, "description": "SHA-256(0x00 ‖ entry)", "schema": leaf}]
    paths: Json = {
        "/checkpoint": _read(
            "getCheckpoint", "The newest signed checkpoint (C2SP tlog-checkpoint).", NOTE_TYPE, [], ["503", "500"]
        ),
        **_tile("Tile", "256 hashes of the tree", levelled=True),
        **_tile("Bundle", "256 entries, each behind its length", levelled=False),
        "/find": _json(
            "find",
            "The index of an entry by its leaf hash; null if it isn't logged. Check it with a proof.",
            index,
            find,
            unwell | {"400": _error("Not one leaf hash.")},
        ),
        "/health": _json("getHealth", "Whether the log opens and verifies.", health, [], unwell),
        "/metrics": _read("getMetrics", "Figures for Prometheus.", "text/plain", [], ["500"]),
        "/openapi.json": _json("getOpenapi", "This description.", {"type": "object"}, [], {}),
    }
    if appends:
        paths["/append"] = _append()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Transparency log {origin}",
            "version": "1",
            "description": "A signed Merkle log: C2SP tlog-tiles for whoever reads, and an endpoint to append.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error", "message"],
                    "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
                    "additionalProperties": False,
                }
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
