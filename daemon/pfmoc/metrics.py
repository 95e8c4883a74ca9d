"""What the daemon counts, in Prometheus's format. No label holds a job id, a user or a path: routes stand as their templates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

JobCounts = Callable[[], Mapping[tuple[str, str], int]]
"""How many jobs there are of each kind and phase."""

_LAG_PERIOD_S = 0.25
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Seconds. Status requests take milliseconds, an upload of a study half an hour."""


class Metrics:
    """The counters of one daemon, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "pfmoc_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "pfmoc_http_request_seconds",
            "Seconds from the head of a request to the end of its handler.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge("pfmoc_http_requests_in_flight", "Requests being handled.", registry=self.registry)
        self.received = Counter("pfmoc_http_request_bytes", "Bytes of request bodies read.", registry=self.registry)
        self.sent = Counter("pfmoc_http_response_bytes", "Bytes of answers' bodies written.", registry=self.registry)
        self.login_failures = Counter("pfmoc_login_failures", "Logins refused, by reason.", ("reason",), registry=self.registry)
        self._lag = Gauge("pfmoc_event_loop_lag_seconds", "How late the event loop last was for a timer.", registry=self.registry)
        self._lag_max = Gauge(
            "pfmoc_event_loop_lag_max_seconds", "How late it was at worst since the last scrape.", registry=self.registry
        )

    def count_jobs(self, counts: JobCounts) -> None:
        """Show jobs by kind and phase, asked for at each scrape."""
        self.registry.register(_JobCollector(counts))

    def show_age(self, age: Callable[[], float | None]) -> None:
        """Show how old answers are, asked for at each scrape."""
        gauge = Gauge(
            "pfmoc_answers_age_seconds",
            "Seconds since what is answered of jobs was last confirmed; 0 while it is in step.",
            registry=self.registry,
        )
        gauge.set_function(lambda: age() or 0.0)

    @asynccontextmanager
    async def measured_loop(self) -> AsyncIterator[None]:
        """Measure the event loop's lag for as long as the context lasts."""
        task = asyncio.create_task(self._measure_lag(), name="event loop lag")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def page(self) -> web.Response:
        """The page that Prometheus scrapes."""
        body = generate_latest(self.registry)
        self._lag_max.set(0)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        worst = 0.0
        while True:
            due = loop.time() + _LAG_PERIOD_S
            await asyncio.sleep(_LAG_PERIOD_S)
            lag = max(0.0, loop.time() - due)
            self._lag.set(lag)
            worst = max(self._worst(), lag)
            self._lag_max.set(worst)

    def _worst(self) -> float:
        return self.registry.get_sample_value("pfmoc_event_loop_lag_max_seconds") or 0.0


class _JobCollector(Collector):
    def __init__(self, counts: JobCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("pfmoc_jobs", "Jobs that have not ended.", labels=("kind", "phase"))
        for labels, number in sorted(self._counts().items()):
            family.add_metric([str(label) for label in labels], number)
        yield family

    def describe(self) -> Iterable[Metric]:
        return ()
