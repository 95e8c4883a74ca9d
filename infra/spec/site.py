"""The site file, whole."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infra.spec.base import Model, Name
from infra.spec.clouds import Clouds
from infra.spec.daemon import Daemon
from infra.spec.node_pools import NodePool
from infra.spec.queueing import Queueing
from infra.spec.tenant import Tenant


class State(Model):
    """Where Pulumi keeps what it knows."""

    url: Annotated[str, Field(pattern=r"^(file|s3)://")] | None = None
    """The backend: `file://DIRECTORY`, or `s3://BUCKET?...` for Swift's S3. Default: a directory below the cache."""


class Site(Model):
    """A site: what its clouds and hosts are to be. The stack and the inventory have its name."""

    name: Name
    """The site's name: that of its directory below inventories/, and of Pulumi's stack."""
    description: str = ""
    """What the site is."""
    clouds: Clouds = Clouds()
    """Which clouds it uses. None: the daemon runs on hosts alone."""
    tenants: tuple[Tenant, ...] = ()
    """Who has projects there."""
    node_pools: tuple[NodePool, ...] = ()
    """The machines that jobs run on."""
    queueing: Queueing = Queueing()
    """Who goes first, and who may use what others leave idle."""
    daemon: Daemon = Daemon()
    """The daemon."""
    allow_destroy: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Resources that may be deleted with the data they hold, or shrunk below their use: `tenant/chris`, `container/chris/data`,
    `node-pool/gpu`. Else such a plan is refused."""
    quarantine_days: Annotated[int, Field(ge=0)] = 30
    """Days that a tenant stays in quarantine before `purge` deletes it without being asked twice."""
    state: State = State()
    """Where Pulumi keeps what it knows."""

    def tenant(self, name: str) -> Tenant:
        """The tenant of a name."""
        return next(tenant for tenant in self.tenants if tenant.name == name)
