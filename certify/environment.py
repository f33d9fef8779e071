"""What ran a model: versions, threads, determinism flags, device and code, as far as they may affect bits.

All that a replay has to be given again (:mod:`certify.replay`) is here: variables that torch, MKL, oneDNN, OpenBLAS, OpenMP and
numpy read when they are loaded, torch's own switches, and the CPU, since libraries choose their kernels by it. Nothing that names
a person or a machine is recorded: no host, no user, no path.
"""

import os
import platform
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from certify.statement import Code, Environment

LIBRARIES = (
    "numpy",
    "opacus",
    "pandas",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
    "unlearning-ledger",
)
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "KMP_DETERMINISTIC_REDUCTION",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "OMP_SCHEDULE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Read once, by libraries as they are loaded: a replay sets them before its process starts."""


def describe(code: Path | None = None) -> Environment:
    """The environment of this process. torch is asked only if it is loaded.

    ``code`` is a folder in the git work tree of the code that ran, by default the main script's (without one, this folder).
    """
    settings = {name: value for name in VARIABLES if (value := os.environ.get(name)) is not None}
    settings |= {"cpu": _cpu(), "cpus": str(_cpus())}
    threads, device = os.cpu_count() or 1, "cpu"
    torch = sys.modules.get("torch")
    if torch is not None:
        threads = torch.get_num_threads()
        settings |= _switches(torch)
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            device = torch.cuda.get_device_name()
            settings |= _cuda_switches(torch)
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        libraries={name: installed for name in LIBRARIES if (installed := _version(name))},
        threads=threads,
        device=device,
        settings=settings,
        code=_commit(code or _main_folder()),
    )


def _switches(torch: Any) -> dict[str, str]:
    """What code may have switched in torch, and which kernels it takes."""
    tiny = torch.tensor(5e-324, dtype=torch.float64)  # the smallest number: 0 if denormals are flushed
    return {
        "torch.build": sha256(torch.__config__.show().encode()).hexdigest()[:16],
        "torch.cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch.default_dtype": str(torch.get_default_dtype()),
        "torch.deterministic_algorithms": _flag(torch.are_deterministic_algorithms_enabled()),
        "torch.deterministic_warn_only": _flag(torch.is_deterministic_algorithms_warn_only_enabled()),
        "torch.float32_matmul_precision": torch.get_float32_matmul_precision(),
        "torch.flush_denormal": _flag(float(tiny * 1) == 0),
        "torch.interop_threads": str(torch.get_num_interop_threads()),
        "torch.mkldnn": _flag(torch._C._get_mkldnn_enabled()),
    }


def _cuda_switches(torch: Any) -> dict[str, str]:
    return {
        "torch.cuda": str(torch.version.cuda),
        "torch.cuda.matmul.allow_tf32": _flag(torch.backends.cuda.matmul.allow_tf32),
        "torch.cudnn": str(torch.backends.cudnn.version()),
        "torch.cudnn.allow_tf32": _flag(torch.backends.cudnn.allow_tf32),
        "torch.cudnn.benchmark": _flag(torch.backends.cudnn.benchmark),
        "torch.cudnn.deterministic": _flag(torch.backends.cudnn.deterministic),
        "torch.cudnn.enabled": _flag(torch.backends.cudnn.enabled),
    }


def _flag(value: bool) -> str:
    return str(bool(value)).lower()


def _cpu() -> str:
    """The first CPU's model, as the system names it: ``Intel(R) Xeon(R) Processor, family 6, model 143, stepping 8``."""
    told: dict[str, str] = {}
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                name, colon, value = line.partition(":")
                if not colon:
                    break
                told[name.strip()] = " ".join(value.split())[:160]
    except OSError:
        pass
    model = told.get("model name") or platform.processor() or "unknown"
    numbers = (("family", "cpu family"), ("model", "model"), ("stepping", "stepping"))
    return ", ".join([model, *(f"{what} {told[name]}" for what, name in numbers if name in told)])


def _cpus() -> int:
    """How many CPUs this process may use: libraries start as many threads unless they are told."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _main_folder() -> Path:
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(script).resolve().parent if script else Path.cwd()


def _commit(folder: Path) -> Code | None:
    def git(*arguments: str) -> str:
        # The repository may be anybody's: none of its programs run, and none of our variables (a password) reach git.
        command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *arguments]
        variables = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10, env=variables)
        return done.stdout.strip()

    try:
        return Code(git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.SubprocessError):
        return None
