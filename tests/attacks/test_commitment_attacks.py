"""Attacks on commitments, openings and reference strings, those that succeed against the naive way beside ours."""

import time
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

import circuits.opening
from circuits import bn254, domain
from circuits.commitment import add, check_salted, commit, read_point, salts, salts_needed
from circuits.errors import CommitmentError, SrsError
from circuits.opening import Opening, open_at, open_rows, verify_opening, verify_places, verify_rows
from circuits.srs import CEREMONY, load, parse, reduced, require_ceremony
from tests.circuits.development import ceremony_file, development_srs

TAU = 0xBAD
SRS = parse(development_srs(4, TAU))  # ten usable rows
OTHER = parse(development_srs(4, 0xACE))
COLUMN = [5, -2, 7, 5, 11, 0]
[POINT] = commit(COLUMN, SRS)


def verify_naively(point: bytes, opening: Opening, value: int, row: int, srs: bytes) -> None:
    """As one would who takes the reference string from the bundle."""
    verify_opening(point, opening, value, row, srs, logrows=4, allow_development=True)


def test_dictionary_attack_on_a_commitment_without_salt() -> None:
    secret = [1, 3, 2]
    [public] = commit(secret, SRS)
    guesses = [list(guess) for guess in product(range(4), repeat=3)]
    assert [guess for guess in guesses if commit(guess, SRS) == [public]] == [secret]
    [salted] = commit([*secret, *salts(5)], SRS)
    assert [guess for guess in guesses if commit(guess, SRS) == [salted]] == []
    assert commit([*secret, *salts(5)], SRS) != [salted]  # nor is the same record recognised


def test_dictionary_attack_on_the_column_that_the_salt_is_not_in() -> None:
    """Salt at the end of a tensor of two columns: the first has none, and its values are guessed."""
    secret = [1, 0, 0, 1, 0, 1, 1, 0, 1, 0]
    tensor = [*secret, 1, 1, *salts(6)]
    public = commit(tensor, SRS)
    guesses = (list(guess) for guess in product(range(2), repeat=10))
    assert next(guess for guess in guesses if commit([*guess, 2], SRS)[0] == public[0]) == secret
    with pytest.raises(CommitmentError, match="column 0 of 2 has 0 salts, expected 6"):
        check_salted(18, range(12, 18), logrows=4, expected=6)


def reduce_basis(basis: list[list[int]]) -> list[list[int]]:
    """Lenstra, Lenstra, Lovász (1982), the textbook way, on fractions."""
    basis = [list(row) for row in basis]

    def dot(left: list[Fraction], right: list[int]) -> Fraction:
        return sum((a * b for a, b in zip(left, right, strict=True)), Fraction())

    def orthogonal() -> tuple[list[list[Fraction]], list[list[Fraction]]]:
        rows: list[list[Fraction]] = []
        factors: list[list[Fraction]] = []
        for vector in basis:
            row, line = [Fraction(part) for part in vector], []
            for earlier in rows:
                factor = dot(earlier, vector) / sum(part * part for part in earlier)
                line.append(factor)
                row = [a - factor * b for a, b in zip(row, earlier, strict=True)]
            rows.append(row)
            factors.append(line)
        return rows, factors

    k = 1
    rows, factors = orthogonal()
    while k < len(basis):
        for j in range(k - 1, -1, -1):
            nearest = round(factors[k][j])
            if nearest:
                basis[k] = [a - nearest * b for a, b in zip(basis[k], basis[j], strict=True)]
                factors[k][j] -= nearest
                for i in range(j):
                    factors[k][i] -= nearest * factors[j][i]
        here, before = sum(p * p for p in rows[k]), sum(p * p for p in rows[k - 1])
        if here >= (Fraction(3, 4) - factors[k][k - 1] ** 2) * before:
            k += 1
        else:
            basis[k], basis[k - 1] = basis[k - 1], basis[k]
            rows, factors = orthogonal()
            k = max(k - 1, 1)
    return basis


