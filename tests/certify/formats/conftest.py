"""A case to export: as it is stated, and as the verifier found it."""

import pytest

from certify.formats.source import Source, read
from certify.trust import format_trust
from tests.cases import NOW, Case, usual_case

CASE = usual_case(metrics={"accuracy": 0.75})


def trust_of(case: Case) -> bytes:
    trust = case.trust()
    return format_trust(trust.logs, trust.issuers).encode()


@pytest.fixture
def case() -> Case:
    return CASE


@pytest.fixture
def stated() -> Source:
    return read(CASE.data())


@pytest.fixture
def verified() -> Source:
    return read(CASE.data(), trust=trust_of(CASE), now=NOW)


@pytest.fixture(params=["stated", "verified"])
def source(request: pytest.FixtureRequest) -> Source:
    found: Source = request.getfixturevalue(request.param)
    return found
