"""Time stamps from asking an authority (openssl's) to the verifier's fourth step."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from certify import timestamping
from certify.bundle import README, README_TIMESTAMPS, Bundle
from certify.cli import cli
from certify.errors import MissingExtra, OrderError, RevokedKeyError, TimestampError, TrustError
from certify.trust import Trust, TrustedAuthority, accept_authority, format_trust
from certify.verifier import Report, verify
from certify.workspace import Workspace
from ledger.errors import TimestampError as TokenError
from tests.authority import POLICY, Authority
from tests.cases import NOW, Witness, day, usual_case

pytest.importorskip("httpx")
CASE = usual_case()
TEXT = timestamping.checkpoint_text(CASE.note())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), title="Other Time")


def trusted(authority: Authority, **more: Any) -> TrustedAuthority:
    return TrustedAuthority(authority.title, (authority.root,), **more)


def stamped(*tokens: bytes) -> bytes:
    return replace(CASE.bundle(), timestamps={sha256(token).hexdigest(): token for token in tokens}).to_bytes()


def check(data: bytes, *authorities: TrustedAuthority, trust: Trust | None = None, now: datetime = NOW) -> Report:
    return verify(data, replace(trust or CASE.trust(), authorities=authorities), now=now)


def fourth(report: Report) -> str:
    return "\n".join(report.steps[3].established)


def limits(report: Report) -> str:
    return "\n".join(report.limits)


# -- verifying ---------------------------------------------------------------------------------------------------------


def test_a_time_stamp_shows_by_when_all_was_logged(authority: Authority) -> None:
    report = check(stamped(authority.stamp(TEXT, at=day(30))), trusted(authority))
    assert "stamped by Example Time at 2026-01-31T00:00:00Z" in fourth(report)
    assert "All was logged by 2026-01-31T00:00:01Z: Example Time stamped it." in limits(report)
    assert "could show others another history." in limits(report)
    assert "every time is the operator's own" not in limits(report)


def test_an_unknown_authority_counts_for_nothing(authority: Authority, other: Authority) -> None:
    for authorities in ((), (trusted(other),)):
        report = check(stamped(authority.stamp(TEXT, at=day(30))), *authorities)
        assert "CN=Example Time Signer, whose root trust.toml does not name: it counts for nothing" in fourth(report)
        assert "every time is the operator's own" in limits(report)


def test_the_earliest_of_all_counts(authority: Authority, other: Authority) -> None:
    early, late = authority.stamp(TEXT, at=day(40)), authority.stamp(TEXT, at=day(60))
    middle = other.stamp(TEXT, at=day(50))
    report = check(stamped(late, middle, early), trusted(authority), trusted(other))
    assert fourth(report).count("stamped by") == 3
    assert "2026-02-10T00:00:01Z: Example Time stamped it" in limits(report)


def test_of_witnesses_and_time_stamps_the_earlier_counts(authority: Authority) -> None:
    witness = Witness("witness.example/a")
    for cosigned, at, how in ((30, 40, "witnesses cosigned it"), (40, 30, "Example Time stamped it")):
        case = replace(CASE, cosigners=[(witness, day(cosigned))])
        token = authority.stamp(TEXT, at=day(at))
        bundle = replace(case.bundle(), timestamps={sha256(token).hexdigest(): token})
        report = check(bundle.to_bytes(), trusted(authority), trust=CASE.trust(witnesses=[witness], quorum=1))
        assert f": {how}. Every other time" in limits(report)
        assert "no witness" not in limits(report)


def test_a_required_time_stamp(authority: Authority, other: Authority) -> None:
    required = trusted(authority, required=True)
    assert check(stamped(authority.stamp(TEXT, at=day(30))), required)
    for data in (CASE.data(), stamped(other.stamp(TEXT, at=day(30)))):
        with pytest.raises(TimestampError, match="requires a time stamp by Example Time") as caught:
            check(data, required, trusted(other))
        assert (caught.value.step, caught.value.exit_code) == (4, 54)


def test_a_policy_that_is_asked_for(authority: Authority) -> None:
    data = stamped(authority.stamp(TEXT, at=day(30)))
    assert check(data, trusted(authority, policy=POLICY))
    with pytest.raises(TimestampError, match="Policy ID mismatch"):
        check(data, trusted(authority, policy="1.2.3.4.2"))


def test_statements_are_not_later_than_the_time_stamp(authority: Authority) -> None:
    """The unlearning is stated to have finished on day 20."""
    with pytest.raises(OrderError, match="after Example Time stamped it at 2026-01-20"):
        check(stamped(authority.stamp(TEXT, at=day(19))), trusted(authority))
    assert check(stamped(authority.stamp(TEXT, at=day(20) - timedelta(minutes=4))), trusted(authority))


def test_a_key_revoked_later_counts_for_what_was_stamped_before(authority: Authority) -> None:
    revoked = CASE.trust(revoked=day(50))
    assert check(stamped(authority.stamp(TEXT, at=day(49))), trusted(authority), trust=revoked)
    for token in ([], [authority.stamp(TEXT, at=day(50))], [authority.stamp(TEXT, at=day(50) - timedelta(seconds=1))]):
        with pytest.raises(RevokedKeyError, match="nor does a time stamp"):
            check(stamped(*token), trusted(authority), trust=revoked)


def test_bundles_without_stay_as_they_were(authority: Authority) -> None:
    assert README_TIMESTAMPS.encode() not in CASE.data()
    token = authority.stamp(TEXT, at=day(30))
    data = stamped(token)
    assert (README + README_TIMESTAMPS).encode() in data
    assert Bundle.parse(data).to_bytes() == data == stamped(token)


def test_verifying_loads_no_network_and_no_database(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "case.bundle").write_bytes(stamped(authority.stamp(TEXT, at=day(30))))
    text = format_trust(CASE.trust().logs, CASE.trust().issuers) + table(authority.pem, "required = true")
    (tmp_path / "trust.toml").write_text(text)
    code = """
