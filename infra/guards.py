"""What stands between a plan and somebody's data.

A plan is looked through for what may cost data or cut off what is in use (``risks``); the clouds are asked how much that is
(``infra.use``); and what would really cost something is refused with the numbers (``refusals``), unless the site file or the
command line names it. Not guarded: plain ``pulumi up``, which asks nobody; the policy pack covers a part there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from infra.failures import EXIT_REFUSED, OperatorError
from infra.openshift_project import TENANT_LABEL
from infra.plan import DELETES, Plan, State, Step
from infra.providers import CLUSTER_NAMESPACE
from infra.quantities import amount

Subject = Literal[
    "project",
    "container",
    "server",
    "machines",
    "namespace",
    "newcomer",
    "claim",
    "nova",
    "cinder",
    "neutron",
    "octavia",
    "account",
    "pods",
]
"""What has to be looked at to know what a risk would cost."""

QUOTAS: Mapping[str, Subject] = {
    "openstack:compute/quotaSetV2:QuotaSetV2": "nova",
    "openstack:blockstorage/quoteSetV3:QuoteSetV3": "cinder",
    "openstack:networking/quotaV2:QuotaV2": "neutron",
    "openstack:loadbalancer/quota:Quota": "octavia",
    "openstack:objectstorage/accountV1:AccountV1": "account",
    "openstack:objectstorage/container:Container": "container",
    "kubernetes:core/v1:ResourceQuota": "pods",
}
OF_PROJECTS: frozenset[Subject] = frozenset({"nova", "cinder", "neutron", "octavia", "account"})
"""Quotas of whole projects: what is used there can be told before they are set."""
PROJECT = "openstack:identity/project:Project"
CONTAINER = "openstack:objectstorage/container:Container"
SERVER = "openstack:compute/instance:Instance"
NAMESPACE = "kubernetes:core/v1:Namespace"
CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
MACHINES = "kubernetes:machine.openshift.io/v1beta1:MachineSet"
SWIFT_QUOTAS = {"Quota-Bytes": "bytes", "Quota-Count": "objects"}
NO_IMAGE = "Image not found"
"""What the provider reads as the name of an image that Glance no longer has."""


@dataclass(frozen=True, kw_only=True)
class Risk:
    """Something in a plan that may cost data, or cut off what is in use.

    :param resource: its name for ``allow_destroy``
    :param tenant: whose it is; empty when it is nobody's
    :param subject: what has to be looked at
    :param id: of what is to be looked at: a project's id, ``NAMESPACE`` or ``NAMESPACE/NAME``
    :param container: the container, for those
    :param limits: quotas that shrink: what they are, and what they are to be; empty when the thing itself goes
    :param guarded: how much of what it holds goes by the same plan, each under a guard of its own
    :param images: of a server that is rebuilt: what its image is called now, and which one it is to have; None when it goes
    """

    resource: str
    tenant: str
    subject: Subject
    id: str
    container: str = ""
    limits: Mapping[str, tuple[float | None, float]] = field(default_factory=dict)
    guarded: Mapping[str, float] = field(default_factory=dict)
    images: tuple[str, str] | None = None

    def allowed(self, patterns: Iterable[str]) -> bool:
        """True when it, or the whole tenant, is named."""
        return any(
            fnmatchcase(name, pattern) for pattern in patterns for name in (self.resource, f"tenant/{self.tenant}") if self.tenant
        ) or any(fnmatchcase(self.resource, pattern) for pattern in patterns)


@dataclass(frozen=True, kw_only=True)
class Use:
    """What there is.

    :param amounts: how much of what; None where that cannot be told
    :param unknown: why not; empty when all is known
    """

    amounts: Mapping[str, float] = field(default_factory=dict)
    unknown: str = ""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a plan is not carried out."""

    resource: str
    why: str

    def document(self) -> dict[str, str]:
        """The refusal for programs."""
        return {"resource": self.resource, "why": self.why}


