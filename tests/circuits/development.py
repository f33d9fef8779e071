"""Reference strings whose secret is known, made with py_ecc: for tests only."""

import os
from pathlib import Path

import pytest
from py_ecc import optimized_bn128 as curve

from circuits import bn254, domain


def development_srs(logrows: int, tau: int) -> bytes:
    """A file of that secret, in halo2's raw format."""
    rows, powers = 1 << logrows, domain.roots(logrows)
    # L_i(tau) = w**i (tau**n - 1) / (n (tau - w**i))
    vanishing = (pow(tau, rows, bn254.R) - 1) * pow(rows, -1, bn254.R)
    lagrange = [root * vanishing * pow(tau - root, -1, bn254.R) for root in powers]
    points = [bn254.multiply(bn254.GENERATOR, pow(tau, power, bn254.R)) for power in range(rows)]
    points += [bn254.multiply(bn254.GENERATOR, value) for value in lagrange]
    g2 = [curve.normalize(point) for point in (curve.G2, curve.multiply(curve.G2, tau))]
    coordinates = [int(part) for point in g2 for coordinate in point for part in coordinate.coeffs]
    raw = [(part * 2**256 % bn254.P).to_bytes(32, "little") for part in coordinates]
    return logrows.to_bytes(4, "little") + b"".join([*map(bn254.write_raw, points), *raw])


def ceremony_file(logrows: int) -> Path:
    """The ceremony's file in the folder LEDGER_SRS; skips the test where there is none."""
    folder = os.environ.get("LEDGER_SRS")
    path = Path(folder or ".") / f"kzg{logrows}.srs"
    if not folder or not path.is_file():
        pytest.skip(f"set LEDGER_SRS to the folder with the ceremony's kzg{logrows}.srs")
    return path