def short_salts(target: int, coefficients: list[int], bits: int) -> list[int] | None:
    """Salts below 2**bits with sum of salt * coefficient = target modulo r, if lattice reduction finds any."""
    count, heavy, middle = len(coefficients), 1 << 300, 1 << bits - 1
    rows = [[int(i == j) for j in range(count)] + [0, c * heavy] for i, c in enumerate(coefficients)]
    rows.append([0] * count + [0, bn254.R * heavy])
    rows.append([-middle] * count + [middle, -target * heavy])
    for row in reduce_basis(rows):
        if row[-1] == 0 and abs(row[-2]) == middle:
            found = [part * (1 if row[-2] > 0 else -1) + middle for part in row[:count]]
            if all(0 <= salt < 1 << bits for salt in found):
                return found
    return None


def test_lattice_attack_on_a_few_short_salts_by_one_evaluation() -> None:
    """A zk proof shows the column's polynomial at one point. Four salts of 30 bits then confirm a guess of the values."""
    point, secret = 0x1234567890ABCDEF**4 % bn254.R, 1

    def attack(count: int) -> list[bool]:
        logrows = 5  # 26 usable rows
        column = [secret, *salts(count)]
        values = [*column, *[0] * (26 - len(column)), *[1] * 6]
        shown, _ = domain.interpolate(dict(enumerate(values)), point, logrows)
        basis = [domain.interpolate({row: int(row == at) for row in range(32)}, point, logrows)[0] for at in range(32)]
        confirmed = []
        for guess in range(3):
            target = (shown - guess * basis[0] - sum(basis[26:])) % bn254.R
            confirmed.append(short_salts(target, basis[1 : count + 1], 30) is not None)
        return confirmed

    assert attack(4) == [False, True, False]
    assert salts_needed(proofs=1) > 254 // 30 * 3  # so many that every guess has salts that fit


def test_opening_of_another_value_row_or_commitment() -> None:
    opening, trusted = open_at(COLUMN, 0, SRS), reduced(SRS)
    verify_naively(POINT, opening, 5, 0, trusted)
    attacks = [
        (POINT, opening, 6, 0),
        (POINT, opening, 5, 3),  # holds 5 too
        (commit([5, 5], SRS)[0], opening, 5, 0),
        (POINT, Opening(POINT), 5, 0),
        (POINT, Opening(bn254.compress(None)), 5, 0),
    ]
    for point, forged, value, row in attacks:
        with pytest.raises(CommitmentError, match="does not hold"):
            verify_naively(point, forged, value, row, trusted)


def test_opening_of_several_rows_with_one_of_them_forged() -> None:
    opening, trusted = open_rows(COLUMN, [0, 1, 4], SRS), reduced(SRS)
    verify_rows(POINT, opening, {0: 5, 1: -2, 4: 11}, trusted, logrows=4, allow_development=True)
    swapped = Opening(opening.quotient, opening.proof)
    attacks = [
        (opening, {0: 5, 1: -2, 4: 12}),
        (opening, {0: 5, 1: 11, 4: -2}),
        (opening, {0: 5, 1: -2}),
        (opening, {0: 5, 1: -2, 4: 11, 2: 7}),
        (swapped, {0: 5, 1: -2, 4: 11}),
    ]
    for forged, opened in attacks:
        with pytest.raises(CommitmentError, match="do not hold"):
            verify_rows(POINT, forged, opened, trusted, logrows=4, allow_development=True)


