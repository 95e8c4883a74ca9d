"""What operators do wrong, and what is not as they think: a readable sentence each, of the commands and of plain pulumi."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.box import Box
from harness.operators import OPENSHIFT, OPENSTACK, Operator, operating
from harness.tenants import administrator, sdk_warnings, tenant

pytestmark = sdk_warnings

NAME = "box-input"
TENANT = {"name": "f-in", "pi": "f@example.org"}
ON_OPENSTACK = {
    "name": NAME,
    "clouds": {"openstack": OPENSTACK},
    "tenants": [{**TENANT, "openstack": {}, "users": [{"name": "f-in-ann", "source": "local"}]}],
}
ON_OPENSHIFT = {"name": NAME, "clouds": {"openshift": OPENSHIFT}, "tenants": [{**TENANT, "openshift": {}}]}

Break = Callable[[Box, Path], dict[str, str]]
"""Takes the box and a directory for files; the environment in which something is wrong."""


@pytest.fixture(scope="module")
def operator(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An operator with a state, in which there is nothing."""
    assert box.kubeconfig
    with operating(box, tmp_path_factory.mktemp("input"), ON_OPENSTACK, up=False) as made:
        code, _, err = made.run("preview")
        assert code == 0, err
        yield made


def clouds(box: Box, directory: Path, **auth: str) -> dict[str, str]:
    """A clouds.yaml of the box in which something is otherwise."""
    document = yaml.safe_load(box.clouds_yaml.read_text())
    document["clouds"]["box"]["auth"] |= auth
    file = directory / "clouds.yaml"
    file.write_text(yaml.safe_dump(document))
    return {"OS_CLIENT_CONFIG_FILE": str(file)}


def kubeconfig(box: Box, directory: Path, *, server: str = "", user: dict[str, Any] | None = None) -> dict[str, str]:
    """A kubeconfig of the box in which something is otherwise."""
    document = yaml.safe_load(box.kubeconfig.read_text())
    if server:
        document["clusters"][0]["cluster"]["server"] = server
    if user is not None:
        document["users"][0]["user"] = user
    file = directory / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return {"KUBECONFIG": str(file)}


def somebody(box: Box, _: Path) -> dict[str, str]:
    """An ordinary user of the cluster, whose context has the administrator's name."""
    alice = yaml.safe_load((box.directory / "users" / "alice.kubeconfig").read_text())
    return kubeconfig(box, _, user=alice["users"][0]["user"])


def no_plugins(_: Box, directory: Path) -> dict[str, str]:
    return {"PULUMI_HOME": str(directory), "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true"}


WRONG: list[tuple[str, dict[str, Any], Break, str]] = [
    (
        "wrong password",
        ON_OPENSTACK,
        lambda box, directory: clouds(box, directory, password="wrong"),
        "the cloud does not take these credentials",
    ),
    (
        "dead endpoint",
        ON_OPENSTACK,
        lambda box, directory: clouds(box, directory, auth_url="http://127.0.0.1:9/v3"),
        "nothing listens at http://127.0.0.1:9/v3",
    ),
    (
        "no such user",
        {**ON_OPENSTACK, "tenants": [{**TENANT, "openstack": {}, "users": [{"name": "f-in-nobody"}]}]},
        lambda *_: {},
        "Keystone has no user 'f-in-nobody' who may sign in",
    ),
    (
        "no such role",
        {**ON_OPENSTACK, "tenants": [{**TENANT, "openstack": {"service_roles": ["f-boss"]}}]},
        lambda *_: {},
        "there is no Keystone role 'f-boss'",
    ),
    (
        "no such network",
        {**ON_OPENSTACK, "clouds": {"openstack": {**OPENSTACK, "external_network": "f-out"}}},
        lambda *_: {},
        "there is no external network 'f-out'",
    ),
    ("no plugin", ON_OPENSTACK, no_plugins, "the engine has no plugin openstack"),
    (
        "no cloud of that name",
        {**ON_OPENSTACK, "clouds": {"openstack": {**OPENSTACK, "cloud": "elsewhere"}}},
        lambda *_: {},
        "clouds.yaml has no entry 'elsewhere'",
    ),
    (
        "no passphrase",
        ON_OPENSTACK,
        lambda *_: {"PULUMI_CONFIG_PASSPHRASE": "wrong"},
        "the passphrase does not open the stack's secrets",
    ),
    (
        "expired token",
        ON_OPENSHIFT,
        lambda box, directory: kubeconfig(box, directory, user={"token": "expired"}),
        "the cloud does not take these credentials",
    ),
    ("no administrator of the cluster", ON_OPENSHIFT, somebody, "the user alice may not get namespaces in the cluster"),
    (
        "cluster out of reach",
        ON_OPENSHIFT,
        lambda box, directory: kubeconfig(box, directory, server="https://127.0.0.1:9"),
        "nothing listens at https://127.0.0.1:9",
    ),
    (
        "no kubeconfig",
        ON_OPENSHIFT,
        lambda _, directory: {"KUBECONFIG": str(directory / "none")},
        "there is no usable kubeconfig",
    ),
]
PLAIN = {
    "no cloud of that name": "elsewhere was not found; add it to clouds.yaml",
    "no plugin": "no resource plugin",
    "no such user": "the Keystone user 'f-in-nobody' cannot be looked up",
    "no such role": "the Keystone role 'f-boss' cannot be looked up",
    "no such network": "the external network 'f-out' cannot be looked up",
    "no passphrase": "incorrect passphrase",
    "expired token": "provide credentials",
    "no administrator of the cluster": 'User "alice" cannot get resource "namespaces"',
    "cluster out of reach": "connection refused",
    "no kubeconfig": "failed to parse kubeconfig data",
}
"""What the engine and its providers say themselves, where it differs."""


