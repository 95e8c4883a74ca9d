"""Addresses of tenants' networks, and who may connect."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import combinations

from infra.spec.base import network
from infra.spec.checks.found import Found, error
from infra.spec.problems import Path
from infra.spec.site import Site

SSH = 22


def overlap(site: Site) -> Iterator[Found]:
    """Networks of one tenant are apart, as one router joins them, and clear of what the operator reserves."""
    reserved = site.clouds.openstack.reserved_cidrs if site.clouds.openstack else ()
    for tenant in site.tenants:
        networks = tenant.openstack.networks if tenant.openstack else ()
        base: Path = ("tenants", tenant.name, "openstack", "networks")
        for first, second in combinations(networks, 2):
            if _overlap(first.cidr, second.cidr):
                cause = f"{second.cidr} overlaps {first.cidr} of the network '{first.name}', and one router joins both"
                yield error((*base, second.name, "cidr"), cause, "choose another"), (base,)
        for each in networks:
            for taken in reserved:
                if _overlap(each.cidr, taken):
                    cause = f"{each.cidr} overlaps {taken} of clouds.openstack.reserved_cidrs"
                    yield error((*base, each.name, "cidr"), cause, "choose another"), (("clouds",), base)


def _overlap(one: str, other: str) -> bool:
    first, second = network(one), network(other)
    if isinstance(first, IPv4Network):
        return isinstance(second, IPv4Network) and first.overlaps(second)
    return not isinstance(second, IPv4Network) and first.overlaps(second)


def open_ssh(site: Site) -> Iterator[Found]:
    """Nobody's SSH is open to the world."""
    for tenant in site.tenants:
        for group in tenant.openstack.security_groups if tenant.openstack else ():
            for index, rule in enumerate(group.rules):
                if rule.world_open and rule.admits(SSH):
                    path: Path = ("tenants", tenant.name, "openstack", "security_groups", group.name, "rules", index)
                    yield error(path, "opens SSH to the whole world", "name the addresses that may, in cidr"), (path,)
