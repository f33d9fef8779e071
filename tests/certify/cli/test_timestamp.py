"""Time stamps as users meet them: asked for, carried, verified, required."""

import json
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.certify.cli.conftest import Certify

pytest.importorskip("httpx")


def test_from_the_authority_to_the_verifier(certify: Certify, folder: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    root = authority.folder / "root.pem"
    trust = folder / "ledger" / "trust.toml"
    verify = ("verify", "case.bundle", "--trust", trust)
    with authority.serve() as url:
        said = certify("log", "timestamp", "--tsa", url, "--root", root, "--name", "Example Time")
        assert "stamped at" in said.stdout
        assert "hand the file out again" in said.stdout
        assert json.loads(certify("bundle", "--json").stdout)["timestamps"] == 1
        assert "stamped by Example Time at" in certify(*verify).stdout
        shown = json.loads(certify("show", "case.bundle", "--json").stdout)["content"]["timestamps"]
        assert [stamp["signer"] for stamp in shown.values()] == ["CN=Example Time Signer"]
        [kept] = (folder / "ledger" / "timestamps").iterdir()
        assert "time stamp" in certify("show", kept).stdout
        before = (folder / "case.bundle").read_bytes()
        certify("bundle")
        assert (folder / "case.bundle").read_bytes() == before
        trust.write_text(f"{trust.read_text()}required = true\n")
        certify(*verify)
        certify("bundle", "--no-timestamp")
        assert "requires a time stamp by Example Time" in certify(*verify, expect=54).stderr
        config = folder / "ledger" / "certify.toml"
        config.write_text(f'{config.read_text()}timestamping = "{url}"\n')
        certify("request", "--data", "patients.csv", "--id", "p3")
        certify("bundle")  # of another checkpoint: the authority is asked
        certify(*verify)
    certify("request", "--data", "patients.csv", "--id", "p4")
    assert "--no-timestamp" in certify("bundle", expect=54).stderr


def test_without_an_authority(certify: Certify) -> None:
    assert "expected --tsa URL" in certify("log", "timestamp", expect=3).stderr


def test_search_says_what_it_searched(certify: Certify, folder: Path) -> None:
    said = certify("search", "--kind", "unlearning", CERTIFY_PASSWORD="")
    assert "Example Clinic" in said.stdout
    assert "1 found; 3 entries searched" in said.stdout
    assert "not a digest" in certify("search", "xyz", expect=56).stderr
    assert "no ledger in" in certify("search", "--ledger", "nowhere", expect=9).stderr