import sys
from pathlib import Path
from certify.trust import Trust
from certify.verifier import verify
verify(Path("case.bundle").read_bytes(), Trust.load(Path("trust.toml")))
heavy = ("httpx", "httpcore", "ssl", "asyncio", "sqlalchemy", "sqlite3", "torch", "numpy")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# -- trust.toml --------------------------------------------------------------------------------------------------------


def table(root: str, more: str = "") -> str:
    return f'\n[[timestamping]]\nname = "Example Time"\nroot = """\n{root}"""\n{more}'


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.init(tmp_path / "ledger", origin="example.com/ledger", issuer="Clinic", password=None) as workspace:
        yield workspace


def test_trust_file(workspace: Workspace, authority: Authority, other: Authority) -> None:
    text = (workspace.path / "trust.toml").read_text()
    assert Trust.parse(text.encode()).authorities == ()
    [found] = Trust.parse((text + table(authority.pem, f'policy = "{POLICY}"\nrequired = true')).encode()).authorities
    assert found == trusted(authority, policy=POLICY, required=True)
    [found] = Trust.parse((text + table(other.pem + authority.pem)).encode()).authorities
    assert found.roots == (other.root, authority.root)
    for wrong, match in (
        (table("nothing"), "no root certificate"),
        (table(authority.pem.replace("MII", "XII")), "no root certificate"),
        (table(authority.pem, 'policy = "x"'), "no policy"),
        (table(authority.pem, 'polcy = "1.2"'), "not as expected"),
        (table(authority.pem) + table(other.pem), "twice"),
    ):
        with pytest.raises(TrustError, match=match):
            Trust.parse((text + wrong).encode())


def test_accepting_an_authority(workspace: Workspace, authority: Authority) -> None:
    path = workspace.path / "trust.toml"
    assert accept_authority(path, "Example Time", authority.pem)
    assert Trust.load(path).authorities == (trusted(authority),)
    before = path.read_bytes()
    assert not accept_authority(path, "Example Time", authority.pem)
    with pytest.raises(TrustError):
        accept_authority(path, "Other", "nothing")
    assert path.read_bytes() == before


# -- asking ------------------------------------------------------------------------------------------------------------


