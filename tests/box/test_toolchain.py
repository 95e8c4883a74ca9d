"""What the toolchain made answers, and Pulumi works with it without a word of warning."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from harness.box import CACHE

TOOLCHAIN = CACHE / "toolchain"
UV = Path(os.environ.get("UV") or shutil.which("uv") or "uv")
MADE_S = 120
KUBERNETES = "Kubernetes v1.35."


def run(*argv: str | Path, directory: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=directory, env={**os.environ, **environment}, capture_output=True, text=True, timeout=MADE_S, check=True
    )


def product(name: str) -> Path:
    directory = TOOLCHAIN / "current" / name
    if not directory.exists():
        pytest.skip(f"the toolchain of this machine has no {name}; `make box` makes it")
    return directory


@pytest.mark.parametrize(
    ("name", "command", "says"),
    [
        ("kube", "etcd --version", "etcd Version: 3."),
        ("kube", "kube-apiserver --version", KUBERNETES),
        ("kube", "kube-controller-manager --version", KUBERNETES),
        ("kube", "kube-proxy --version", KUBERNETES),
        ("kube", "kube-scheduler --version", KUBERNETES),
        ("kube", "kubectl version --client", "Client Version: v1.35."),
        ("kube", "kubelet --version", KUBERNETES),
        ("coredns", "coredns -version", "CoreDNS-1."),
        ("storage", "local-path-provisioner --version", "version v0."),
        ("kwok", "kwok --version", "version v0."),
        ("openshift", "openshift-apiserver --version", "Kubernetes v1.26."),
        ("runtime", "containerd --version", "containerd"),
        ("runtime", "runc --version", "runc version 1."),
        ("runtime", "ctr --version", "ctr"),
        ("runtime", "haproxy -v", "HAProxy version"),
        ("runtime", "nft --version", "nftables v1."),
        ("runtime", "busybox uname -s", "Linux"),
        ("pulumi", "pulumi version", "v3."),
    ],
)
def test_program_answers_its_version(name, command, says):
    product(name)
    program, *arguments = command.split()
    assert says in run(TOOLCHAIN / "bin" / program, *arguments).stdout


def test_program_of_another_architecture_runs():
    product("runtime")
    programs = TOOLCHAIN / "bin"
    assert run(programs / "qemu-ppc64le-static", programs / "busybox-ppc64le", "uname", "-m").stdout == "ppc64le\n"


def test_network_plugins_are_there():
    plugins = product("runtime") / "cni"
    assert {"ptp", "loopback", "host-local", "portmap"} <= {path.name for path in plugins.iterdir()}


def test_pause_ends_when_asked():
    product("kube")
    with subprocess.Popen([TOOLCHAIN / "bin" / "pause"]) as pause:
        pause.terminate()
        assert pause.wait(timeout=MADE_S) in (0, -15)


def test_stages_are_of_the_simulators_own_kind():
    for file in ("fast", "general"):
        documents = list(yaml.safe_load_all((product("kwok") / "stages" / f"{file}.yaml").read_text()))
        assert {document["kind"] for document in documents} == {"Stage"}
        assert {document["spec"]["resourceRef"]["kind"] for document in documents} == {"Node", "Pod"}


def test_openshift_has_the_resources_that_the_design_names():
    kinds = {yaml.safe_load(file.read_text())["spec"]["names"]["kind"] for file in (product("openshift") / "crds").iterdir()}
    assert {"SecurityContextConstraints", "ClusterResourceQuota", "RoleBindingRestriction", "MachineSet", "Machine"} <= kinds
    assert {"Ingress", "Project", "ClusterVersion", "ClusterOperator", "Infrastructure"} <= kinds


@pytest.fixture
def pulumi(tmp_path):
    """The settings as others take them, a state of its own, and an interpreter that has the SDK."""
    product("pulumi")
    settings = dict(line.split("=", 1) for line in (TOOLCHAIN / "pulumi.env").read_text().splitlines())
    state = tmp_path / "state"
    state.mkdir()
    return settings | {
        "PATH": ":".join([str(TOOLCHAIN / "bin"), str(Path(sys.executable).parent), str(UV.parent), "/usr/bin", "/bin"]),
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": "test",
    }


def test_pulumi_says_nothing_but_its_version(pulumi):
    done = run("pulumi", "version", **pulumi)
    assert done.stdout.startswith("v3.")
    assert not done.stderr


def test_pulumi_knows_its_plugins(pulumi):
    product("pulumi_kubernetes")
    product("pulumi_openstack")
    done = run("pulumi", "plugin", "ls", "--json", **pulumi)
    assert not done.stderr
    plugins = {(plugin["name"], plugin["version"]) for plugin in json.loads(done.stdout)}
    assert {("kubernetes", "4.25.0"), ("openstack", "5.5.3")} <= plugins


@pytest.fixture
def program(tmp_path, pulumi):
    """A program without resources, with a stack. Pulumi asks uv what is installed: an environment of uv has no pip."""
    directory = tmp_path / "program"
    directory.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "uv", "virtualenv": sys.prefix}}
    (directory / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "nothing", "runtime": runtime}))
    (directory / "__main__.py").write_text("import pulumi\npulumi.export('answer', 42)\n")
    run("pulumi", "stack", "init", "test", directory=directory, **pulumi)
    return directory


def test_pulumi_previews_without_a_warning(program, pulumi):
    done = run("pulumi", "preview", "--non-interactive", "--color=never", directory=program, **pulumi)
    told = done.stdout + done.stderr
    assert "answer" in told
    assert "warning" not in told.lower()
    assert "upgrade" not in told.lower()


@pytest.mark.parametrize(("name", "resource"), [("kubernetes", "Provider"), ("openstack", "Provider")])
def test_each_plugin_is_taken_by_its_package_without_a_warning(program, pulumi, name, resource):
    product(f"pulumi_{name}")
    settings = {"kubernetes": "render_yaml_to_directory='out'", "openstack": "auth_url='http://127.0.0.1:9/v3'"}[name]
    text = f"import pulumi_{name} as package\npackage.{resource}('one', {settings})\n"
    (program / "__main__.py").write_text(text)
    done = run("pulumi", "preview", "--non-interactive", "--color=never", directory=program, **pulumi)
    told = done.stdout + done.stderr
    assert f"pulumi:providers:{name}" in told
    assert "warning" not in told.lower()


def test_plugins_keep_off_the_path():
    product("pulumi_kubernetes")
    names = {path.name for path in (TOOLCHAIN / "bin").iterdir()}
    assert not names & {"pulumi-resource-kubernetes", "pulumi-resource-openstack"}


def test_build_is_repeatable_and_quick():
    """A second run changes nothing and asks nothing of Go."""
    product("kwok")
    builder = Path(__file__).resolve().parents[2] / "roles" / "toolchain" / "files" / "build_toolchain.py"
    done = run(sys.executable, builder, "--directory", TOOLCHAIN, "kwok", PATH="/usr/bin:/bin")
    assert json.loads(done.stdout)["changed"] is False
