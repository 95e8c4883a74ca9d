"""The router's controller: turns Routes into HAProxy's configuration, and tells each Route whether it is served."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from .cluster import Cluster, ConflictError, NotFoundError, Object
from .configuration import Configuration
from .controller import Controller
from .informer import Informer, key_of
from .resources import ROUTES
from .routes import Endpoints, Refusal, admit, served

NAME = "default"
ALL = "all"

_log = logging.getLogger(__name__)


class Router(Controller):
    """Serves all Routes at once: whichever changes, the whole configuration is made anew."""

    # Several changes that belong together come as several events.
    patience_s = 0.05

    def __init__(
        self, cluster: Cluster, routes: Informer, slices: Informer, configuration: Configuration, canonical_host: str
    ) -> None:
        super().__init__()
        self._cluster = cluster
        self._routes = routes
        self._slices = slices
        self._configuration = configuration
        self._canonical_host = canonical_host
        self._loaded = False
        for informer in (routes, slices):
            informer.listeners.append(lambda _: self.enqueue(ALL))
        # Also where there is no Route: what HAProxy has may be from before.
        self.enqueue(ALL)

    def reconcile(self, key: str) -> None:  # noqa: ARG002 - there is one
        """Bring HAProxy and the Routes' status up to date."""
        routes = {key_of(route): route for route in self._routes.all()}
        decisions = admit(routes.values())
        endpoints = Endpoints(self._slices.all())
        wanted = [served(routes[name], endpoints) for name, refusal in decisions.items() if refusal is None]
        if self._configuration.put(wanted) or not self._loaded:
            self._loaded = False
            self._configuration.reload()
            self._loaded = True
            _log.info("%d routes are served, %d refused", len(wanted), len(decisions) - len(wanted))
        for name, refusal in decisions.items():
            self._tell(routes[name], refusal)

    def _tell(self, route: Object, refusal: Refusal | None) -> None:
        before = (route.get("status") or {}).get("ingress") or []
        ours: Object = next((entry for entry in before if entry.get("routerName") == NAME), {})
        entry = ingress(route, refusal, ours, self._canonical_host)
        if entry == ours:
            return
        others = [entry for entry in before if entry.get("routerName") != NAME]
        metadata = route["metadata"]
        try:
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": {"ingress": [*others, entry]}}
            self._cluster.patch(ROUTES, metadata["name"], body, metadata["namespace"], "status")
        except (ConflictError, NotFoundError):
            # What it has become comes with the watch.
            return


def ingress(route: Object, refusal: Refusal | None, before: Mapping[str, object], canonical_host: str) -> Object:
    """What a Route's status says of this router."""
    condition = {"type": "Admitted", "status": "False" if refusal else "True"}
    if refusal:
        condition |= {"reason": refusal.reason, "message": refusal.message}
    conditions = before.get("conditions")
    old = conditions[0] if isinstance(conditions, list) and conditions else {}
    when = old.get("lastTransitionTime")
    if {name: value for name, value in old.items() if name != "lastTransitionTime"} != condition or not when:
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "host": route["spec"].get("host", ""),
        "routerName": NAME,
        "conditions": [{**condition, "lastTransitionTime": when}],
        "wildcardPolicy": route["spec"].get("wildcardPolicy", "None"),
        "routerCanonicalHostname": canonical_host,
    }
