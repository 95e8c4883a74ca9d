"""Unpack a fetched archive: checksums verified, every file hashed, nothing written outside its directory."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from pfmoc.storage.workers import Stop
from pfmoc.workflow.manifest import CHUNK, FileEntry, Hashing, Manifest, wire_name
from pfmoc.workflow.problems import Damaged


def unzip(archive: Path, into: Path, stop: Stop) -> Manifest:
    """Unpack an archive into a new directory.

    :param into: is made; what was there before is removed
    :raises Damaged: it is no zip, a checksum is wrong, or a name is not one that a file may have
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    entries: dict[str, FileEntry] = {}
    try:
        with zipfile.ZipFile(archive) as source:
            for info in source.infolist():
                if info.is_dir():
                    continue
                name = wire_name(info.filename.lstrip("/"), where=info.filename)
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise Damaged(f"{name!a}: the archive holds a symbolic link")
                if name in entries:
                    raise Damaged(f"{name!a}: is twice in the archive")
                entries[name] = _unpack(source, info, into / name, name, stop)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise Damaged(f"the archive cannot be unpacked: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Damaged(f"the archive has a file and a directory of one name: {error.filename}") from error
    return Manifest(tuple(entries[name] for name in sorted(entries)))


def _unpack(source: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, name: str, stop: Stop) -> FileEntry:
    path.parent.mkdir(parents=True, exist_ok=True)
    hashing = Hashing()
    with source.open(info) as packed, path.open("xb") as target:
        while data := packed.read(CHUNK):  # raises BadZipFile at the end of an entry with a wrong checksum
            stop.check()
            hashing.update(data)
            target.write(data)
    return hashing.entry(name)
