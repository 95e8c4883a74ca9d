"""What goes into the daemon's image, for which machine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROLES = Path(__file__).resolve().parents[3] / "roles"
FILE = ROLES / "pfmoc_image" / "files" / "build_image.py"

LOCK = """aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
isal==1.9.1 ; platform_machine == 'aarch64' or platform_machine == 'x86_64' \\
    --hash=sha256:cc
typing-extensions==4.16.0 ; python_full_version < '3.13' \\
    --hash=sha256:dd
"""


@pytest.fixture(scope="module")
def build_image():
    sys.path.append(str(ROLES / "plugin_images" / "files"))
    spec = importlib.util.spec_from_file_location("build_image", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_image"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def requirements(build_image, monkeypatch, tmp_path):
    monkeypatch.setattr(build_image.Platform, "python", "3.11")
    monkeypatch.setattr(build_image.Specification, "lock", LOCK)

    def of(architecture):
        bases = {architecture: tmp_path / "base.tar"}
        spec = build_image.Specification(directory=tmp_path, source=tmp_path, uv="uv", reference="l/x:1", bases=bases)
        return build_image.Platform(architecture=architecture, base=bases[architecture], specification=spec).requirements

    return of


def test_the_lock_is_read_for_the_image_and_not_for_the_machine_that_makes_it(requirements):
    assert requirements("ppc64le").splitlines() == [
        "aiohttp==3.14.5 --hash=sha256:aa --hash=sha256:bb",
        "typing-extensions==4.16.0 --hash=sha256:dd",
    ]
    assert "isal==1.9.1 --hash=sha256:cc" in requirements("amd64").splitlines()
    assert "isal" in requirements("arm64")


def test_equal_sources_make_an_equal_tree(build_image, tmp_path):
    trees = []
    for name in ("one", "two"):
        tree = tmp_path / name / "lib"
        tree.mkdir(parents=True)
        (tree / "module.py").write_text("def f():\n    return 1\n")
        build_image.settle(tmp_path / name, f"{sys.version_info[0]}.{sys.version_info[1]}")
        found = sorted(path for path in tree.rglob("*") if path.is_file())
        assert {path.stat().st_mtime for path in found} == {0}
        trees.append([(path.relative_to(tree), path.read_bytes()) for path in found])
    assert trees[0] == trees[1]
    assert len(trees[0]) == 2, "the module, and its bytecode"
