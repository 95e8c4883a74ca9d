"""Which Pulumi resource is which Terraform resource, found from the two packages themselves.

Upstream's bridge has a table of them in a Go module that is not served. Its result can be seen: the package on PyPI names
every token, and Terraform's provider names every resource. Most pairs follow from the names; the others are told below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from toolchain.errors import ToolchainError

_RESOURCE = re.compile(r"super\(\w+, __self__\)\.__init__\(\s*'(openstack:[^']+)'")
_FUNCTION = re.compile(r"runtime\.invoke(?:_output)?\('(openstack:[^']+)'")

# Pairs that the names do not tell, or tell wrongly: Terraform's name to the token's end.
_RESOURCES = {
    "openstack_blockstorage_quotaset_v3": "blockstorage/quoteSetV3:QuoteSetV3",
    "openstack_db_instance_v1": "database/instance:Instance",
    "openstack_fw_group_v2": "firewall/groupV2:GroupV2",
    "openstack_fw_policy_v2": "firewall/policyV2:PolicyV2",
    "openstack_fw_rule_v2": "firewall/ruleV2:RuleV2",
    "openstack_lb_flavor_v2": "loadbalancer/flavorV2:FlavorV2",
    "openstack_lb_flavorprofile_v2": "loadbalancer/flavorprofileV2:FlavorprofileV2",
    "openstack_lb_l7policy_v2": "loadbalancer/l7PolicyV2:L7PolicyV2",
    "openstack_lb_l7rule_v2": "loadbalancer/l7RuleV2:L7RuleV2",
    "openstack_lb_loadbalancer_v2": "loadbalancer/loadBalancer:LoadBalancer",
    "openstack_objectstorage_object_v1": "objectstorage/containerObject:ContainerObject",
}
_FUNCTIONS = {
    "openstack_fw_group_v2": "firewall/getGroupV2:getGroupV2",
    "openstack_fw_policy_v2": "firewall/getPolicyV2:getPolicyV2",
    "openstack_fw_rule_v2": "firewall/getRuleV2:getRuleV2",
    "openstack_lb_flavor_v2": "loadbalancer/getLbFlavorDeprecated:getLbFlavorDeprecated",
    "openstack_lb_flavorprofile_v2": "loadbalancer/getFlavorprofileV2:getFlavorprofileV2",
    "openstack_lb_listener_v2": "loadbalancer/getListenerV2:getListenerV2",
    "openstack_lb_loadbalancer_v2": "loadbalancer/getLoadbalancerV2:getLoadbalancerV2",
    "openstack_lb_pool_v2": "loadbalancer/getPoolV2:getPoolV2",
    "openstack_sharedfilesystem_availability_zones_v2": "sharedfilesystem/getAvailbilityZones:getAvailbilityZones",
}


def tokens(package: Path, provider: Path) -> Mapping[str, Mapping[str, str]]:
    """Tokens by Terraform's names, as the bridge reads them.

    :param package: pulumi_openstack, unpacked
    :param provider: source of Terraform's provider
    :raises ToolchainError: a pair told above is in neither
    """
    sources = [file.read_text() for file in sorted(package.rglob("*.py"))]
    tables = (provider / "openstack" / "provider.go").read_text()
    return {
        "Resources": _pairs(_table(tables, "ResourcesMap"), _all(_RESOURCE, sources), told=_RESOURCES, prefix=""),
        "Functions": _pairs(_table(tables, "DataSourcesMap"), _all(_FUNCTION, sources), told=_FUNCTIONS, prefix="get"),
    }


def _all(pattern: re.Pattern[str], sources: Iterable[str]) -> set[str]:
    return {token for source in sources for token in pattern.findall(source)}


def _table(source: str, name: str) -> list[str]:
    """Names in one of the provider's tables."""
    body = re.search(rf"{name}:.*?\{{(.*?)\n\t\t\}},", source, re.DOTALL)
    if body is None:
        raise ToolchainError(f"Terraform's provider has no {name}; the bridge fits another version of it")
    return re.findall(r'"(openstack_\w+)":', body[1])


def _pairs(names: Iterable[str], found: set[str], *, told: Mapping[str, str], prefix: str) -> dict[str, str]:
    known = sorted(names)
    by_name: dict[str, list[str]] = {}
    for token in sorted(found):
        name = token.rpartition(":")[2].removeprefix(prefix)
        for key in (_plain(name), _plain(_service(token) + name)):
            by_name.setdefault(key, []).append(token)
    pairs = {name: token for name in known if (token := _match(name, by_name))}
    for name, end in told.items():
        if name not in known or f"openstack:{end}" not in found:
            raise ToolchainError(f"{name} = {end} is in one of the two OpenStack packages only; mend {Path(__file__).name}")
        pairs[name] = f"openstack:{end}"
    return dict(sorted(pairs.items()))


def _match(name: str, by_name: Mapping[str, list[str]]) -> str:
    """The token that a Terraform name stands for, or nothing: with its version, without it, without the service."""
    full = name.removeprefix("openstack_")
    bare = re.sub(r"_v\d+$", "", full)
    service, _, noun = bare.partition("_")
    for key in (full, bare, noun):
        candidates = by_name.get(_plain(key), [])
        same = [token for token in candidates if _plain(_service(token)).startswith(service[:4])]
        if same or candidates:
            return min(same or candidates)
    return ""


def _service(token: str) -> str:
    """The module of a token: ``compute`` of ``openstack:compute/instance:Instance``."""
    return token.removeprefix("openstack:").partition("/")[0]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
