"""What tenants have made themselves, and what is told of it."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from fakes.engine import urn
from openstack.exceptions import NotFoundException
from swiftclient import ClientException

from infra import strays
from infra.failures import OperatorError
from infra.leftovers import leftovers
from infra.use import Clouds

PROJECT = "openstack:identity/project:Project"
CONTAINER = "openstack:objectstorage/container:Container"
NETWORK = "openstack:networking/network:Network"
SERVER = "openstack:compute/instance:Instance"


def resource(kind, name, id_):
    return {"urn": urn(kind, name), "type": kind, "id": id_}


STATE = [
    resource(PROJECT, "chris", "p"),
    resource(CONTAINER, "chris-data", "data"),
    resource(NETWORK, "chris-default", "n1"),
    resource(SERVER, "gpu-0", "s1"),
]


def things(**listed):
    """A service that lists what is there of one project."""

    def lister(found):
        return lambda **asked: found if "p" in asked.values() else []

    return SimpleNamespace(**{name: lister([SimpleNamespace(id=a, name=b) for a, b in found]) for name, found in listed.items()})


@pytest.fixture
def cloud(monkeypatch):
    made = SimpleNamespace(
        compute=things(servers=[("s1", "gpu-0"), ("s2", "theirs")]),
        image=things(images=[("i1", "theirs")]),
        block_storage=things(volumes=[("v1", "")], snapshots=[("sn1", "monday")], backups=[("b1", "nightly")]),
        network=things(ips=[("f1", "192.0.2.7")], routers=[], networks=[("n1", "default"), ("n2", "lab")]),
        load_balancer=things(load_balancers=[("lb1", "web")]),
    )
    account = SimpleNamespace(get_account=lambda **_: ({}, [{"name": "data"}, {"name": "more"}]))
    monkeypatch.setattr(strays, "openstack_connection", lambda _: nullcontext(made))
    monkeypatch.setattr(strays, "swift_connection", lambda *_: account)
    return made


def test_what_the_state_does_not_know_is_told(cloud, read, document):
    site = read(document)[0]
    found = strays.strays(site, STATE)
    assert {str(each) for each in found if each.data} == {
        "the server theirs of chris (s2)",
        "the image theirs of chris (i1)",
        "the volume v1 of chris",
        "the snapshot monday of chris (sn1)",
        "the backup nightly of chris (b1)",
        "the container more of chris",
    }
    assert {(each.kind, each.id) for each in found if not each.data} == {
        ("floating address", "f1"),
        ("network", "n2"),
        ("load balancer", "lb1"),
    }
    sentences = strays.told(site, STATE)
    assert set(sentences) <= set(leftovers(STATE, files=[], after=0, strays=sentences))
    assert strays.strays(site, []) == []


def test_what_cannot_be_asked_is_said(read, document, monkeypatch):
    def away(_):
        raise OperatorError("nothing listens")

    monkeypatch.setattr(strays, "openstack_connection", away)
    (sentence,) = strays.told(read(document)[0], STATE)
    assert sentence == "what tenants have made themselves, of which nothing can be told: nothing listens"


def test_a_project_without_an_account_has_no_containers(cloud, read, document, monkeypatch):
    def no_account(**_):
        raise ClientException("Account GET failed", http_status=404)

    monkeypatch.setattr(strays, "swift_connection", lambda *_: SimpleNamespace(get_account=no_account))
    assert "container" not in {each.kind for each in strays.strays(read(document)[0], STATE)}


def test_a_cinder_that_makes_no_backups_has_none(cloud, read, document):
    def unknown(**_):
        raise NotFoundException("404: Not Found for url: /v3/p/backups/detail")
        yield

    cloud.block_storage.backups = unknown
    assert "backup" not in {each.kind for each in strays.strays(read(document)[0], STATE)}


def test_the_guards_count_snapshots_backups_and_images(cloud, read, document):
    document["clouds"]["openstack"]["services"] = ["compute", "block-storage", "network", "object-store"]
    clouds = Clouds(read(document)[0])
    clouds.openstack = cloud
    clouds._account = lambda _: {"objects": 3}
    assert clouds._project("p") == {"servers": 2, "images": 1, "volumes": 1, "snapshots": 1, "backups": 1, "objects": 3}