def test_asking(authority: Authority) -> None:
    trust = replace(CASE.trust(), authorities=(trusted(authority),))
    with authority.serve() as url:
        stamp = timestamping.ask(url, TEXT, trust=trust)
        assert timestamping.ask(url, TEXT).data != stamp.data  # another nonce
    assert abs(stamp.time - datetime.now(UTC)) < timedelta(minutes=5)
    assert authority.accepts(stamp.data, TEXT)


def test_what_is_kept_is_what_openssl_accepts(authority: Authority, tmp_path: Path) -> None:
    authority.send_along(authority.root)
    with authority.serve() as url:
        stamp = timestamping.ask(url, TEXT)
    path = timestamping.keep(tmp_path / "timestamps", TEXT, stamp.data)
    assert authority.accepts(path.read_bytes(), TEXT)
    assert timestamping.kept(tmp_path / "timestamps", TEXT) == {sha256(stamp.data).hexdigest(): stamp.data}
    assert timestamping.kept(tmp_path / "timestamps", TEXT + b"x") == {}
    assert timestamping.kept(tmp_path / "nowhere", TEXT) == {}
    path.write_bytes(stamp.data[:-1])
    with pytest.raises(TokenError, match="was altered"):
        timestamping.kept(tmp_path / "timestamps", TEXT)


def test_an_authority_that_is_not_there() -> None:
    for url in ("http://127.0.0.1:1/", "nonsense", "http://"):
        with pytest.raises(TokenError, match="cannot be asked"):
            timestamping.ask(url, TEXT)


def test_without_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtra, match=r"unlearning-ledger\[remote\]") as caught:
        timestamping.ask("http://time.example/", TEXT)
    assert caught.value.exit_code == 57


# -- on the command line -----------------------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    done = CliRunner().invoke(cli, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_log_timestamp(workspace: Workspace, authority: Authority) -> None:
    folder = workspace.path
    with authority.serve() as url:
        first = run("log", "timestamp", "--ledger", folder, "--tsa", url)
        assert (first["verified"], first["authority"], first["signer"]) == (False, None, "CN=Example Time Signer")
        root = authority.folder / "root.pem"
        second = run("log", "timestamp", "--ledger", folder, "--tsa", url, "--root", root, "--name", "Example Time")
        assert (second["verified"], second["authority"], second["policy"]) == (True, "Example Time", POLICY)
        assert Trust.load(folder / "trust.toml").authorities == (trusted(authority),)
        (folder / "certify.toml").write_text((folder / "certify.toml").read_text() + f'timestamping = "{url}"\n')
        assert run("log", "timestamp", "--ledger", folder)["authority"] == "Example Time"
    assert len(list((folder / "timestamps").iterdir())) == 3
    text = timestamping.checkpoint_text(workspace.reader.checkpoint())
    assert len(timestamping.kept(folder / "timestamps", text)) == 3


def test_log_timestamp_under_the_wrong_root(workspace: Workspace, authority: Authority, other: Authority) -> None:
    before = (workspace.path / "trust.toml").read_bytes()
    with authority.serve() as url:
        done = CliRunner().invoke(
            cli,
            ["log", "timestamp", "-l", str(workspace.path), "--tsa", url, "--root", str(other.folder / "root.pem")],
        )
    assert "is not the root of" in str(done.exception)
    assert (workspace.path / "trust.toml").read_bytes() == before
    assert not (workspace.path / "timestamps").exists()


def test_bundles_are_stamped_where_the_ledger_says_so(workspace: Workspace, authority: Authority) -> None:
    asked: list[bytes] = []

    def answer(query: bytes) -> tuple[int, bytes]:
        asked.append(query)
        return 200, authority.reply(query)

    text = timestamping.checkpoint_text(workspace.reader.checkpoint())
    assert timestamping.for_bundle(workspace, text) == {}
    with authority.serve(answer) as url:
        workspace.timestamping = url
        found = timestamping.for_bundle(workspace, text)
        assert timestamping.for_bundle(workspace, text) == found
        assert len(found) == len(asked) == 1
    workspace.log.append(b"more")
    with pytest.raises(TokenError, match=r"cannot be asked.*--no-timestamp"):
        timestamping.for_bundle(workspace, timestamping.checkpoint_text(workspace.reader.checkpoint()))
