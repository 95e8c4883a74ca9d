"""Kill -9 of each of OpenShift's services: it comes back, and nothing is lost."""

from __future__ import annotations

import os
import signal

import pytest
from harness.openshift import ROUTE
from harness.waiting import until
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

pytest_plugins = ["harness.openshift_fixtures"]

BACK_S = 120


@pytest.fixture(scope="module")
def served(alice, router):
    """A project with a Route that answers; gives the project and the host."""
    with alice.project() as name:
        alice.serve(name, "web")
        host = alice.make_route(name, "web")["spec"]["host"]
        until(lambda: router.get(host).status == 200, deadline_s=BACK_S)
        yield name, host


def test_the_router_comes_back_with_the_routes_that_it_had(box, served, router):
    _, host = served
    box.kill("openshift-router")
    until(lambda: router.get(host).status == 200, what="the Route", deadline_s=BACK_S)


def test_the_api_server_comes_back_with_its_objects(box, served, alice, router):
    project, host = served
    box.kill("openshift-apiserver")
    assert router.get(host).status == 200

    def answers():
        try:
            routes = alice.custom.list_namespaced_custom_object(ROUTE, "v1", project, "routes")["items"]
        except (ApiException, HTTPError):
            return None
        return [route["spec"]["host"] for route in routes]

    assert until(answers, what="the Routes", deadline_s=BACK_S) == [host]
    # The controllers see what is new: their watches have found the new server.
    fresh = alice.make_route(project, "fresh")["spec"]["host"]
    until(lambda: router.get(fresh).status == 200, what="a new Route", deadline_s=BACK_S)


def test_the_controllers_catch_up_with_what_they_missed(box, served, alice, router):
    project, host = served
    before = box.living("openshift-controllers")
    os.kill(before, signal.SIGSTOP)
    try:
        missed = alice.make_route(project, "missed")["spec"]["host"]
        with pytest.raises(ApiException):
            alice.custom.delete_cluster_custom_object("project.openshift.io", "v1", "projects", "nobodys")
        # Nobody tells the router; what it serves already, it serves on.
        assert router.get(missed).status == 503
        assert router.get(host).status == 200
    finally:
        box.kill("openshift-controllers")
    until(lambda: router.get(missed).status == 200, what="the Route that was missed", deadline_s=BACK_S)
    with alice.project() as name:
        alice.make_route(name, "web")
        assert alice.admitted(name, "web")["status"] == "True"
    until(lambda: name not in alice.projects(), what="the end of the project", deadline_s=BACK_S)