@pytest.mark.parametrize(("site", "wrong", "sentence"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_a_sentence_and_no_stack_trace(request, operator, box, tmp_path, site, wrong, sentence):
    operator.write(site)
    environ = wrong(box, tmp_path)
    plain = PLAIN.get(request.node.callspec.id, sentence)
    with ThreadPoolExecutor() as pool:
        ours = pool.submit(operator.run, "preview", **environ)
        theirs = pool.submit(operator.pulumi, "preview", "--stack", NAME, **environ)
        (code, out, err), (plain_code, plain_out, plain_err) = ours.result(), theirs.result()
    assert (code, out) == (1, ""), err
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert sentence in line
    assert "; " in line.split(sentence)[0] + line.split(sentence)[1], "with the next step"
    assert plain_code
    assert plain in plain_out + plain_err


def test_a_user_who_may_not_make_projects(operator, box, tmp_path):
    operator.write(ON_OPENSTACK)
    with administrator(box) as admin, tenant(box, admin, "f-in") as ordinary:
        wrong = {"username": ordinary.name, "password": ordinary.password, "project_name": ordinary.name}
        environ = clouds(box, tmp_path, **wrong)
        code, _, err = operator.run("up", "--yes", **environ)
        assert code == 1
        assert "the cloud does not let this user do that" in err.splitlines()[-1]
        assert "must be of an administrator of the cloud" in err.splitlines()[-1]
        code, out, err = operator.pulumi("preview", "--stack", NAME, **environ)
        assert code
        assert "the cloud does not let this user do that" in out + err


def test_a_wrong_site_file_never_reaches_a_cloud(operator, box, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        environ = clouds(box, tmp_path, auth_url=f"http://{address}/v3")
        environ |= kubeconfig(box, tmp_path, server=f"https://{address}")
        site = copy.deepcopy(ON_OPENSTACK) | {"clouds": {"openstack": dict(OPENSTACK), "openshift": dict(OPENSHIFT)}}
        site["tenants"][0] |= {"conatiners": []}
        site["tenants"][0]["openstack"] = {"quotas": {"compute": {"cores": "many"}}}
        operator.write(site)
        before = operator.state.stat().st_mtime_ns
        for words in (("up", "--yes"), ("preview",), ("drift",), ("destroy", "--yes"), ("doctor",), ("headroom",)):
            code, out, err = operator.run(*words, **environ)
            assert (code, out) == (1, ""), (words, err)
            assert "tenants[f-in].conatiners: is not known here" in err
            assert "tenants[f-in].openstack.quotas.compute.cores" in err
        code, out, err = operator.pulumi("preview", "--stack", NAME, **environ)
        assert code
        assert "tenants[f-in].conatiners: is not known here" in out + err
        assert operator.state.stat().st_mtime_ns == before
        with pytest.raises(BlockingIOError):
            listener.accept()
