"""What the daemon needs of its tenant."""

from __future__ import annotations

from collections.abc import Iterator

from infra.spec.checks.found import Found, error, listed, tenant_exists, warning
from infra.spec.problems import Path
from infra.spec.site import Site
from infra.spec.tenant import Tenant

DAEMON: tuple[Path, ...] = (("daemon",),)


def storage(site: Site) -> Iterator[Found]:
    """What it signs in to its storage with is made: of S3 it is not."""
    if site.daemon.storage == "s3":
        at: Path = ("daemon", "storage")
        cause = "Pulumi makes no keys of S3, and without S3_ACCESS_KEY and S3_SECRET_KEY the daemon does not start"
        yield error(at, cause, "set swift, which keeps job data in a container of the tenant"), (at,)


def tenant_and_image(site: Site) -> Iterator[Found]:
    """Its tenant is there, with the projects that it needs; in the cluster it has an image, and a volume where it shares one."""
    daemon = site.daemon
    tenants = {tenant.name: tenant for tenant in site.tenants}
    at: Path = ("daemon", "tenant")
    if daemon.tenant is None and (daemon.in_cluster or daemon.in_swift):
        what = f"compute {daemon.compute}" if daemon.in_cluster else f"storage {daemon.storage}"
        yield error(at, f"is not set, and {what} is in a tenant's project", f"name a tenant: {listed(tenants)}"), DAEMON
    if daemon.tenant is not None:
        yield from tenant_exists(tenants, daemon.tenant, at, on="openshift" if daemon.in_cluster else None)
        if daemon.tenant in tenants and daemon.in_swift:
            yield from tenant_exists(tenants, daemon.tenant, at, on="openstack")
    if daemon.in_cluster and not daemon.image:
        yield error(("daemon", "image"), "is required for compute kubernetes", "set the image of pfmoc"), DAEMON
    if daemon.on_volume and daemon.volume_gib is None:
        cause = f"is required for storage {daemon.storage} with compute kubernetes"
        yield error(("daemon", "volume_gib"), cause, "set the size of the shared volume"), DAEMON
    if daemon.on_volume and daemon.volume_access == "ReadWriteOnce" and daemon.replicas > 1:
        cause = f"{daemon.replicas} pods cannot share a volume that is ReadWriteOnce"
        yield error(("daemon", "replicas"), cause, "have one, or a volume that is ReadWriteMany"), DAEMON


def containers(site: Site) -> Iterator[Found]:
    """Its container is one of its tenant's, and it has what to sign in with."""
    tenant, daemon = _tenant(site), site.daemon
    if tenant is None:
        return
    names = [each.name for each in tenant.containers]
    at: Path = ("daemon", "container")
    rests: tuple[Path, ...] = (("tenants", tenant.name, "containers"), at)
    if daemon.in_swift and daemon.container is None and len(names) != 1:
        cause = f"is not set, and the tenant '{tenant.name}' has {len(names) or 'no'} containers"
        yield error(at, cause, f"name one: {listed(names)}"), rests
    if daemon.container is not None and daemon.container not in names:
        cause = f"'{daemon.container}' is no container of the tenant '{tenant.name}': {listed(names)}"
        yield error(at, cause, "add it, or name one of them"), rests
    if daemon.in_swift and tenant.openstack and tenant.openstack.application_credential is None:
        path: Path = ("tenants", tenant.name, "openstack", "application_credential")
        yield error(path, "is not set, and the daemon signs in to Swift with it", "set it, with expires_at"), (path, *DAEMON)


def jobs_fit(site: Site) -> Iterator[Found]:
    """A job that the daemon takes fits into the project's quota: else its pod is never made."""
    tenant, daemon = _tenant(site), site.daemon
    if tenant is None or not tenant.openshift or not daemon.in_cluster:
        return
    quotas, job, own = tenant.openshift.quotas, daemon.job_limits, daemon.limits
    rests: tuple[Path, ...] = (*DAEMON, ("tenants", tenant.name, "openshift"))
    for field, need, quota, unit in (
        ("cpu_m", job.cpu_m + own.cpu_m * daemon.replicas, quotas.limits_cpu * 1000, "thousandths of a core"),
        ("memory_mib", job.memory_mib + own.memory_mib * daemon.replicas, quotas.limits_memory_mib, "MiB"),
        ("gpus", job.gpus, quotas.gpu_sum, "GPUs"),
    ):
        if need > quota:
            cause = f"the largest job and the daemon itself need {need} {unit}, and the quota of '{tenant.name}' is {quota}"
            path: Path = ("daemon", "job_limits", field)
            yield warning(path, cause, "such jobs never start; lower the limit, or grant more"), rests


def _tenant(site: Site) -> Tenant | None:
    return next((tenant for tenant in site.tenants if tenant.name == site.daemon.tenant), None)
