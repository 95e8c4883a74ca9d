"""Write images into an OCI layout directory, without a container engine, a registry or root.

Layers: first bases, given as tar files, each stored once for all the images that share it, and on top of them some
directories of this machine. podman reads the result with ``podman pull oci:LAYOUT:REFERENCE``, and containerd as a tar file with
``ctr images import``.

Why not ``podman build``: a layer of ten thousand small files passes through it three times, which takes 14 s for
one plugin where this takes 2; and the same layout serves engines that cannot build. Standard library only.
"""
# ruff: noqa: INP001 - it lies beside the program that uses it

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MEDIA = "application/vnd.oci.image"
REFERENCE = "org.opencontainers.image.ref.name"
# containerd takes the full name from here, and what OCI names for a tag alone.
CONTAINERD_NAME = "io.containerd.image.name"
CHUNK = 1 << 20

Json = dict[str, Any]


class HashingWriter(io.RawIOBase):
    """Pass what is written on to a file and know its digest and size."""

    def __init__(self, sink: IO[bytes]) -> None:
        super().__init__()
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: Any, /) -> int:
        """Write ``data``, all of it."""
        self._hash.update(data)
        self.size += len(data)
        return self._sink.write(data)

    @property
    def digest(self) -> str:
        """The digest of everything written so far, as OCI spells it."""
        return f"sha256:{self._hash.hexdigest()}"


class Layout:
    """An OCI layout directory: ``oci-layout``, ``index.json`` and content-addressed blobs."""

    def __init__(self, path: Path) -> None:
        self._blobs = path / "blobs" / "sha256"
        self._index = path / "index.json"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._replace(path / "oci-layout", {"imageLayoutVersion": "1.0.0"})

    @contextlib.contextmanager
    def blob(self, media_type: str) -> Iterator[tuple[HashingWriter, Json]]:
        """Yield a writer and a descriptor; the descriptor is complete once the block has ended."""
        descriptor: Json = {"mediaType": media_type}
        with tempfile.NamedTemporaryFile(dir=self._blobs, delete=False) as sink:
            writer = HashingWriter(sink.file)
            try:
                yield writer, descriptor
            except BaseException:
                Path(sink.name).unlink()
                raise
        descriptor |= {"digest": writer.digest, "size": writer.size}
        Path(sink.name).chmod(0o644)
        Path(sink.name).replace(self._blobs / writer.digest.removeprefix("sha256:"))

    def json_blob(self, media_type: str, document: Json) -> Json:
        """Store ``document`` and return its descriptor."""
        with self.blob(media_type) as (writer, descriptor):
            writer.write(_canonical(document))
        return descriptor

    def tag(self, reference: str, manifest: Json) -> None:
        """Make ``reference`` name ``manifest``, in place of what it named before."""
        index: Json = json.loads(self._index.read_text()) if self._index.exists() else {"schemaVersion": 2}
        others = [entry for entry in index.get("manifests", []) if entry["annotations"][REFERENCE] != reference]
        index["manifests"] = [*others, manifest | {"annotations": {REFERENCE: reference, CONTAINERD_NAME: reference}}]
        self._replace(self._index, index)

    @staticmethod
    def _replace(path: Path, document: Json) -> None:
        draft = path.with_suffix(".new")
        draft.write_bytes(_canonical(document))
        draft.replace(path)


def _canonical(document: Json) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _for_everyone(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make a file root's and everyone's to read: jobs run as arbitrary users.

    Times stay: compiled Python files name the time of their source.
    """
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode |= 0o555 if member.isdir() or member.mode & 0o100 else 0o444
    return member


def add_image(
    layout: Layout,
    reference: str,
    *,
    trees: Mapping[Path, str],
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    bases: Sequence[Path] = (),
    entrypoint: Sequence[str] = (),
    architecture: str | None = None,
) -> str:
    """Add an image of one architecture and return its digest.

    :param reference: its full name with its tag

    The others are those of ``write_image``.
    """
    descriptor = write_image(
        layout,
        trees=trees,
        environment=environment,
        labels=labels,
        bases=bases,
        entrypoint=entrypoint,
        architecture=architecture,
    )
    layout.tag(reference, descriptor)
    return str(descriptor["digest"])


def write_image(
    layout: Layout,
    *,
    trees: Mapping[Path, str],
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    bases: Sequence[Path] = (),
    entrypoint: Sequence[str] = (),
    architecture: str | None = None,
    user: str = "",
) -> Json:
    """Write an image that has no name yet, and return its descriptor.

    :param trees: directories or files, each with its place in the image
    :param bases: tar files that are the lower layers, the lowest first
    :param entrypoint: the program that a container runs when it is told no other, with its first arguments
    :param architecture: in Go's spelling; this machine's by default
    :param user: ``uid:gid`` that it runs as where nobody says otherwise; root by default
    """
    layers = []
    for base in bases:
        with base.open("rb") as source, layout.blob(f"{MEDIA}.layer.v1.tar") as (writer, layer):
            shutil.copyfileobj(source, writer, CHUNK)
        layers.append(layer)
    with layout.blob(f"{MEDIA}.layer.v1.tar") as (writer, layer):
        pack(trees, writer)
    layers.append(layer)
    platform = {"architecture": architecture or _go_architecture(os.uname().machine), "os": "linux"}
    config = layout.json_blob(
        f"{MEDIA}.config.v1+json",
        platform
        | {
            "config": {
                "Env": [f"{name}={value}" for name, value in environment.items()],
                "Labels": dict(labels),
                "WorkingDir": "/",
            }
            | ({"Entrypoint": list(entrypoint)} if entrypoint else {})
            | ({"User": user} if user else {}),
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        },
    )
    media_type = f"{MEDIA}.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}
    return layout.json_blob(media_type, manifest) | {"platform": platform}


def write_index(layout: Layout, images: Sequence[Json]) -> Json:
    """Write an image of several architectures, from the descriptors of one for each, and return its descriptor."""
    media_type = f"{MEDIA}.index.v1+json"
    return layout.json_blob(media_type, {"schemaVersion": 2, "mediaType": media_type, "manifests": list(images)})


def pack(trees: Mapping[Path, str], sink: Any) -> None:
    """Write directories or files of this machine as a layer, a tar file, each at its place in the image."""
    # "w|" streams: the sink need not seek.
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK // 16) as tar:
        for tree, place in trees.items():
            tar.add(tree, arcname=place.strip("/"), filter=_for_everyone)


def _go_architecture(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
