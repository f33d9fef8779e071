"""Reference strings: strict reading, the ceremony by its hash, and the 516 bytes that a verifier needs of it."""

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py_ecc import optimized_bn128 as curve

from circuits import bn254, domain
from circuits.errors import CommitmentError, SrsError
from circuits.srs import CEREMONY, find, folders_of, load, parse, reduced, require_ceremony, size_of
from tests.circuits.development import ceremony_file, development_srs

SCALARS = st.one_of(st.integers(-5, 5), st.integers(-bn254.R, 2 * bn254.R), st.integers(bn254.R - 9, bn254.R + 9))


def oracle(point: tuple[curve.FQ, curve.FQ, curve.FQ]) -> bn254.Point:
    return None if curve.is_inf(point) else tuple(int(part) for part in curve.normalize(point))  # type: ignore[return-value]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), SCALARS), max_size=12))
def test_multi_scalar_is_py_ecc_s(terms: list[tuple[int, int]]) -> None:
    expected = curve.Z1
    for factor, scalar in terms:
        expected = curve.add(expected, curve.multiply(curve.G1, factor * scalar % bn254.R))
    points = [bn254.multiply(bn254.GENERATOR, factor) for factor, _ in terms]
    assert bn254.multi_scalar(points, [scalar for _, scalar in terms]) == oracle(expected)


@given(st.integers(0, bn254.R - 1))
def test_points_survive_both_encodings(scalar: int) -> None:
    point = bn254.multiply(bn254.GENERATOR, scalar)
    assert point == oracle(curve.multiply(curve.G1, scalar))
    assert bn254.decompress(bn254.compress(point)) == point == bn254.read_raw(bn254.write_raw(point))


@given(st.binary(min_size=32, max_size=32))
def test_compressed_points_have_one_encoding(data: bytes) -> None:
    try:
        point = bn254.decompress(data)
    except CommitmentError:
        return
    assert bn254.compress(point) == data


def test_quotient_of_polynomials() -> None:
    values = [3, 1, 4, 1, 5, 9, 2, 6]
    for row in range(8):
        quotient = domain.divide(values, row)
        roots, at = domain.roots(3), 12345  # q(at) (at - w**row) = f(at) - f(w**row), off the domain
        f, _ = domain.interpolate(dict(enumerate(values)), at, 3)
        q, _ = domain.interpolate(dict(enumerate(quotient)), at, 3)
        assert q * (at - roots[row]) % bn254.R == (f - values[row]) % bn254.R


def test_ceremony_file_and_the_trust_root_cut_from_it() -> None:
    srs = require_ceremony(load(ceremony_file(11)))
    assert (srs.kind, srs.development, srs.rows) == ("ceremony", False, 2048)
    root = reduced(srs)
    assert sha256(root).hexdigest() == CEREMONY[1]
    assert root == ceremony_file(1).read_bytes() == reduced(require_ceremony(parse(root)))
    generator = curve.normalize(curve.G2)
    assert srs.g2 == tuple(int(part) for coordinate in generator for part in coordinate.coeffs)


def test_ceremony_points_are_of_halo2_s_domain() -> None:
    """Sum of w**i L_i is tau: so the Lagrange points belong to our root of unity, in its order."""
    srs = load(ceremony_file(11))
    points = [srs.lagrange(row) for row in range(srs.rows)]
    assert bn254.total(points) == srs.power(0)
    assert bn254.multi_scalar(points, domain.roots(11)) == srs.power(1)


def test_hashes_are_those_in_ezkl() -> None:
    ezkl = pytest.importorskip("ezkl", reason="EZKL's own table is the judge: install ezkl")
    [binary] = Path(ezkl.__file__).parent.glob("*.so")
    assert "".join(CEREMONY[logrows] for logrows in range(1, 27)).encode() in binary.read_bytes()


def test_development_file_of_ezkl_is_never_ceremony(tmp_path: Path) -> None:
    ezkl = pytest.importorskip("ezkl", reason="install ezkl to make a development reference string")
    path = tmp_path / "kzg4.srs"
    ezkl.gen_srs(str(path), 4)
    srs = load(path)
    assert (srs.logrows, srs.kind, srs.development) == (4, "unknown", True)
    assert bn254.total(srs.lagrange(row) for row in range(16)) == bn254.GENERATOR
    with pytest.raises(SrsError, match="may know its secret"):
        require_ceremony(srs)


def test_development_file_by_known_secret() -> None:
    srs = parse(development_srs(3, 7))
    assert srs.power(2) == bn254.multiply(bn254.GENERATOR, 49)
    assert bn254.multi_scalar([srs.lagrange(row) for row in range(8)], domain.roots(3)) == srs.power(1)
    assert reduced(srs) == development_srs(1, 7)
    with pytest.raises(SrsError, match="no point 8"):
        srs.power(8)


def test_find_looks_in_the_stated_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    folders[1].mkdir()
    (folders[1] / "kzg3.srs").write_bytes(development_srs(3, 7))
    monkeypatch.setenv("CERTIFY_SRS", f"{folders[0]}:{folders[1]}")
    assert load(find(3)).logrows == 3
    with pytest.raises(SrsError, match=r"no kzg4\.srs in the folders"):
        find(4)
    assert folders_of({"HOME": "/home/a"})[0] == Path("/home/a/.cache/unlearning-ledger/srs")
    assert folders_of({"HOME": "/home/a", "XDG_CACHE_HOME": "/c"})[0] == Path("/c/unlearning-ledger/srs")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SrsError, match="cannot read"):
        load(tmp_path / "none.srs")


def test_sizes() -> None:
    assert (size_of(1), size_of(11)) == (516, 262404)
