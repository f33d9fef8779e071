"""What a circuit will cost, from its settings, before anything starts.

Time and memory grow with the cells that a circuit fills (``total_assignments``, plus the committed columns), and
hardly with logrows, since EZKL goes on in further columns where rows run out. The line is fitted to 40x5 and 569x30 at
logrows 11, on two cores::

    seconds = 0.8 + 65e-6 cells        bytes = 0.33e9 + 2.8e3 cells

A slower or a busier machine takes up to three times the seconds; the memory is the same.
"""

import json
from dataclasses import dataclass
from pathlib import Path

SECONDS = (0.8, 65e-6)
SETUP_SECONDS = (0.6, 55e-6)
MEMORY = (0.33e9, 2.8e3)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cells, seconds of proving and of setup, bytes of memory of the larger of the two."""

    cells: int
    seconds: float
    setup_seconds: float
    memory: int


def estimate(settings: bytes) -> Estimate:
    """From a circuit's settings."""
    fields = json.loads(settings)
    cells = int(fields["total_assignments"]) + sum(fields["module_sizes"]["polycommit"])
    cells = max(cells, 1 << int(fields["run_args"]["logrows"]))
    time, setup, memory = (a + b * cells for a, b in (SECONDS, SETUP_SECONDS, MEMORY))
    return Estimate(cells, time, setup, int(memory))


def available_memory() -> int | None:
    """Bytes that this process can have, by the kernel and by its control group; None where neither says."""
    found: list[int] = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = (line.split() for line in meminfo.read_text().splitlines())
        found += [int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:"]
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text(), (group / "memory.current").read_text()
        found.append(max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        pass  # no limit, or no control group
    return min(found, default=None)
