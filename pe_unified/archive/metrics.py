"""Metrics for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pe_unified.archive import overview
from pe_unified.archive.spool import Spool
from pe_unified.archive.store import Store


class Metrics(Collector):
    """Counts of the present queue, and of events since the start of the process.

    Attributes:
        images: received, by outcome.
        sendings: results, by destination and outcome.
        seconds: durations of analyses.
    """

    def __init__(self, store: Store, spool: Spool) -> None:
        self.store, self.spool = store, spool
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.images = Counter(
            "pe_unified_images", "Images received", ["outcome"], registry=self.registry
        )
        self.sendings = Counter(
            "pe_unified_sendings",
            "Results sent",
            ["destination", "outcome"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "pe_unified_analysis_seconds",
            "Time of an analysis",
            buckets=(5, 15, 30, 60, 120, 300, 600, 1800),
            registry=self.registry,
        )

    def collect(self) -> Iterator[Metric]:
        """Read from the queue at each request."""
        studies = GaugeMetricFamily("pe_unified_studies", "Studies by state", labels=["state"])
        for state, count in overview.counts(self.store).items():
            studies.add_metric([state], count)
        yield studies
        waiting = GaugeMetricFamily(
            "pe_unified_results_waiting", "Results not sent yet", labels=["destination"]
        )
        for name, count in overview.waiting_results(self.store).items():
            waiting.add_metric([name], count)
        yield waiting
        verdicts = GaugeMetricFamily(
            "pe_unified_verdicts", "Analysed studies by verdict", labels=["verdict"]
        )
        for name, count in overview.verdicts(self.store).items():
            verdicts.add_metric([name], count)
        yield verdicts
        oldest = overview.oldest_waiting(self.store)
        age = 0.0 if oldest is None else max(0.0, self.store.clock() - oldest)
        yield GaugeMetricFamily(
            "pe_unified_oldest_waiting_seconds", "Age of the study that waits longest", value=age
        )
        yield GaugeMetricFamily(
            "pe_unified_disk_free_bytes", "Room on the disk", value=1e9 * self.spool.free_gb()
        )

    def text(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
