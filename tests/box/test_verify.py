"""A user's journey as `make verify` makes it: over a site with GPUs, and through a daemon that the Template has made."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes.utils
import pytest
import yaml
from harness.box import ROOT, Box
from harness.cluster import BUSYBOX, BUSYBOX_PPC64LE, DEADLINE_S, Cluster, claim
from harness.cluster_program import cluster_program
from harness.daemon import PASSWORD, USER
from harness.openshift import Router, User
from harness.pod_site import CONTAINER, MOVER, PodSite, pod_site
from harness.pools import simulated
from harness.tenants import sdk_warnings
from harness.waiting import eventually, until

from workflows.runner.server import Access, Server
from workflows.verify import Plan, journey

pytestmark = sdk_warnings
pytest_plugins = ["harness.openshift_fixtures"]

A100, V100, H100 = "NVIDIA-A100-SXM4-40GB", "Tesla-V100-SXM2-32GB", "NVIDIA-H100-80GB-HBM3"
POOLS = [
    {"name": "v-a100", "count": 1, "cpu": 8, "gpu": {"product": A100, "count": 1}},
    {"name": "v-v100", "count": 1, "cpu": 8, "gpu": {"product": V100, "count": 1}},
    {"name": "v-power9", "count": 1, "cpu": 8, "arch": "ppc64le", "gpu": {"product": V100, "count": 1}},
]
IMAGES = {"amd64": BUSYBOX, "ppc64le": BUSYBOX_PPC64LE}
KEY = "the key of the container that the Template is told"
WITHIN = {"OS_INTERFACE": "internal", "PFMOC_POD_OS_INTERFACE": "internal", "PFMOC_JOB_EPHEMERAL_MIB": "64"}
"""Settings of a daemon that is a pod of the box."""


@pytest.fixture(scope="module")
def site(box: Box, cluster: Cluster, images: None) -> Any:
    with pod_site(box, cluster) as made:
        yield made


def access(site: PodSite) -> dict[str, str]:
    """What a user has of the store."""
    names = ("OS_AUTH_URL", "OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_SECRET", "OS_REGION_NAME")
    return {**{name: site.variables[name] for name in names}, "SWIFT_CONTAINER_NAME": CONTAINER}


def verified(env_file: Path, values: Mapping[str, str], plan: Mapping[str, Any]) -> list[str]:
    """What the program says, with its times cut off."""
    env_file.touch(mode=0o600)
    env_file.write_text("".join(f"{name}='{value}'\n" for name, value in values.items()))
    argv = [sys.executable, "-m", "workflows.verify", "--env-file", str(env_file)]
    done = subprocess.run(argv, input=json.dumps(plan), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.partition(", in ")[0] for line in done.stdout.splitlines()]


async def test_a_job_for_each_architecture_and_each_gpu_that_there_is(site: PodSite, box: Box, tmp_path: Path):
    products = [A100, H100, V100]
    more = {"PFMOC_GPU_PRODUCTS": ",".join(products), "PFMOC_ARCHITECTURES": "*-ppc64le:*=ppc64le"}
    async with site.serve(tmp_path, **more) as served:
        with simulated(box, POOLS):
            plan = {"images": IMAGES, "products": products, "nodes": cluster_program(box, site.namespace, "nodes")["nodes"]}
            user = {"PFMOC_URL": f"{served.url}/api/v1/", "PFCON_USER": USER, "PFCON_PASSWORD": PASSWORD}
            said = await asyncio.to_thread(verified, tmp_path / "access.env", {**access(site), **user}, plan)
        await eventually(lambda: not site.kept(), what="nothing to be left", deadline_s=60)
    assert said[1:] == [
        "a job on amd64: ran on box-0, output read back",
        "a job on ppc64le: ran on box-0, output read back",
        f"a job on amd64 with {A100}: placed on v-a100-0, which is simulated",
        f"a job on amd64 with {V100}: placed on v-v100-0, which is simulated",
        f"a job on ppc64le with {V100}: placed on v-power9-0, which is simulated",
        f"not tried, for there is no node with it, or no image for its processor: {H100}",
        "everything deleted, nothing left",
    ]


def test_the_template_makes_a_daemon_in_a_project_of_an_ordinary_user(site: PodSite, box: Box, alice: User, router: Router):
    site.tenant.swift.post_container(CONTAINER, {"X-Container-Meta-Temp-URL-Key": KEY})
    with alice.project() as project:
        objects = processed(template(site), alice, project)
        secret = next(each["stringData"] for each in objects if each["metadata"]["name"] == "pfmoc-settings")
        kubectl = [str(box.toolchain / "bin/kubectl"), "--kubeconfig", str(alice.kubeconfig), "--namespace", project]
        everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        done = subprocess.run([*kubectl, "apply", "--filename=-"], input=everything, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        alice.wait(
            alice.apps.list_namespaced_deployment,
            lambda found: found.status.available_replicas == 2,
            project,
            deadline_s=DEADLINE_S,
        )
        assert used(site, alice, project, router, secret["PFCON_PASSWORD"])["container_env"] == "openshift"


def test_where_pods_share_a_claim_with_the_daemon_it_brings_their_data_from_swift_and_back(
    site: PodSite, box: Box, admin: User, router: Router, namespace: str
):
    site.tenant.swift.post_container(CONTAINER, {"X-Container-Meta-Temp-URL-Key": KEY})
    admin.core.create_namespaced_persistent_volume_claim(namespace, claim("pfmoc", "ReadWriteMany"))
    objects = processed(template(site), admin, namespace)
    secrets = {each["metadata"]["name"]: each["stringData"] for each in objects if each["kind"] == "Secret"}
    for each in objects:
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding", "Secret"):
            kubernetes.utils.create_from_dict(admin.api, each, namespace=namespace)
    admin.make_route(namespace, "pfmoc", "pfmoc", port={"targetPort": "http"}, tls={"termination": "edge"})
    settings = {"CONTAINER_ENV": "kubernetes", "STORAGE_ENV": "swift", "PFCON_INNETWORK": "true", **WITHIN}
    daemon = {"image": MOVER, "secrets": list(secrets), "claim": "pfmoc", "replicas": 2, "cpu_m": 500, "settings": settings}
    cluster_program(box, namespace, "apply", timeout_s=300, route_port=router.https, authorities=authorities(box), daemon=daemon)
    info = used(site, admin, namespace, router, secrets["pfmoc-settings"]["PFCON_PASSWORD"])
    assert (info["storage_env"], info["compute_volume_type"]) == ("swift", "kubernetes_pvc")


def used(site: PodSite, user: User, namespace: str, router: Router, password: str) -> Mapping[str, Any]:
    """Go on a user's journey by the daemon's route; what its server says of itself."""
    assert user.admitted(namespace, "pfmoc")["status"] == "True"
    host = user.custom.get_namespaced_custom_object("route.openshift.io", "v1", namespace, "routes", "pfmoc")["spec"]["host"]
    until(lambda: router.get_secure(host, "/readyz").status == 200, what="the route to lead to the pods", deadline_s=DEADLINE_S)
    trusted = authorities(site.box)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", trusted)  # set by the server anyway, and gone again afterwards
        found = Access(f"https://{host}:{router.https}/api/v1/", "pfcon", password, trusted, access(site))
        server = Server(found, threading.Event())
        said = list(journey(server, Plan(images={"amd64": BUSYBOX})))
    assert said[1].startswith("a job on amd64: ran")
    assert said[-1] == "everything deleted, nothing left"
    return server.info


def authorities(box: Box) -> str:
    """Who signs what the box's router shows."""
    return str(box.directory / "kubernetes/pki/ca.crt")


def template(site: PodSite) -> dict[str, Any]:
    """The Template, with its parameters given; and with settings of this box, where pods go another way."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docs/reference/pfmoc-template.yml").read_text())
    given = {
        **access(site),
        "IMAGE": MOVER,
        "OS_AUTH_URL": f"http://10.89.0.1:{site.box.port(0)}/v3",
        "SWIFT_TEMPURL_KEY": KEY,
    }
    for each in found["parameters"]:
        if each["name"] in given:
            each["value"] = given[each["name"]]
    (settings,) = (each for each in found["objects"] if each["kind"] == "ConfigMap")
    settings["data"] |= WITHIN
    return found


def processed(template: dict[str, Any], user: User, namespace: str) -> list[dict[str, Any]]:
    """The Template's objects, as OpenShift makes them of its parameters."""
    group = "template.openshift.io"
    made = user.custom.create_namespaced_custom_object(group, "v1", namespace, "processedtemplates", template)
    return list(made["objects"])
