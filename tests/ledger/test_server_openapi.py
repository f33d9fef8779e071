"""The description that the server gives of itself is exact: schemathesis sends what it allows and what it forbids, in process.

``LEDGER_FUZZ`` sets how many requests to each path (20).
"""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from ledger.errors import AdmissionError
from ledger.log import Log
from ledger.log_key import LogKey
from ledger.openapi import document
from ledger.server import app
from tests.served import TOKEN, Holder, admit

EXAMPLES = int(os.environ.get("LEDGER_FUZZ", "20"))


ALSO_FINE = {
    "positive_data_acceptance": ["2xx", 401, 403, 404, 412],
    "negative_data_rejection": [400, 401, 403, 404, 405, 413, 415],
}
OPERATIONS = [(path, method) for path, item in document("x", appends=True)["paths"].items() for method in item]


class JsonOnly(Holder):
    """A gate that lets some of it through."""

    def check(self, entry: bytes) -> None:
        try:
            json.loads(entry)
        except ValueError as error:
            raise AdmissionError("expected JSON") from error


def gate(token: str | None) -> Holder:
    admit(token)
    return JsonOnly()


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with Log.create(tmp_path_factory.mktemp("fuzz") / "log.db", LogKey.generate("example.com/log")) as log:
        log.append_many([b"entry %d" % number for number in range(300)])
        checks = {name: {"expected-statuses": statuses} for name, statuses in ALSO_FINE.items()}
        config = schemathesis.Config.from_dict({"checks": checks})
        yield schemathesis.openapi.from_asgi("/openapi.json", app(log, admit=gate), config=config)


def fuzz(description: Any, path: str, method: str, mode: GenerationMode, check: Callable[[Any], None]) -> None:
    cases = description[path][method.upper()].as_strategy(generation_mode=mode)

    @given(case=cases)
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    def run(case: Any) -> None:
        check(case)

    try:
        run()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # a path without parameters has nothing to get wrong


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_those_described(description: Any, path: str, method: str, mode: GenerationMode) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"} if path == "/append" else None
    fuzz(description, path, method, mode, lambda case: case.call_and_validate(headers=headers))


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_nothing_is_appended_without_a_token(description: Any, mode: GenerationMode) -> None:
    def check(case: Any) -> None:
        response = case.call()
        assert response.status_code == 401
        case.validate_response(response)

    fuzz(description, "/append", "post", mode, check)


def test_description_is_valid_openapi(description: Any) -> None:
    description.validate()
    assert set(description.raw_schema["paths"]) == {path for path, _ in OPERATIONS}
