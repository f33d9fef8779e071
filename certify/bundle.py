"""The bundle: one case in one file, a plain zip that has one form only.

::

    README.txt                             what this is, in plain words (always the same text)
    circuits/<digest>.json                 what a circuit proves, and the digests of what it is made of
    circuits/<digest>.settings             its settings, <digest>.vk its verification key (packed: circuits.packing)
    datasets/<root>.leaves                 leaf hashes of the training dataset, 32 bytes each
    details/<digest>.bin                   what a method refers to, in the form that its detail says
    entries/<index, 12 digits>.dsse.json   a signed statement, the exact bytes that were logged
    entries/<index, 12 digits>.tlog-proof  its inclusion proof with the checkpoint
    points/<digest>.points                 commitments, 32 bytes each
    proofs/<digest>.proof                  zero-knowledge proofs
    removed/<digest>.json                  positions of the leaves that a certificate's run left out
    srs/<digest>.srs                       the reference string's first powers, 516 bytes
    tensors/<root>.json                    manifest of a model: name, dtype, shape and hash of each tensor
    timestamps/<digest>.tsr                time stamps on the checkpoint (RFC 3161 replies)

Members are stored, not compressed, in the order of their names, without times or attributes: the same case gives the same
bytes. Reading writes the parsed bundle again and compares, so there is no second form to hide anything in.
"""

import io
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec

from certify.digest import Manifest
from certify.envelope import MAX_ENVELOPE_SIZE, Envelope
from certify.errors import BundleError, CertifyError
from certify.fields import MAX_INTEGER
from certify.inputs import write_file
from certify.wire import canonical, decode
from certify.zk import CircuitDescription
from circuits.errors import ZkProofError
from circuits.packing import pack, unpack
from ledger.errors import LedgerError
from ledger.proof import TlogProof
from ledger.timestamp import MAX_TIMESTAMP_SIZE

MAX_BUNDLE_SIZE = 256 << 20
MAX_MEMBERS = 4096
MAX_POSITIONS_SIZE = 32 << 20
MAX_CIRCUIT_SIZE = 1 << 16
MAX_TIMESTAMPS = 16
_BY_CONTENT = (("details", "bin"), ("points", "points"), ("proofs", "proof"), ("srs", "srs"), ("timestamps", "tsr"))
"""Folders of members that go by their SHA-256, and what their names end in."""
Position = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]

README = """\
This file is the evidence of one machine-unlearning case: a model was trained, somebody asked to be forgotten, and the model's
operator states, signed and in a public append-only log, what was done about it.

To check it, install the unlearning-ledger package, obtain the operator's trust file over a channel that you trust, and run

    certify verify THIS_FILE --trust trust.toml

No network is needed. The program prints each step, what it established, and what it did not. Nothing in this file is to be
believed before that: anybody can write a file like this, only the signatures and proofs in it count.

entries/    signed statements (DSSE envelopes with in-toto statements) and their inclusion proofs (C2SP tlog-proof)
tensors/    for each model: name, type, shape and hash of every tensor
datasets/   salted hashes of the training records: they identify nobody
removed/    which of these were left out
points/     commitments to data, weights and what must be forgotten, for zero-knowledge proofs
proofs/     these proofs; circuits/ says what they prove, srs/ is the reference string they were made with
"""

README_TIMESTAMPS = """\
timestamps/ when time-stamping authorities saw the log's checkpoint (RFC 3161)
"""
README_DETAILS = """\
details/    what the method left behind for others to look at; its statement says what it is
"""
"""These follow where there are any: bundles without stay what they were."""

_INDEX = r"(?P<index>[0-9]{12})"
_DIGEST = r"(?P<digest>[0-9a-f]{64})"
_MEMBER = re.compile(
    rf"README\.txt|entries/{_INDEX}\.(?P<entry>dsse\.json|tlog-proof)"
    rf"|(?:(?P<tensors>tensors)|(?P<removed>removed))/{_DIGEST.replace('digest', 'json')}\.json"
    rf"|datasets/{_DIGEST.replace('digest', 'leaves')}\.leaves"
    rf"|circuits/{_DIGEST.replace('digest', 'circuit')}\.(?P<part>json|settings|vk)"
    + "".join(rf"|{folder}/{_DIGEST.replace('digest', folder)}\.{suffix}" for folder, suffix in _BY_CONTENT)
)

_LOCAL = struct.Struct("<8sH8xLLHH")
"""A zip member's local header: magic, version and flags; method; time, date, CRC-32; sizes packed, plain, of name, of extra."""
_LOCAL_MAGIC = b"PK\3\4"