def test_values_moved_along_a_challenge_that_does_not_bind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were z no hash of the values too, others with the same R(z) would pass with the same opening."""
    opening, trusted = open_rows(COLUMN, [0, 1], SRS), reduced(SRS)
    challenge = circuits.opening._challenge(POINT, opening.quotient, {0: 5, 1: -2}, SRS)
    first, second = (domain.interpolate({0: int(row == 0), 1: int(row == 1)}, challenge, 4)[0] for row in (0, 1))
    moved = -2 - first * pow(second, -1, bn254.R)  # one more in row 0, so much less in row 1
    moved = (moved + bn254.R // 2) % bn254.R - bn254.R // 2
    with pytest.raises(CommitmentError, match="do not hold"):
        verify_rows(POINT, opening, {0: 6, 1: moved}, trusted, logrows=4, allow_development=True)
    monkeypatch.setattr(circuits.opening, "_challenge", lambda *args: challenge)
    verify_rows(POINT, opening, {0: 6, 1: moved}, trusted, logrows=4, allow_development=True)


def test_value_that_wraps_around_the_field() -> None:
    """7 - r is 7 in the field: only one of the two is a value."""
    opening = open_at(COLUMN, 2, SRS)
    with pytest.raises(CommitmentError, match="expected values from"):
        verify_naively(POINT, opening, 7 - bn254.R, 2, reduced(SRS))
    with pytest.raises(CommitmentError, match="expected values from"):
        commit([bn254.R - 1], SRS)


def test_logrows_of_the_attacker_s_choice_moves_rows() -> None:
    """Row 2 of sixteen is row 4 of thirty-two: so logrows is never taken from an opening, and a wrong one is refused."""
    opening, trusted = open_at(COLUMN, 2, SRS), reduced(SRS)
    verify_opening(POINT, opening, 7, 4, trusted, logrows=5, allow_development=True)  # what a verifier must not ask
    with pytest.raises(CommitmentError, match="does not hold"):
        verify_opening(POINT, opening, 7, 4, trusted, logrows=4, allow_development=True)


def test_unusable_rows_and_missing_columns() -> None:
    opening = open_at(COLUMN, 0, SRS)
    for row in (-16, -1, 10, 16):
        with pytest.raises(CommitmentError, match="expected rows from 0 to 9"):
            verify_naively(POINT, opening, 5, row, reduced(SRS))
    values = [*range(12)]
    points, rows = commit(values, SRS), open_rows(values[:10], [3], SRS)
    for commitments, openings in [(points[:1], {0: rows}), (points, {}), (points, {0: rows, 1: rows})]:
        with pytest.raises(CommitmentError, match=r"expected 2 commitments|expected openings of columns"):
            verify_places(commitments, openings, {3: 3}, SRS, count=12, logrows=4, allow_development=True)


def test_opening_forged_with_a_known_secret_and_its_string_passed_off_as_the_ceremony_s() -> None:
    row, value = 1, 424242
    root = pow(bn254.root_of_unity(4), row, bn254.R)
    shifted = bn254.add(read_point(POINT), bn254.multiply(bn254.GENERATOR, -value))
    forged = Opening(bn254.compress(bn254.multiply(shifted, pow(TAU - root, -1, bn254.R))))
    verify_naively(POINT, forged, value, row, reduced(SRS))  # succeeds: whoever made the string can show anything
    for srs in (reduced(SRS), SRS):
        with pytest.raises(SrsError, match="may know its secret"):
            verify_opening(POINT, forged, value, row, srs, logrows=4)
    with pytest.raises(CommitmentError, match="does not hold"):
        verify_naively(POINT, forged, value, row, reduced(OTHER))
    with pytest.raises(CommitmentError, match="does not hold"):
        verify_opening(POINT, forged, value, row, ceremony_file(1).read_bytes(), logrows=4)


def test_opening_made_with_another_reference_string() -> None:
    opening = open_at(COLUMN, 0, OTHER)
    with pytest.raises(CommitmentError, match="does not hold"):
        verify_naively(POINT, opening, 5, 0, reduced(SRS))
    with pytest.raises(CommitmentError, match="does not hold"):
        verify_naively(POINT, open_at(COLUMN, 0, SRS), 5, 0, reduced(OTHER))


BAD_POINTS = {
    "off the curve": (4).to_bytes(32, "little"),
    "x = p, not canonical": bn254.P.to_bytes(32, "little"),
    "x = 1 + p, not canonical": (1 + bn254.P).to_bytes(32, "little"),
    "infinity with a coordinate": (1 + (1 << 254)).to_bytes(32, "little"),
    "infinity with a sign": (3 << 254).to_bytes(32, "little"),
    "short": bytes(31),
    "long": bytes(33),
}


@pytest.mark.parametrize("bad", BAD_POINTS.values(), ids=BAD_POINTS.keys())
def test_points_that_are_none(bad: bytes) -> None:
    opening = open_at(COLUMN, 0, SRS)
    with pytest.raises(CommitmentError, match="expected"):
        verify_naively(bad, opening, 5, 0, reduced(SRS))
    with pytest.raises(CommitmentError, match="expected"):
        verify_naively(POINT, Opening(bad), 5, 0, reduced(SRS))
    with pytest.raises(CommitmentError, match="expected"):
        Opening.parse(bad)
    with pytest.raises(CommitmentError, match="expected"):
        Opening.parse(POINT + bad)
    with pytest.raises(CommitmentError, match="expected"):
        add(POINT, bad, SRS)


def test_commitment_at_infinity() -> None:
    """It commits to zeros without the ones below, which no circuit does."""
    with pytest.raises(CommitmentError, match="the point at infinity"):
        verify_naively(bn254.compress(None), Opening(bn254.compress(None)), 0, 0, reduced(SRS))


def test_truncated_and_padded_reference_strings() -> None:
    data = development_srs(4, TAU)
    for forged in (b"", data[:3], data[:4], data[:516], data[:-1], data + b"\0", b"\5" + data[1:], bytes(4) + data[4:]):
        with pytest.raises(SrsError, match=r"expected .* bytes"):
            parse(forged)
    with pytest.raises(SrsError, match="expected logrows from 1 to 26"):
        parse((2**31).to_bytes(4, "little") + data[4:])


def test_reference_string_with_edited_points() -> None:
    data = development_srs(4, TAU)

    def edited(at: int, point: bytes) -> bytes:
        return data[:at] + point + data[at + len(point) :]

    lagrange_2 = 4 + 64 * (16 + 2)
    for point in (bytes(64), b"\xff" * 64, data[4 : 4 + 63] + b"\1"):
        with pytest.raises((CommitmentError, SrsError), match="point 2 of the reference string"):
            commit(COLUMN, parse(edited(lagrange_2, point)))
    for at, point in [
        (4, data[68:132]),
        (len(data) - 128, bytes(128)),
        (len(data) - 256, b"\1"),
        (len(data) - 1, b"\xff"),
    ]:
        with pytest.raises(SrsError, match=r"expected (the generator|a point of G2|a coordinate)|a point of G2"):
            parse(edited(at, point))


def test_ceremony_file_with_one_point_of_another(tmp_path: Path) -> None:
    """Still points on the curve, in a file of the right size and name: its hash gives it away."""
    for logrows in (1, 11):
        data = bytearray(ceremony_file(logrows).read_bytes())
        data[-128:] = OTHER.data[-128:]
        path = tmp_path / f"kzg{logrows}.srs"
        path.write_bytes(data)
        with pytest.raises(SrsError, match=CEREMONY[logrows]):
            require_ceremony(load(path))


def test_ceremony_hash_of_another_logrows() -> None:
    """kind compares with the hash pinned for the file's own logrows."""
    srs = load(ceremony_file(11))
    assert srs.kind == "ceremony"
    assert type(srs)(10, srs.digest, srs.g2, srs.tau_g2, srs.data).kind == "unknown"


def test_thousands_of_rows_do_not_stall_the_verifier() -> None:
    opening = open_rows(COLUMN, [0], SRS)
    start = time.process_time()
    with pytest.raises(CommitmentError, match="do not hold"):
        verify_rows(POINT, opening, dict.fromkeys(range(1000), 0), SRS, logrows=11, allow_development=True)
    assert time.process_time() - start < 10
