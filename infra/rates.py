"""What a tenant costs in a month in which it uses all that it is granted."""

from __future__ import annotations

import calendar
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from infra.failures import OperatorError
from infra.spec import Site
from infra.spec.base import Model, Text
from infra.spec.openshift import OpenShiftQuotas
from infra.spec.openstack import OpenStackQuotas
from infra.spec.tenant import Tenant

TABLE = Path(__file__).with_name("rates.yml")
CPU = "CPU"
GIB = 1024**3
CENT = Decimal("0.01")

Month = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]


class UnitPeriod(Model):
    """What a service unit costs and holds, from a month on."""

    from_: Annotated[Month, Field(alias="from")]
    hourly: Decimal
    vcpus: Annotated[int, Field(ge=1)]
    ram_mib: Annotated[int, Field(ge=1)]


class StoragePeriod(Model):
    """What a GiB costs, from a month on."""

    from_: Annotated[Month, Field(alias="from")]
    hourly_gib: Decimal


class Unit(Model):
    """A service unit: a GPU with its share of its machine, or a share without one.

    :param products: GPUs that are charged by it; none: it has no GPU
    """

    name: Text
    products: tuple[Text, ...] = ()
    periods: Annotated[tuple[UnitPeriod, ...], Field(min_length=1)]


class Rates(Model):
    """A table of rates."""

    name: Text
    currency: Text
    read: date
    sources: tuple[Text, ...]
    units: tuple[Unit, ...]
    storage: Annotated[tuple[StoragePeriod, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_a_unit_without_gpu(self) -> Self:
        if not any(unit.name == CPU and not unit.products for unit in self.units):
            raise ValueError(f"no unit is called {CPU}")
        return self

    @classmethod
    def load(cls, file: Path = TABLE) -> Rates:
        """Read a table.

        :raises OperatorError: when it is none
        """
        try:
            return cls.model_validate(yaml.safe_load(file.read_text()))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise OperatorError(f"the rate table {file} cannot be read: {error}", "check the path and that it is YAML") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise OperatorError(f"{file} is no rate table: {where}: {first['msg']}", f"write it like {TABLE}") from error


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a bill.

    :param what: what is charged
    :param amount: how many units or GiB; None: without limit
    :param unit: of what: a service unit, or GiB
    :param hourly: for one, an hour; None: the table has no rate for it
    :param monthly: for all of it, the month; None: it cannot be told
    """

    tenant: str
    cloud: str
    what: str
    amount: int | None
    unit: str
    hourly: Decimal | None
    monthly: Decimal | None

    def document(self) -> dict[str, Any]:
        """The line for programs; money as text, for it is exact."""
        return {
            "tenant": self.tenant,
            "cloud": self.cloud,
            "what": self.what,
            "amount": self.amount,
            "unit": self.unit,
            "hourly": None if self.hourly is None else f"{self.hourly:f}",
            "monthly": None if self.monthly is None else f"{self.monthly:f}",
        }


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What tenants cost in a month.

    :param month: ``2026-11``
    :param hours: hours of that month
    """

    month: str
    hours: int
    rates: Rates
    lines: tuple[Line, ...]

    @property
    def tenants(self) -> dict[str, Decimal]:
        """The sum of what can be told, by tenant."""
        sums: dict[str, Decimal] = {}
        for line in self.lines:
            sums[line.tenant] = sums.get(line.tenant, Decimal(0)) + (line.monthly or Decimal(0))
        return sums

    @property
    def whole(self) -> bool:
        """True when every line has a sum."""
        return all(line.monthly is not None for line in self.lines)

    def document(self) -> dict[str, Any]:
        """The bill for programs."""
        return {
            "month": self.month,
            "hours": self.hours,
            "currency": self.rates.currency,
            "rates": {"name": self.rates.name, "read": self.rates.read.isoformat(), "sources": list(self.rates.sources)},
            "whole": self.whole,
            "tenants": {tenant: f"{total:f}" for tenant, total in self.tenants.items()},
            "total": f"{sum(self.tenants.values(), Decimal(0)):f}",
            "lines": [line.document() for line in self.lines],
        }


Period = TypeVar("Period", UnitPeriod, StoragePeriod)


def in_force(periods: Sequence[Period], month: str) -> Period | None:
    """The period that a month is in; None before the first."""
    return max((each for each in periods if each.from_ <= month), key=lambda each: each.from_, default=None)


def bill(site: Site, rates: Rates, month: str, tenants: Sequence[str] = ()) -> Bill:
    """Say what tenants cost in a month at full quota.

    :param month: ``2026-11``
    :param tenants: whose; none: of all
    """
    year, _, number = month.partition("-")
    hours = calendar.monthrange(int(year), int(number))[1] * 24
    pricing = Pricing(rates, month, hours)
    chosen = [tenant for tenant in site.tenants if not tenants or tenant.name in tenants]
    lines = [line for tenant in chosen for line in (*pricing.openstack(site, tenant), *pricing.openshift(tenant))]
    return Bill(month=month, hours=hours, rates=rates, lines=tuple(lines))


class Pricing:
    """The rates of a month.

    :param hours: hours of the month
    """

    def __init__(self, rates: Rates, month: str, hours: int) -> None:
        self._month, self._hours = month, hours
        self._units = {unit.name: in_force(unit.periods, month) for unit in rates.units}
        self._charged_by = {product: unit.name for unit in rates.units for product in unit.products}
        storage = in_force(rates.storage, month)
        self._hourly_gib = storage.hourly_gib if storage else None

    def openshift(self, tenant: Tenant) -> list[Line]:
        """The project on OpenShift."""
        if tenant.openshift is None:
            return []
        quotas: OpenShiftQuotas = tenant.openshift.quotas
        return [
            *self._compute(tenant.name, "openshift", quotas.limits_cpu, quotas.limits_memory_mib, quotas.gpus),
            self._storage(tenant.name, "openshift", "persistent volumes", quotas.requests_storage_gib),
            self._storage(tenant.name, "openshift", "nodes' disks", quotas.limits_ephemeral_storage_gib),
        ]

    def openstack(self, site: Site, tenant: Tenant) -> list[Line]:
        """The project on OpenStack. Nova has no quota for GPUs: those of the tenant's node pools count."""
        cloud = site.clouds.openstack
        if tenant.openstack is None or cloud is None:
            return []
        quotas: OpenStackQuotas = tenant.openstack.quotas
        gpus: Counter[str] = Counter()
        for pool in site.node_pools:
            if pool.source == "nova" and pool.tenant == tenant.name and pool.gpu:
                gpus[pool.gpu.product] += pool.gpu_sum
        lines: list[Line] = []
        if "compute" in cloud.services:
            compute = quotas.compute
            lines += self._compute(tenant.name, "openstack", _limit(compute.cores), _limit(compute.ram_mib), gpus)
        if "block-storage" in cloud.services:
            lines.append(self._storage(tenant.name, "openstack", "volumes", _limit(quotas.volume.gigabytes)))
        if "object-store" in cloud.services:
            bytes_ = quotas.object_bytes
            lines.append(self._storage(tenant.name, "openstack", "objects", None if bytes_ is None else -(-bytes_ // GIB)))
        return lines

    def _compute(self, tenant: str, cloud: str, cores: int | None, ram_mib: int | None, gpus: Mapping[str, int]) -> list[Line]:
        """GPUs as units of theirs, each with its share of cores and memory; what is left over as units without GPU."""
        lines = []
        for product, count in sorted(gpus.items()):
            name = self._charged_by.get(product)
            unit = self._units.get(name or "")
            hourly = unit.hourly if unit else None
            lines.append(self._line(tenant, cloud, product, count, name or "no rate", hourly))
            if unit:
                cores = None if cores is None else max(0, cores - count * unit.vcpus)
                ram_mib = None if ram_mib is None else max(0, ram_mib - count * unit.ram_mib)
        plain = self._units[CPU]
        amount = None
        if plain and cores is not None and ram_mib is not None:
            amount = max(-(-cores // plain.vcpus), -(-ram_mib // plain.ram_mib))
        return [*lines, self._line(tenant, cloud, "cores and memory", amount, CPU, plain.hourly if plain else None)]

    def _storage(self, tenant: str, cloud: str, what: str, gib: int | None) -> Line:
        return self._line(tenant, cloud, what, gib, "GiB", self._hourly_gib)

    def _line(self, tenant: str, cloud: str, what: str, amount: int | None, unit: str, hourly: Decimal | None) -> Line:
        monthly = None
        if amount == 0:
            monthly = Decimal(0).quantize(CENT)
        elif amount is not None and hourly is not None:
            monthly = (hourly * amount * self._hours).quantize(CENT, ROUND_HALF_UP)
        return Line(tenant=tenant, cloud=cloud, what=what, amount=amount, unit=unit, hourly=hourly, monthly=monthly)


def _limit(quota: int) -> int | None:
    """A quota of OpenStack: -1 is without limit."""
    return None if quota < 0 else quota
