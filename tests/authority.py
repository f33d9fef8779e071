"""A time-stamping authority to test with: ``openssl ts`` behind HTTP, its certificates made as a test wants them.

::

    authority = Authority(tmp_path)                       # root > signer, in files of its own
    authority.stamp(b"text")                              # what an honest authority replies
    authority.stamp(b"text", at=day(30))                  # the same token, of another time, signed by the same key
    with authority.serve() as url: ...                    # openssl answers whoever posts a query
"""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, TimeStampResponse, decode_timestamp_response

from ledger.timestamp import in_order

POLICY = "1.2.3.4.1"
LONG_AGO, FAR = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
_TST_INFO = "1.2.840.113549.1.9.16.1.4"
_CONFIG = """
[tsa]
default_tsa = this
[this]
serial = serial
signer_cert = signer.pem
signer_key = signer.key
signer_digest = sha256
default_policy = {policy}
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
{more}
"""


def serial() -> int:
    """Of 20 bytes, always."""
    return x509.random_serial_number() | 1 << 158


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *extensions: tuple[x509.ExtensionType, bool],
    first: datetime = LONG_AGO,
    last: datetime = FAR,
) -> x509.Certificate:
    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), serial())
    builder = builder.not_valid_before(first).not_valid_after(last)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, SHA256())


class Authority:
    """See the module. ``purposes`` and ``critical`` are the signer's extended key usage. ``more``: lines for openssl.cnf."""

    def __init__(
        self,
        folder: Path,
        *,
        title: str = "Example Time",
        purposes: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.TIME_STAMPING,),
        critical: bool = True,
        first: datetime = LONG_AGO,
        last: datetime = FAR,
        policy: str = POLICY,
        more: str = "",
    ) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed: it is the time-stamping authority of these tests")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.title = folder, title
        self.root_key, self.key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = (x509.BasicConstraints(ca=True, path_length=None), True)
        self.root = certificate(f"{title} Root", self.root_key, f"{title} Root", self.root_key, ca)
        self.renew(purposes=purposes, critical=critical, first=first, last=last)
        self.write("root.pem", self.root.public_bytes(Encoding.PEM))
        secret = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.write("signer.key", secret)
        self.write("serial", b"01\n")
        self.write("tsa.cnf", _CONFIG.format(policy=policy, more=more).encode())
        self._lock = threading.Lock()

    def renew(
        self,
        *,
        purposes: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.TIME_STAMPING,),
        critical: bool = True,
        first: datetime = LONG_AGO,
        last: datetime = FAR,
    ) -> None:
        """Another certificate for the signer's key."""
        usage = [(x509.ExtendedKeyUsage(purposes), critical)] if purposes is not None else []
        issued = (f"{self.title} Signer", self.key, f"{self.title} Root", self.root_key)
        self.signer = certificate(*issued, *usage, first=first, last=last)
        self.write("signer.pem", self.signer.public_bytes(Encoding.PEM))

    @property
    def pem(self) -> str:
        return self.root.public_bytes(Encoding.PEM).decode()

    def write(self, file: str, data: bytes) -> None:
        (self.folder / file).write_bytes(data)

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def send_along(self, *certificates: x509.Certificate) -> None:
        """Send these after the signer's, in this order."""
        self.write("chain.pem", b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
        config = (self.folder / "tsa.cnf").read_bytes()
        self.write("tsa.cnf", config.replace(b"certs = chain.pem", b"") + b"\ncerts = chain.pem\n")

    def reply(self, query: bytes) -> bytes:
        """What openssl answers to a query."""
        with self._lock:
            self.write("query.tsq", query)
            self.openssl("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query.tsq", "-out", "reply.tsr")
            return (self.folder / "reply.tsr").read_bytes()

    def stamp(
        self,
        text: bytes,
        *,
        at: datetime | None = None,
        hash_algorithm: HashAlgorithm = HashAlgorithm.SHA256,
        with_signer: "Authority | None" = None,
    ) -> bytes:
        """A reply over ``text``. ``at``, or a second signer: the same token info, with that time, signed anew."""
        query = TimestampRequestBuilder(data=text, hash_algorithm=hash_algorithm).build()
        data = in_order(self.reply(query.as_bytes()))
        if at is None and with_signer is None:
            return data
        response = decode_timestamp_response(data)
        other = with_signer.folder if with_signer is not None else None
        second = ("-signer", str(other / "signer.pem"), "-inkey", str(other / "signer.key")) if other else ()
        return self.sign(self.info(response, at or response.tst_info.gen_time), *second)

    def info(self, response: TimeStampResponse, at: datetime) -> bytes:
        """The DER of a token's info, with another time of the same length."""
        self.write("token", response.time_stamp_token())
        self.openssl("cms", "-verify", "-noverify", "-inform", "DER", "-in", "token", "-out", "info")
        written = response.tst_info.gen_time.strftime("%Y%m%d%H%M%SZ").encode()
        info = (self.folder / "info").read_bytes()
        assert info.count(written) == 1
        return info.replace(written, at.strftime("%Y%m%d%H%M%SZ").encode())

    def sign(self, info: bytes, *more: str) -> bytes:
        """A reply with a token over any info at all. ``more``: options of openssl cms."""
        self.write("info", info)
        self.openssl(
            "cms", "-sign", "-binary", "-nodetach", "-nosmimecap", "-md", "sha256", "-econtent_type", _TST_INFO,
            "-in", "info", "-outform", "DER", "-out", "token", "-signer", "signer.pem", "-inkey", "signer.key", *more,
        )  # fmt: skip
        return in_order(tlv(0x30, tlv(0x30, b"\x02\x01\x00") + (self.folder / "token").read_bytes()))

    def accepts(self, data: bytes, text: bytes) -> bool:
        """Whether ``openssl ts -verify`` does, with this authority's root."""
        self.write("kept.tsr", data)
        self.write("text", text)
        command = ["openssl", "ts", "-verify", "-in", "kept.tsr", "-data", "text", "-CAfile", "root.pem"]
        done = subprocess.run(command, cwd=self.folder, check=False, capture_output=True)
        return done.returncode == 0 and b"Verification: OK" in done.stdout

    @contextmanager
    def serve(self, answer: Callable[[bytes], tuple[int, bytes]] | None = None) -> Iterator[str]:
        """Its URL. ``answer``: status and body for a query, where it is not to be openssl's."""
        reply = answer or (lambda query: (200, self.reply(query)))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                status, body = reply(query)
                self.send_response(status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.end_headers()
                with suppress(OSError):  # they may have heard enough
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/tsr"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def tlv(tag: int, content: bytes) -> bytes:
    """DER."""
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def soon(seconds: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
