"""Image archives made of programs of this machine, as `podman save` writes them."""

from __future__ import annotations

import importlib.util
import json
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

_FILE = Path(__file__).resolve().parents[2] / "roles/plugin_images/files/oci_layout.py"


def write_archive(archive: Path, reference: str, files: Mapping[str, Path]) -> None:
    """Write an OCI archive of one image.

    :param reference: its full name with its tag
    :param files: programs by their place in the image; each program once
    """
    spec = importlib.util.spec_from_file_location("oci_layout", _FILE)
    assert spec
    assert spec.loader
    oci_layout = sys.modules.setdefault("oci_layout", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(oci_layout)
    layout = archive.with_suffix(".layout")
    oci_layout.add_image(
        oci_layout.Layout(layout),
        reference,
        trees={file.resolve(): place for place, file in files.items()},
        environment={"PATH": "/bin"},
        labels={},
    )
    index = json.loads((layout / "index.json").read_text())
    for entry in index["manifests"]:
        # podman writes OCI's own annotation and no other.
        entry["annotations"] = {oci_layout.REFERENCE: reference}
    (layout / "index.json").write_text(json.dumps(index))
    with tarfile.open(archive, "w") as tar:
        tar.add(layout, arcname=".")
