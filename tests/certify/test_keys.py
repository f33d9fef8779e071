"""Statement keys: what they sign, and the one form that a signature has."""

import subprocess
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import StatementKeyError
from certify.keys import ALGORITHMS, Algorithm, PublicKey, SigningKey
from ledger.errors import KeyFileError
from tests.cases import operator

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ECDSA_KEY = operator().key


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_signs_and_survives_a_key_file(algorithm: Algorithm, tmp_path: Path) -> None:
    key = SigningKey.generate(algorithm)
    key.save(tmp_path / "key.pem", b"secret")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (tmp_path / "key.pem").read_bytes()
    loaded = SigningKey.load(tmp_path / "key.pem", b"secret")
    assert loaded.public == key.public
    public = PublicKey.from_pem(key.public.pem())
    public.verify(loaded.sign(b"message"), b"message")
    with pytest.raises(StatementKeyError, match=f"wrong {algorithm} signature"):
        public.verify(loaded.sign(b"message"), b"another")
    assert PublicKey.from_spki(public.spki) == public


def test_key_id_is_the_sha256_of_the_public_key_in_der() -> None:
    body = "".join(ECDSA_KEY.public.pem().splitlines()[1:-1])
    assert ECDSA_KEY.public.keyid == sha256(b64decode(body)).hexdigest()


def test_openssl_agrees_on_the_key_id_and_the_signature(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(ECDSA_KEY.public.pem())
    (tmp_path / "message").write_bytes(b"message")
    (tmp_path / "signature").write_bytes(ECDSA_KEY.sign(b"message"))
    verify = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "message"]
    subprocess.run(verify, cwd=tmp_path, check=True, capture_output=True)
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", "key.pem", "-outform", "DER"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert sha256(der.stdout).hexdigest() == ECDSA_KEY.public.keyid


def test_wrong_password_is_refused(tmp_path: Path) -> None:
    SigningKey.generate("ed25519").save(tmp_path / "key.pem", b"secret")
    for password in (b"guess", b"", None):
        with pytest.raises(KeyFileError, match="password"):
            SigningKey.load(tmp_path / "key.pem", password)


def test_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    SigningKey.generate("ed25519").save(tmp_path / "key.pem", None)
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(KeyFileError, match="0640, expected 0600"):
        SigningKey.load(tmp_path / "key.pem", None)


def test_key_file_is_never_overwritten(tmp_path: Path) -> None:
    SigningKey.generate("ed25519").save(tmp_path / "key.pem", None)
    with pytest.raises(KeyFileError, match="exists already"):
        SigningKey.generate("ed25519").save(tmp_path / "key.pem", None)


def test_key_file_of_two_keys_is_refused(tmp_path: Path) -> None:
    operator(post_quantum=True).log_key.save(tmp_path / "log.pem", None)
    with pytest.raises(StatementKeyError, match="holds 2 keys, expected one"):
        SigningKey.load(tmp_path / "log.pem", None)


def test_other_kinds_of_key_are_refused() -> None:
    strangers = [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
    for stranger in strangers:
        with pytest.raises(StatementKeyError, match="expected a key of ecdsa-p256, ed25519, ml-dsa-65"):
            PublicKey.of(stranger.public_key())


def test_low_order_ed25519_key_is_refused() -> None:
    prefix = operator(algorithm="ed25519").key.public.spki[:-32]
    for point in (bytes(32), b"\1" + bytes(31)):
        with pytest.raises(StatementKeyError):
            PublicKey.from_spki(prefix + point)


def test_every_ecdsa_signature_has_the_lower_s() -> None:
    for i in range(40):
        _, s = decode_dss_signature(ECDSA_KEY.sign(b"%d" % i))
        assert 0 < s <= ORDER // 2


def test_malleated_ecdsa_signature_is_refused() -> None:
    r, s = decode_dss_signature(ECDSA_KEY.sign(b"message"))
    twin = encode_dss_signature(r, ORDER - s)
    key = ECDSA_KEY.public.key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(twin, b"message", ec.ECDSA(SHA256()))  # OpenSSL takes it
    with pytest.raises(StatementKeyError, match="not in its canonical form"):
        ECDSA_KEY.public.verify(twin, b"message")


@pytest.mark.parametrize(
    "respell",
    [
        lambda der: der + b"\0",
        lambda der: b"\x30\x81" + der[1:],  # length in the long form
        lambda der: der[:1] + bytes([der[1] + 1]) + der[2:3] + bytes([der[3] + 1]) + b"\0" + der[4:],  # zero-padded r
        lambda der: b"",
        lambda der: encode_dss_signature(0, 0),
    ],
    ids=["trailing byte", "long length", "padded integer", "empty", "zeros"],
)
def test_ecdsa_signature_in_another_encoding_is_refused(respell) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(StatementKeyError):
        ECDSA_KEY.public.verify(respell(ECDSA_KEY.sign(b"message")), b"message")


def test_public_key_in_another_encoding_is_refused() -> None:
    """Otherwise one key would have several ids."""
    key = ECDSA_KEY.public.key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    spki = ECDSA_KEY.public.spki
    compressed = b"\x30\x39" + spki[2:-68] + b"\x03\x22\x00" + point
    assert PublicKey.of(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)) == ECDSA_KEY.public
    with pytest.raises(StatementKeyError):
        PublicKey.from_spki(compressed)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_altered_signatures_keys_and_messages_are_refused(algorithm: Algorithm, data: st.DataObject) -> None:
    key = operator(algorithm=algorithm).key
    signature = bytearray(key.sign(b"message"))
    at = data.draw(st.integers(0, 5000)) % len(signature)
    signature[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StatementKeyError):
        key.public.verify(bytes(signature), b"message")
    spki = bytearray(key.public.spki)
    at = data.draw(st.integers(0, len(spki) - 1))
    spki[at] ^= data.draw(st.integers(1, 255))
    try:
        other = PublicKey.from_spki(bytes(spki))
    except StatementKeyError:
        return
    assert other.keyid != key.public.keyid


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: ECDSA_KEY.public.spki[:24] + b))
def test_public_key_is_a_key_or_an_error(data: bytes) -> None:
    try:
        key = PublicKey.from_spki(data)
    except StatementKeyError:
        return
    assert key.spki == data


@given(st.text(max_size=200))
def test_pem_is_a_key_or_an_error(text: str) -> None:
    for pem in (text, f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(StatementKeyError):
            PublicKey.from_pem(pem)


def test_private_key_does_not_show_itself() -> None:
    assert repr(ECDSA_KEY) == f"SigningKey(public={ECDSA_KEY.public!r})"
