# SPDX-License-Identifier: Apache-2.0
"""Counters of a hub for Prometheus: rounds, latencies, bytes, devices, failures; nothing about one device.

In: events from app and driver.  Out: the text of `GET /metrics` on its own listener (loopback by default).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

# Rounds take from about a second (demo) to a day.
SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 300, 1800, 7200, 43200)


class Metrics:
    """One registry a process."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.rounds = Counter(
            "edgefl_rounds", "Rounds that ended, by task and outcome", ["task", "outcome"], registry=r
        )
        self.phase = Histogram(
            "edgefl_round_seconds",
            "Time from opening a round to each state",
            ["state"],
            buckets=SECONDS,
            registry=r,
        )
        self.requests = Histogram(
            "edgefl_request_seconds", "Time to answer, by route", ["route"], buckets=SECONDS, registry=r
        )  # fmt: skip
        self.received = Counter(
            "edgefl_received_bytes", "Bytes of accepted reports, by part", ["part"], registry=r
        )
        self.sent = Counter("edgefl_sent_bytes", "Bytes of blobs sent", registry=r)
        self.reports = Counter("edgefl_reports", "Reports, by outcome", ["outcome"], registry=r)
        self.declined = Counter("edgefl_declined", "Invitations that devices declined", registry=r)
        self.refused = Counter("edgefl_refused_requests", "Refused requests, by code", ["code"], registry=r)
        self.failures = Counter(
            "edgefl_failures", "Failures of the hub itself, by place", ["place"], registry=r
        )
        self.devices = Gauge(
            "edgefl_devices", "Devices: enrolled, of these live; revoked", ["state"], registry=r
        )

    def app(self) -> Starlette:
        """Return the application of the metrics listener."""

        async def metrics(_: Request) -> Response:
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

        return Starlette(routes=[Route("/metrics", metrics)])
