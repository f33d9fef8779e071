"""What a circuit will cost, from its settings, before anything starts.

Time and memory grow with the cells that a circuit fills (``total_assignments``, plus the committed columns), and
hardly with logrows, since EZKL goes on in further columns where rows run out. The line is fitted to 40x5 and 569x30 at
logrows 11, on two cores::

    seconds = 0.8 + 65e-6 cells        bytes = 0.05e9 + 3.35e3 cells

A slower or a busier machine takes up to three times the seconds; the memory is the same. A zk proof is as long as its
columns of 2**logrows - 6 rows are many, counted in pairs of EZKL's inner columns::

    size = 1450 + 2307 columns

Each table beyond the two of every integer circuit (digits, signs) adds to the time, the memory and the length of each
column. One that does not fit a single column of 2**logrows rows raises the degree of the circuit, and that multiplies
time and memory: by five where it takes eight. These are fitted to 569x30 with a sigmoid of 15,617 entries at logrows 11,
14 and 15, and of 73,819 at 16.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from circuits.commitment import usable_rows

SECONDS = (0.8, 65e-6)
SETUP_SECONDS = (0.6, 55e-6)
MEMORY = (0.05e9, 3.35e3)
PROOF = (1450, 2307)
TABLES = 2
TABLE_SECONDS, TABLE_MEMORY, TABLE_PROOF = 0.1, 0.35, 540
"""What each further table adds, to 1 or to bytes of proof."""
SPILL, SPILL_SETUP, SPILL_PROOF = 0.5, 0.15, 200
"""What each column of a table that needs several adds."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cells, seconds of proving and of setup, bytes of memory of the larger of the two, and bytes of the zk proof."""

    cells: int
    seconds: float
    setup_seconds: float
    memory: int
    proof_size: int


def estimate(settings: bytes) -> Estimate:
    """From a circuit's settings."""
    fields = json.loads(settings)
    logrows = int(fields["run_args"]["logrows"])
    cells = int(fields["total_assignments"]) + sum(fields["module_sizes"]["polycommit"])
    cells = max(cells, 1 << logrows)
    inner = int(fields["run_args"]["num_inner_cols"])
    columns = math.ceil(int(fields["num_rows"]) / usable_rows(logrows)) * inner / 2
    further = len(fields["required_range_checks"]) + len(fields["required_lookups"]) - TABLES
    lowest, highest = fields["run_args"]["lookup_range"]
    spilled = (highest - lowest) // usable_rows(logrows)  # columns beyond the first
    degree = 1 + SPILL * (spilled + 1) * (spilled > 0)
    time, setup, memory = (a + b * cells for a, b in (SECONDS, SETUP_SECONDS, MEMORY))
    time *= (1 + TABLE_SECONDS * further) * degree
    setup *= 1 + SPILL_SETUP * spilled
    memory *= (1 + TABLE_MEMORY * further) * degree
    size = PROOF[0] + columns * (PROOF[1] + TABLE_PROOF * further + SPILL_PROOF * spilled)
    return Estimate(cells, time, setup, int(memory), int(size))


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