class Refused(OperatorError):
    """A guard refuses a plan."""

    def __init__(self, refusals: list[Refusal]) -> None:
        self.refusals = refusals
        names = " ".join(f"--allow {name}" for name in sorted({refusal.resource for refusal in refusals}))
        lines = "\n".join(f"  {refusal.resource} {refusal.why}" for refusal in refusals)
        super().__init__(
            f"refused, and nothing was done:\n{lines}",
            f"if that is meant, name it in allow_destroy of the site file, or give {names}",
            code=EXIT_REFUSED,
        )


def risks(plan: Plan, *, allowed: Iterable[str] = (), quarantined: frozenset[str] = frozenset()) -> list[Risk]:
    """Find in a plan what may cost data, or cut off what is in use.

    :param allowed: patterns of what may be lost
    :param quarantined: tenants whose quotas go to zero on purpose
    """
    patterns = tuple(allowed)
    projects, going = _projects(plan), _going(plan)
    found: dict[tuple[str, Subject, bool], Risk] = {}
    for step in plan.steps:
        if step.op in DELETES:
            risk = _loss(step, projects, going)
        elif step.op == "update":
            risk = _shrinking(step, projects) or _scaling(step) or _rebuilding(step)
        elif step.op in ("create", "create-replacement") and step.type == NAMESPACE:
            risk = _newcomer(step)
        elif step.op == "create" and QUOTAS.get(step.type) in OF_PROJECTS:
            risk = _first_quota(step, projects)
        else:
            continue
        if risk and not risk.allowed(patterns) and not (risk.limits and risk.tenant in quarantined):
            found.setdefault((step.urn, risk.subject, bool(risk.limits)), risk)
    return list(found.values())


def given_up(plan: Plan, allowed: Iterable[str]) -> list[Risk]:
    """Containers that go by a plan, with what is in them, as somebody has named them: each once."""
    patterns, projects = tuple(allowed), _projects(plan)
    losses = (_loss(step, projects, {}) for step in plan.steps if step.type == CONTAINER and step.op in DELETES)
    named = [risk for risk in losses if risk and risk.id and risk.allowed(patterns)]
    return list({risk.resource: risk for risk in named}.values())


def refusals(asked: Iterable[tuple[Risk, Use]]) -> list[Refusal]:
    """Say which risks would really cost something, with the numbers."""
    found = []
    for risk, use in _together(asked):
        if risk.limits:
            why = _cut_off(risk, use)
        elif risk.subject == "newcomer":
            why = _taken(risk, use)
        else:
            why = _rebuilt(use, *risk.images) if risk.images else _lost(risk, use)
        if why:
            found.append(Refusal(resource=risk.resource, why=why))
    return found


def _together(asked: Iterable[tuple[Risk, Use]]) -> Iterator[tuple[Risk, Use]]:
    """Count the servers of a pool together: each is a resource, and the pool has one name."""
    pools: dict[tuple[str, tuple[str, str] | None], tuple[Risk, Counter[str]]] = {}
    for risk, use in asked:
        if risk.subject == "server" and not use.unknown:
            pools.setdefault((risk.resource, risk.images), (risk, Counter()))[1].update(use.amounts)
        else:
            yield risk, use
    for risk, amounts in pools.values():
        yield risk, Use(amounts=amounts)


def _lost(risk: Risk, use: Use) -> str:
    if use.unknown:
        return f"would be deleted, and what it holds cannot be told: {use.unknown}"
    left = {what: count - risk.guarded.get(what, 0) for what, count in use.amounts.items()}
    held = [f"{shown(count)} {what}" for what, count in left.items() if count > 0]
    return f"would be deleted with {', '.join(held)}" if held else ""


