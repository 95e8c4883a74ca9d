"""Images written without an engine."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import tarfile
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[3] / "roles" / "plugin_images" / "files" / "oci_layout.py"
SPEC = importlib.util.spec_from_file_location("oci_layout", FILE)
assert SPEC is not None
assert SPEC.loader is not None
oci_layout = importlib.util.module_from_spec(SPEC)
sys.modules["oci_layout"] = oci_layout
SPEC.loader.exec_module(oci_layout)


@pytest.fixture
def layout(tmp_path):
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "program").write_text("#!/bin/sh\n")
    (tree / "bin" / "program").chmod(0o700)
    (tree / "data").write_text("x")
    (tree / "data").chmod(0o600)
    base = tmp_path / "base.tar"
    with tarfile.open(base, "w") as tar:
        tar.addfile(tarfile.TarInfo("etc"))
    for name in ("one", "two"):
        oci_layout.add_image(
            oci_layout.Layout(tmp_path / "layout"),
            f"localhost/{name}:1",
            bases=[base],
            trees={tree: "/opt/plugin"},
            environment={"PATH": "/opt/plugin/bin"},
            labels={"name": name},
        )
    return tmp_path / "layout"


def blob(layout: Path, descriptor: dict[str, str]) -> Path:
    return layout / "blobs" / "sha256" / descriptor["digest"].removeprefix("sha256:")


def test_every_blob_is_what_its_name_says(layout):
    for file in (layout / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name


def test_images_are_found_by_name_and_share_their_base(layout):
    index = json.loads((layout / "index.json").read_text())
    assert [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]] == [
        "localhost/one:1",
        "localhost/two:1",
    ]
    one, two = (json.loads(blob(layout, entry).read_text()) for entry in index["manifests"])
    assert one["layers"][0] == two["layers"][0]
    config = json.loads(blob(layout, two["config"]).read_text())
    assert config["config"]["Labels"] == {"name": "two"}
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in two["layers"]]


def test_any_user_may_read_and_run_the_files(layout):
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(layout, index["manifests"][0]).read_text())
    with tarfile.open(blob(layout, manifest["layers"][1])) as tar:
        modes = {member.name: (member.mode & 0o777, member.uid) for member in tar}
    assert modes["opt/plugin/bin/program"] == (0o755, 0)
    assert modes["opt/plugin/data"] == (0o644, 0)