@dataclass(frozen=True)
class Entry:
    """A log entry with its proof, neither of them checked."""

    index: int
    data: bytes
    proof: bytes

    @cached_property
    def envelope(self) -> Envelope:
        return Envelope.parse(self.data)


@dataclass(frozen=True, slots=True)
class CircuitFiles:
    """A circuit's description with its settings and verification key, which have the digests that it names."""

    description: CircuitDescription
    settings: bytes
    vk: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """The parts of a case. ``entries`` in the log's order; the others by root or digest (hex).

    ``circuits``, ``details``, ``points``, ``proofs``, ``srs`` and ``timestamps`` have the digests that they go by, which is all
    that was checked.
    """

    entries: tuple[Entry, ...]
    manifests: Mapping[str, Manifest]
    leaves: Mapping[str, bytes]
    removed: Mapping[str, tuple[int, ...]]
    circuits: Mapping[str, CircuitFiles] = field(default_factory=dict)
    details: Mapping[str, bytes] = field(default_factory=dict)
    points: Mapping[str, bytes] = field(default_factory=dict)
    proofs: Mapping[str, bytes] = field(default_factory=dict)
    srs: Mapping[str, bytes] = field(default_factory=dict)
    timestamps: Mapping[str, bytes] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        members = {"README.txt": _readme(stamped=bool(self.timestamps), detailed=bool(self.details))}
        for entry in self.entries:
            members[f"entries/{entry.index:012d}.dsse.json"] = entry.data
            members[f"entries/{entry.index:012d}.tlog-proof"] = entry.proof
        for root, manifest in self.manifests.items():
            members[f"tensors/{root}.json"] = manifest.to_json()
        for root, leaves in self.leaves.items():
            members[f"datasets/{root}.leaves"] = leaves
        for digest, positions in self.removed.items():
            members[f"removed/{digest}.json"] = canonical(list(positions), what="positions", error=BundleError)
        for digest, circuit in self.circuits.items():
            members[f"circuits/{digest}.json"] = circuit.description.to_json()
            members[f"circuits/{digest}.settings"] = circuit.settings
            members[f"circuits/{digest}.vk"] = pack(circuit.vk)
        for folder, suffix in _BY_CONTENT:
            for digest, content in getattr(self, folder).items():
                members[f"{folder}/{digest}.{suffix}"] = content
        return _zip(sorted(members.items()))

    @classmethod
    def parse(cls, data: bytes) -> "Bundle":
        """Raises BundleError for anything that :meth:`to_bytes` would not write."""
        members = _unzip(data)
        stamps = sum(name.startswith("timestamps/") for name in members)
        if stamps > MAX_TIMESTAMPS:
            raise BundleError(f"the bundle has {stamps} time stamps, expected at most {MAX_TIMESTAMPS}")
        detailed = any(name.startswith("details/") for name in members)
        if members.pop("README.txt", b"") != _readme(stamped=bool(stamps), detailed=detailed):
            raise BundleError("the bundle's README.txt is missing or is not the one of this format")
        entries: dict[int, dict[str, bytes]] = {}
        manifests: dict[str, Manifest] = {}
        leaves: dict[str, bytes] = {}
        removed: dict[str, tuple[int, ...]] = {}
        circuits: dict[str, dict[str, bytes]] = {}
        by_content: dict[str, dict[str, bytes]] = {folder: {} for folder, _ in _BY_CONTENT}
        for name, content in members.items():
            match = _MEMBER.fullmatch(name)
            assert match is not None  # _unzip has seen to it
            try:
                if match["entry"]:
                    entries.setdefault(int(match["index"]), {})[match["entry"]] = content
                elif match["tensors"]:
                    manifests[match["json"]] = Manifest.parse(content)
                elif match["removed"]:
                    positions = _positions(content)
                    removed[match["json"]] = tuple(positions)
                elif match["leaves"]:
                    leaves[match["leaves"]] = content
                elif match["part"]:
                    circuits.setdefault(match["circuit"], {})[match["part"]] = content
                else:
                    [folder] = [folder for folder, _ in _BY_CONTENT if match[folder]]
                    _check_content(match[folder], content)
                    by_content[folder][match[folder]] = content
            except CertifyError as error:
                raise BundleError(f"{name}: {error}") from error
        return cls(
            tuple(_entry(index, parts) for index, parts in sorted(entries.items())),
            manifests,
            leaves,
            removed,
            {digest: _circuit(digest, parts) for digest, parts in circuits.items()},
            **by_content,
        )


def _readme(*, stamped: bool, detailed: bool) -> bytes:
    return (README + README_TIMESTAMPS * stamped + README_DETAILS * detailed).encode()


