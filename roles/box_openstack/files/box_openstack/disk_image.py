"""Disk images with nothing on them, as small as their format allows: the hypervisor pretends, so nothing ever boots."""

from __future__ import annotations

import struct

SIZE = 1 << 30  # bytes that a qcow2 image claims to hold
CLUSTER_BITS = 16
_CLUSTER = 1 << CLUSTER_BITS


def content(disk_format: str) -> bytes:
    """The bytes of an empty image. Glance looks whether they are what the format says."""
    if disk_format == "raw":
        return bytes(_CLUSTER)
    if disk_format == "qcow2":
        return _qcow2()
    raise ValueError(f"no image of format {disk_format} can be made")


def _qcow2() -> bytes:
    """A header, a refcount table with one block, and a first-level table in which nothing is allocated."""
    table, block, first_level = _CLUSTER, 2 * _CLUSTER, 3 * _CLUSTER
    # Each entry of the first level stands for one cluster of 8-byte second-level entries.
    entries = SIZE // (_CLUSTER // 8 * _CLUSTER)
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        2,  # version
        0,  # no backing file,
        0,  # nor a name of one
        CLUSTER_BITS,
        SIZE,
        0,  # no encryption
        entries,
        first_level,
        table,
        1,  # clusters of the refcount table
        0,  # no snapshots,
        0,  # nor a table of them
    )
    counts = struct.pack(">4H", 1, 1, 1, 1)  # the four clusters of this file
    parts = (header, struct.pack(">Q", block), counts, bytes(8 * entries))
    return b"".join(part.ljust(_CLUSTER, b"\0") for part in parts)
