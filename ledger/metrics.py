"""What a served log counts, in Prometheus's text format (``/metrics``).

::

    ledger_appends_total 4096.0
    ledger_refusals_total{reason="AdmissionError"} 2.0
    ledger_tree_size 4096.0
"""

from ledger.errors import MissingExtraError, StorageError
from ledger.group_commit import Batch

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
except ModuleNotFoundError as missing:
    raise MissingExtraError(
        "expected the package prometheus-client: pip install 'unlearning-ledger[serve]'"
    ) from missing

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_ENTRIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """One server's figures, in a registry of their own. Any thread may count."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.appends = Counter("ledger_appends", "Entries added to the log.", registry=registry)
        self.duplicates = Counter("ledger_duplicates", "Appends of what was logged before.", registry=registry)
        self.refusals = Counter(
            "ledger_refusals", "Appends that were refused, by the error's class.", ["reason"], registry=registry
        )
        self.storage_errors = Counter("ledger_storage_errors", "Failures of the database.", registry=registry)
        self.reads = Counter("ledger_tile_reads", "Tiles and bundles served.", ["cached"], registry=registry)
        self.cached_read, self.other_read = self.reads.labels("yes"), self.reads.labels("no")
        self.size = Gauge("ledger_tree_size", "Entries in the log.", registry=registry)
        self.waiting = Gauge("ledger_waiting", "Entries that wait to be logged.", registry=registry)
        self.seconds = Histogram(
            "ledger_append_seconds", "From the request to its proof.", buckets=_SECONDS, registry=registry
        )
        self.commit_seconds = Histogram(
            "ledger_commit_seconds", "A transaction with its proofs.", buckets=_SECONDS, registry=registry
        )
        self.batch = Histogram("ledger_batch_entries", "Entries in a transaction.", buckets=_ENTRIES, registry=registry)

    def committed(self, batch: Batch) -> None:
        """Count one transaction."""
        self.batch.observe(batch.entries)
        self.commit_seconds.observe(batch.seconds)
        if batch.error is None:
            self.appends.inc(batch.new)
            self.duplicates.inc(batch.entries - batch.new)
        self.failed(batch.error)

    def failed(self, error: Exception | None) -> None:
        if isinstance(error, StorageError):
            self.storage_errors.inc()

    def text(self) -> bytes:
        return bytes(generate_latest(self._registry))
