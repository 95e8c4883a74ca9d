"""What there is of a tenant, in a project that is full of other things."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from infra.existing import _networks, _servers
from infra.failures import OperatorError


def thing(id_, name, **more):
    return SimpleNamespace(id=id_, name=name, project_id="p", **more)


class NetworkOfAnOrdinaryProject:
    """It has what the kit makes, and beside it two of a name and two without one."""

    def __init__(self, *more) -> None:
        self.more = [thing("x1", "lab"), thing("x2", "lab"), thing("x3", ""), thing("x4", ""), *more]

    def routers(self, **_):
        return [thing("r", "chris"), *self.more]

    def networks(self, **_):
        return [thing("n", "default"), *self.more]

    def subnets(self, **_):
        return [thing("s", "default"), *self.more]

    def security_groups(self, **_):
        return [thing("g", "web"), *self.more]

    def security_group_rules(self, **_):
        return []

    def ports(self, **_):
        return []


class NovaThatAsksWhoMayUse:
    """Flavors of the pool's name, of which one is public; two servers of the tenant's own have one name."""

    def __init__(self, *, public: bool) -> None:
        self.public = public

    def flavors(self, **_):
        return [thing("f", "gpu", is_public=self.public), thing("f2", "m1", is_public=True)]

    def get_flavor_access(self, flavor):
        assert not self.public, f"404: the flavor {flavor} is public"
        return [{"tenant_id": "p"}]

    def servers(self, **_):
        return [thing("s0", "gpu-0"), thing("x1", "mine"), thing("x2", "mine")]

    def server_groups(self, **_):
        return [thing("sg", "gpu"), thing("y1", "mine"), thing("y2", "mine")]


@pytest.fixture
def site(read, document):
    document["tenants"][0]["openstack"] |= {"security_groups": [{"name": "web"}]}
    return read(document)[0]


def test_things_of_one_name_that_are_the_tenants_own_stop_nothing(site):
    connection = SimpleNamespace(network=NetworkOfAnOrdinaryProject())
    found = _networks(connection, site.tenant("chris"), "p")
    assert (found["routers"], found["networks"], found["subnets"]) == ({"chris": "r"}, {"default": "n"}, {"default": "s"})
    assert found["security_groups"] == {"web": "g"}


def test_two_of_a_name_that_the_program_gives_are_an_error(site):
    connection = SimpleNamespace(network=NetworkOfAnOrdinaryProject(thing("n2", "default")))
    with pytest.raises(OperatorError, match="two networks called 'default': n and n2"):
        _networks(connection, site.tenant("chris"), "p")


@pytest.mark.parametrize(("public", "access"), [(False, {"f"}), (True, set())])
def test_who_may_use_a_public_flavor_is_not_asked(site, public, access):
    connection = SimpleNamespace(compute=NovaThatAsksWhoMayUse(public=public))
    found = _servers(connection, site, site.tenant("chris"), "p")
    assert found["servers"] == {"gpu-0": "s0"}
    assert found["server_groups"] == {"gpu": "sg"}
    assert (found["flavors"], found["flavor_access"]) == ({"gpu": "f"}, frozenset(access))