def _rebuilt(use: Use, has: str, wanted: str) -> str:
    why = f"would have {shown(use.amounts.get('servers', 0))} servers rebuilt from {wanted}, and what is on their disks lost"
    if has == NO_IMAGE:
        return f"{why}: Glance no longer has the image that they were made from; --no-refresh leaves them as they are"
    return f"{why}: their image is called {has} now; to leave them as they are, set the pool's image to that"


def _taken(risk: Risk, use: Use) -> str:
    if use.unknown:
        return f"would be made, and whether the cluster has a project {risk.id} already cannot be told: {use.unknown}"
    if not any(use.amounts.values()):
        return ""
    return (
        f"would take over the OpenShift project {risk.id}, which is there already and not of this site; choose another name,"
        " or import it: python -m infra adopt"
    )


def _cut_off(risk: Risk, use: Use) -> str:
    if use.unknown:
        return f"has quotas that shrink ({', '.join(sorted(risk.limits))}), and what is in use cannot be told: {use.unknown}"
    cut = [
        f"{what} from {shown(old)} to {shown(new)}, and {shown(use.amounts[what])} are in use"
        for what, (old, new) in sorted(risk.limits.items())
        if use.amounts.get(what, 0) > new
    ]
    return f"has quotas that would shrink below their use: {'; '.join(cut)}" if cut else ""


def shown(number: float | None) -> str:
    """A number as people write it."""
    if number is None:
        return "no limit"
    return f"{number:g}" if number < 1e6 else f"{number:.0f}"  # where %g begins to write exponents


def _projects(plan: Plan) -> dict[str, str]:
    """Ids of the tenants' projects."""
    return {step.name: step.old.id for step in plan.steps if step.type == PROJECT and step.old}


def _going(plan: Plan) -> Mapping[str, int]:
    """How many servers of node pools go by the plan, by tenant."""
    urns = {step.urn: step for step in plan.steps if step.type == SERVER and step.op in DELETES and step.old}
    return Counter((step.state.inputs.get("metadata") or {}).get("pfmoc_tenant", "") for step in urns.values())


def _loss(step: Step, projects: Mapping[str, str], going: Mapping[str, int]) -> Risk | None:  # noqa: PLR0911 - one return for each kind
    state = step.old or State()
    if step.type == PROJECT:
        guarded = {"servers": going.get(step.name, 0)}
        return Risk(resource=f"tenant/{step.name}", tenant=step.name, subject="project", id=state.id, guarded=guarded)
    if step.type == CONTAINER:
        tenant, name = _of_container(step, state)
        return Risk(
            resource=f"container/{tenant}/{name}",
            tenant=tenant,
            subject="container",
            id=projects.get(tenant, ""),
            container=name,
        )
    if step.type == SERVER:
        return _of_pool(step, state)
    if step.type == MACHINES:
        return Risk(resource=f"node-pool/{step.name}", tenant="", subject="machines", id=_machines(state))
    if step.type == NAMESPACE:
        name = _metadata(state).get("name", "")
        # The cluster's own, which is only looked up.
        return (
            None
            if name == CLUSTER_NAMESPACE
            else Risk(resource=f"tenant/{step.name}", tenant=step.name, subject="namespace", id=name)
        )
    if step.type == CLAIM:
        metadata = _metadata(state)
        place = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
        tenant = (metadata.get("labels") or {}).get(TENANT_LABEL, "")
        return Risk(resource=f"volume/{place}", tenant=tenant, subject="claim", id=place)
    return None


def _of_pool(step: Step, state: State) -> Risk:
    metadata = state.inputs.get("metadata") or {}
    pool, tenant = metadata.get("pfmoc_pool", step.name), metadata.get("pfmoc_tenant", "")
    return Risk(resource=f"node-pool/{pool}", tenant=tenant, subject="server", id=state.id)


def _newcomer(step: Step) -> Risk:
    """A namespace that is to be made: server-side apply would take over one that is there, whosever it is."""
    return Risk(
        resource=f"tenant/{step.name}",
        tenant=step.name,
        subject="newcomer",
        id=str(_metadata(step.new or State()).get("name", "")),
    )