def _check_content(digest: str, content: bytes) -> None:
    found = sha256(content).hexdigest()
    if found != digest:
        raise BundleError(f"expected content of SHA-256 {digest}, it has {found}")


def _circuit(digest: str, parts: Mapping[str, bytes]) -> CircuitFiles:
    if set(parts) != {"json", "settings", "vk"}:
        raise BundleError(f"circuit {digest[:16]} has only {', '.join(sorted(parts))}, expected json, settings and vk")
    what = f"the description of circuit {digest[:16]}"
    description = decode(parts["json"], CircuitDescription, limit=MAX_CIRCUIT_SIZE, what=what, error=BundleError)
    if description.digest != digest:
        raise BundleError(f"{what} has SHA-256 {description.digest}")
    try:
        vk = unpack(parts["vk"])
    except ZkProofError as error:
        raise BundleError(f"circuit {digest[:16]}: {error}") from error
    for name, data, stated in (("settings", parts["settings"], description.settings), ("vk", vk, description.vk)):
        found = sha256(data).hexdigest()
        if found != stated:
            raise BundleError(f"the {name} of circuit {digest[:16]} has SHA-256 {found}, its description says {stated}")
    return CircuitFiles(description, parts["settings"], vk)


def _positions(content: bytes) -> list[int]:
    """A canonical JSON list of integers; for these msgspec writes what RFC 8785 asks for."""
    if len(content) > MAX_POSITIONS_SIZE:
        raise BundleError(f"{len(content):,} bytes of positions, expected at most {MAX_POSITIONS_SIZE:,}")
    try:
        positions = msgspec.json.decode(content, type=list[Position])
    except msgspec.DecodeError as error:
        raise BundleError(f"not a list of positions: {error}") from error
    if msgspec.json.encode(positions) != content:
        raise BundleError("the list of positions is not in canonical form")
    return positions


def _entry(index: int, parts: Mapping[str, bytes]) -> Entry:
    if set(parts) != {"dsse.json", "tlog-proof"}:
        raise BundleError(f"entry {index} has only {' and '.join(parts)}, expected a statement and a proof")
    entry = Entry(index, parts["dsse.json"], parts["tlog-proof"])
    try:
        _ = entry.envelope
        TlogProof.parse(entry.proof)
    except (CertifyError, LedgerError) as error:
        raise BundleError(f"entry {index}: {error}") from error
    return entry


def _zip(members: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _unzip(data: bytes) -> dict[str, bytes]:
    """Members by name: walks along what :func:`_zip` writes, never trusting a stated size beyond the bytes at hand."""
    if len(data) > MAX_BUNDLE_SIZE:
        raise BundleError(f"the bundle has {len(data):,} bytes, expected at most {MAX_BUNDLE_SIZE:,}")
    if not data.startswith(_LOCAL_MAGIC):
        raise BundleError(f"not a bundle: it starts {data[:8]!r}, expected a zip file")
    members: dict[str, bytes] = {}
    at = 0
    while data.startswith(_LOCAL_MAGIC, at):
        name, start, size = _local_header(data, at)
        if name in members:
            raise BundleError(f"the bundle has the member {name} twice")
        if len(members) == MAX_MEMBERS:
            raise BundleError(f"the bundle has more than {MAX_MEMBERS:,} members")
        at = start + size
        members[name] = data[start:at]
    if _zip(sorted(members.items())) != data:
        raise BundleError(
            "the bundle is not in its only form: members stored, in order, without times, comments or anything in between"
        )
    return members


def _local_header(data: bytes, at: int) -> tuple[str, int, int]:
    """Name, start and size of the member whose header is at ``at``."""
    if len(data) < at + _LOCAL.size:
        raise BundleError("the bundle ends in the middle of a member")
    _, method, packed, size, name_size, extra_size = _LOCAL.unpack_from(data, at)
    start = at + _LOCAL.size + name_size
    name = data[at + _LOCAL.size : start].decode("ascii", "replace")
    match = _MEMBER.fullmatch(name)
    if match is None:
        raise BundleError(f"the bundle has a member {name[:120]!r}, which is none that belongs there")
    if method or packed != size or extra_size:
        raise BundleError(f"member {name} is compressed or has extra fields, expected stored")
    limit = len(data) - start
    if match["entry"] == "dsse.json":
        limit = MAX_ENVELOPE_SIZE
    elif match["timestamps"]:
        limit = MAX_TIMESTAMP_SIZE
    if size > limit:
        raise BundleError(f"member {name} claims {size:,} bytes, expected at most {limit:,}")
    return name, start, size


def write(path: Path, bundle: Bundle) -> Path:
    """Write a bundle, complete or not at all; replaces an existing file."""
    write_file(path, bundle.to_bytes())
    return path
