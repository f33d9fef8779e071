"""What can go wrong in circuits: one family, a class only where a caller would do something different.

Messages say what was expected and what came::

    SrsError: expected 262404 bytes for logrows 11, got 262400
"""


class CircuitError(Exception):
    """Base of everything this package raises on purpose."""


class SrsError(CircuitError):
    """A structured reference string is malformed, damaged or not the one that was asked for."""


class CommitmentError(CircuitError):
    """A commitment or an opening is malformed, does not hold, or is of a shape that cannot be committed to."""


class QuantizeError(CircuitError):
    """A number cannot be written as an integer over the scale within the stated range."""


class ProverError(CircuitError):
    """Proving failed, or the process that did it was killed."""


class ResourceError(ProverError):
    """A circuit would not fit into the memory or the time there is."""


class ZkProofError(CircuitError):
    """A zero-knowledge proof does not hold for the expected commitments, circuit and reference string."""