def _rebuilding(step: Step) -> Risk | None:
    """A server that gets another image: the site file names one, or Glance's was renamed or deleted. The provider does not make
    the server anew then: it has Nova rebuild it, which wipes its root disk.
    """
    if step.type != SERVER:
        return None
    changed = {path.lower(): (str(has), str(wanted)) for path, has, wanted in step.differences()}
    images = changed.get("imagename") or changed.get("imageid")
    return replace(_of_pool(step, step.state), images=images) if images else None


def _first_quota(step: Step, projects: Mapping[str, str]) -> Risk | None:
    """A quota that is set for the first time, of a project that may have been in use for long; in a new one there is nothing."""
    project = projects.get(step.name)
    limits = {what: (None, new) for what, new in _limits(step.type, (step.new or State()).inputs).items() if new >= 0}
    if not project or not limits:
        return None
    return Risk(resource=f"tenant/{step.name}", tenant=step.name, subject=QUOTAS[step.type], id=project, limits=limits)


def _shrinking(step: Step, projects: Mapping[str, str]) -> Risk | None:
    subject = QUOTAS.get(step.type)
    if subject is None or step.old is None or step.new is None:
        return None
    limits = {
        what: (old, new)
        for what, new in _limits(step.type, step.new.inputs).items()
        for old in (_limits(step.type, {**step.old.inputs, **step.old.outputs}).get(what),)
        if new >= 0 and (old is None or old < 0 or new < old)
    }
    if not limits:
        return None
    limits = {what: (None if old is not None and old < 0 else old, new) for what, (old, new) in limits.items()}
    if subject == "container":
        tenant, name = _of_container(step, step.new)
        resource, place = f"container/{tenant}/{name}", projects.get(tenant, "")
    elif subject == "pods":
        tenant, name, resource = step.name, "", f"tenant/{step.name}"
        metadata = _metadata(step.old)
        place = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    else:
        tenant, name, resource = step.name, "", f"tenant/{step.name}"
        place = str(step.old.inputs.get("projectId") or step.old.outputs.get("projectId") or projects.get(tenant, ""))
    return Risk(resource=resource, tenant=tenant, subject=subject, id=place, container=name, limits=limits)


def _limits(kind: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Quotas in a resource's properties, by the names that use is told under."""
    if kind in ("openstack:objectstorage/accountV1:AccountV1", CONTAINER):
        metadata = {str(key).lower(): value for key, value in (values.get("metadata") or {}).items()}
        found = {what: metadata.get(key.lower()) for key, what in SWIFT_QUOTAS.items()}
        return {what: float(value) for what, value in found.items() if value not in (None, "")}
    if kind == "kubernetes:core/v1:ResourceQuota":
        hard = (values.get("spec") or {}).get("hard") or {}
        return {what: amount(value) for what, value in hard.items()}
    return {key: float(value) for key, value in values.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}


def _scaling(step: Step) -> Risk | None:
    """A set of machines that gets smaller."""
    if step.type != MACHINES or step.old is None or step.new is None:
        return None
    gone = int(_machines(step.old)) - int(_machines(step.new))
    return Risk(resource=f"node-pool/{step.name}", tenant="", subject="machines", id=str(gone)) if gone > 0 else None


def _machines(state: State) -> str:
    return str((state.inputs.get("spec") or {}).get("replicas") or 0)


def _of_container(step: Step, state: State) -> tuple[str, str]:
    name = str(state.inputs.get("name") or state.outputs.get("name") or state.id)
    # One that was just adopted has no metadata of the kit yet; its name in the program has the tenant's in it.
    tenant = (state.inputs.get("metadata") or {}).get("Pfmoc-Tenant") or step.name.removesuffix(name).removesuffix("-")
    return str(tenant), name


def _metadata(state: State) -> Mapping[str, Any]:
    return state.outputs.get("metadata") or state.inputs.get("metadata") or {}
