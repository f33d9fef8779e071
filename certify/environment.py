"""What ran a model: versions, threads, determinism flags, device and code, as far as they may affect bits.

Nothing that names a person or a machine is recorded: no host, no user, no path.
"""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from certify.statement import Code, Environment

LIBRARIES = ("numpy", "safetensors", "scikit-learn", "torch", "unlearning-ledger")
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "PYTHONHASHSEED",
)


def describe(code: Path | None = None) -> Environment:
    """The environment of this process. torch is asked only if it is loaded.

    ``code`` is a folder in the git work tree of the code that ran, by default the main script's (without one, this folder).
    """
    settings = {name: value for name in VARIABLES if (value := os.environ.get(name)) is not None}
    threads, device = os.cpu_count() or 1, "cpu"
    torch = sys.modules.get("torch")
    if torch is not None:
        threads = torch.get_num_threads()
        settings |= {
            "torch.deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled()).lower(),
            "torch.interop_threads": str(torch.get_num_interop_threads()),
            "torch.cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "torch.default_dtype": str(torch.get_default_dtype()),
        }
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            device = torch.cuda.get_device_name()
            settings["torch.cudnn.deterministic"] = str(torch.backends.cudnn.deterministic).lower()
            settings["torch.cudnn.benchmark"] = str(torch.backends.cudnn.benchmark).lower()
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        libraries={name: installed for name in LIBRARIES if (installed := _version(name))},
        threads=threads,
        device=device,
        settings=settings,
        code=_commit(code or _main_folder()),
    )


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
