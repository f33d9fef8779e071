"""EZKL, wrapped once: bytes in, values out, in a child process.

::

    parameters = fixed_point(bound=2**32, logrows=11)         # base 2040, 3 legs
    circuit = compile(onnx, parameters)
    keys = setup(circuit, srs_path)                           # cached by content
    proved = prove(circuit, [records, weights, forgotten], srs_path, keys)
    proved.proof, proved.instances, proved.commitments

Circuits compute with integers: every scale is 0, so nothing is rescaled, calibrated or rounded, and a public output is
exactly what the module's equation says. Inputs are committed (KZG), parameters fixed, outputs public. What is taken
apart (range checks, comparisons, ReLU) must lie within ±base^legs; ``mock`` says so before a proof is tried.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from circuits import child
from circuits.errors import ProverError, ResourceError
from circuits.estimate import Estimate, available_memory, estimate
from circuits.fixed_point import FixedPoint
from circuits.zk_proof import Proof, felt

SECONDS = 24 * 3600.0
Progress = Callable[[str, float], None]
"""Called with a stage's name as it starts and the seconds that are thought to be left."""


def _silent(stage: str, left: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Circuit:
    """``onnx`` and ``settings`` say what is proven and are the same bytes each time; ``compiled`` is EZKL's form of
    them, and is not.
    """

    onnx: bytes
    settings: bytes
    compiled: bytes

    @property
    def logrows(self) -> int:
        return int(json.loads(self.settings)["run_args"]["logrows"])

    def estimate(self) -> Estimate:
        """Of setup and of proving."""
        return estimate(self.settings)


@dataclass(frozen=True, slots=True)
class Keys:
    """A verification key, and where its proving key lies (hundreds of megabytes)."""

    vk: bytes
    pk: Path
    usage: child.Usage | None = None
    """What making them took; None where they came from the cache."""


@dataclass(frozen=True, slots=True)
class Proved:
    """A zk proof in :mod:`circuits.zk_proof`'s bytes, its public values, and the points of each committed input,
    compressed.
    """

    proof: bytes
    instances: tuple[int, ...]
    commitments: tuple[tuple[bytes, ...], ...]
    usage: child.Usage


def compile(onnx: bytes, parameters: FixedPoint) -> Circuit:
    """A circuit from ONNX. Raises :class:`ProverError` where EZKL cannot express it."""
    with child.folder() as work:
        (work / "onnx").write_bytes(onnx)
        call = child.Call("gen_settings", {"model": "onnx", "output": "settings", "run_args": parameters.run_args()})
        child.run([call], work, seconds=600, error=ProverError)
        settings = canonical_settings((work / "settings").read_bytes())
        (work / "settings").write_bytes(settings)
        call = child.Call(
            "compile_circuit", {"model": "onnx", "compiled_circuit": "compiled", "settings_path": "settings"}
        )
        child.run([call], work, seconds=600, error=ProverError)
        return Circuit(onnx, settings, (work / "compiled").read_bytes())


def canonical_settings(raw: bytes) -> bytes:
    """EZKL's settings without the time, with their sets in order: the same bytes for the same circuit."""
    fields = json.loads(raw)
    fields["timestamp"] = 0
    for name in ("required_lookups", "required_range_checks"):
        fields[name] = sorted(fields[name], key=json.dumps)
    fields["num_rows"] = fields["total_assignments"] // fields["run_args"]["num_inner_cols"]  # EZKL's count has a race
    equations = fields["einsum_params"]["equations"]
    fields["einsum_params"]["equations"] = sorted(equations, key=lambda item: json.dumps(item, sort_keys=True))
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def cache_folder() -> Path:
    """Where proving keys are kept: ``$XDG_CACHE_HOME/unlearning-ledger/keys``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unlearning-ledger" / "keys"


def setup(
    circuit: Circuit, srs: Path, *, cache: Path | None = None, memory: int | None = None, progress: Progress = _silent
) -> Keys:
    """The keys of a circuit under a reference string; from the cache where this was done before.

    ``memory``: bytes that it may take; what the machine has available where None. Raises :class:`ResourceError` before
    it starts.
    """
    cache = cache or cache_folder()
    digests = [hashlib.sha256(part).digest() for part in (circuit.onnx, circuit.settings, srs.read_bytes())]
    home = cache / hashlib.sha256(b"".join(digests)).hexdigest()
    usage = None
    if not (home / "vk").is_file():
        expected = _fits(circuit, memory)
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix="new-", dir=cache, ignore_cleanup_errors=True) as name:
            work, made = Path(name), Path(name) / "made"
            made.mkdir()
            (work / "compiled").write_bytes(circuit.compiled)
            paths = {"model": "compiled", "vk_path": "made/vk", "pk_path": "made/pk", "srs_path": str(srs.resolve())}
            call = child.Call("setup", {**paths, "disable_selector_compression": False})
            progress("setup", expected.setup_seconds)
            usage = child.run([call], work, seconds=SECONDS, memory=_address_space(memory), error=ProverError)
            with contextlib.suppress(OSError):  # another process was quicker
                made.rename(home)
    return Keys((home / "vk").read_bytes(), home / "pk", usage)


def prove(
    circuit: Circuit,
    inputs: Sequence[Sequence[int]],
    srs: Path,
    keys: Keys,
    *,
    memory: int | None = None,
    seconds: float = SECONDS,
    progress: Progress = _silent,
) -> Proved:
    """A zk proof that the circuit, on ``inputs`` (the flattened committed tensors, integers), gives the instances.

    Raises :class:`ResourceError` before it starts where it would not fit, :class:`ProverError` where an integer is out
    of range, the process is killed or takes longer than ``seconds``. The inputs are gone from disk afterwards in every
    case.
    """
    _in_range(circuit, inputs)
    expected = _fits(circuit, memory)
    left = {"gen_witness": expected.seconds, "mock": expected.seconds * 0.97, "prove": expected.seconds * 0.9}
    with child.folder() as work:
        (work / "compiled").write_bytes(circuit.compiled)
        (work / "vk").write_bytes(keys.vk)
        (work / "input").write_text(json.dumps({"input_data": [[felt(v).hex() for v in values] for values in inputs]}))
        model, srs_path = {"model": "compiled"}, {"srs_path": str(srs.resolve())}
        calls = [
            child.Call("gen_witness", {**model, **srs_path, "data": "input", "output": "witness", "vk_path": "vk"}),
            child.Call("mock", {**model, "witness": "witness"}),
            child.Call(
                "prove", {**model, **srs_path, "witness": "witness", "pk_path": str(keys.pk), "proof_path": "proof"}
            ),
        ]
        usage = child.run(
            calls,
            work,
            seconds=seconds,
            memory=_address_space(memory),
            error=ProverError,
            on_stage=lambda stage: progress(stage, left[stage]),
        )
        proof = Proof.from_ezkl((work / "proof").read_bytes())
        points = json.loads((work / "witness").read_bytes())["processed_inputs"]["polycommit"]
    return Proved(proof.format(), proof.instances, tuple(tuple(map(bytes.fromhex, tensor)) for tensor in points), usage)


def _in_range(circuit: Circuit, inputs: Sequence[Sequence[int]]) -> None:
    fields = json.loads(circuit.settings)
    lengths = fields["module_sizes"]["polycommit"]
    if [len(values) for values in inputs] != lengths:
        raise ProverError(f"expected inputs of {lengths} values, got {[len(values) for values in inputs]}")
    largest = fields["run_args"]["decomp_base"] ** fields["run_args"]["decomp_legs"] - 1
    for index, values in enumerate(inputs):
        place = next((place for place, value in enumerate(values) if abs(value) > largest), None)
        if place is not None:
            raise ProverError(f"expected values within ±{largest}, got another at place {place} of input {index}")


def _fits(circuit: Circuit, memory: int | None) -> Estimate:
    expected = circuit.estimate()
    limit = available_memory() if memory is None else memory
    if limit is not None and expected.memory > limit:
        raise ResourceError(
            f"expected about {expected.memory / 1e9:.1f} GB for {expected.cells} cells at logrows {circuit.logrows},"
            f" there are {limit / 1e9:.1f} GB; fewer rows or features, or a smaller bound, take less"
        )
    return expected


def _address_space(memory: int | None) -> int | None:
    """A limit on address space for a limit on memory: the proving key is mapped as well, and threads reserve theirs."""
    return None if memory is None else 2 * memory + (4 << 30)
