#!/usr/bin/env python3
"""Tell what is in an archive of images: their names, and of each its architecture, its user, its layers, what its code is for.

describe.py ARCHIVE
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from typing import Any

MACHINES = {62: "x86_64", 21: "ppc64le", 183: "aarch64"}
"""What an ELF header calls them."""
GO = {"amd64": "x86_64", "arm64": "aarch64"}
LIBRARY = "pydantic_core/_pydantic_core."


def main() -> None:
    """Run the command line."""
    with tarfile.open(sys.argv[1]) as tar:
        members = {member.name.removeprefix("./"): member for member in tar}

        def opened(name: str) -> Any:
            return tar.extractfile(members[name])

        def read(digest: str) -> Any:
            return json.load(opened(f"blobs/sha256/{digest.removeprefix('sha256:')}"))

        entries = json.load(opened("index.json"))["manifests"]
        top = read(entries[0]["digest"])
        manifests = [read(each["digest"]) for each in top["manifests"]] if "manifests" in top else [top]
        images = []
        for manifest in manifests:
            config = read(manifest["config"]["digest"])
            library, unreadable = "", list[str]()
            # The first is Debian's own.
            for layer in manifest["layers"][1:]:
                blob = opened(f"blobs/sha256/{layer['digest'].removeprefix('sha256:')}")
                for member, head in _files(blob):
                    library = MACHINES[head[18]] if LIBRARY in member.name and member.name.endswith(".so") else library
                    unreadable += [] if member.mode & 0o004 else [member.name]
            images.append(
                {
                    "architecture": config["architecture"],
                    "machine": GO.get(config["architecture"], config["architecture"]),
                    "library": library,
                    "user": config["config"]["User"],
                    "layers": len(manifest["layers"]),
                    "unreadable": unreadable,
                }
            )
        names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries]
    print(json.dumps({"names": names, "images": images}))


def _files(blob: Any) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The files of a layer, and how each begins."""
    with tarfile.open(fileobj=blob) as layer:
        for member in layer:
            source = layer.extractfile(member) if member.isfile() else None
            if source:
                yield member, source.read(20)


if __name__ == "__main__":
    main()
