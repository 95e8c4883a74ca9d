"""Which storage the settings ask for."""

from __future__ import annotations

from pfmoc.settings import Settings
from pfmoc.storage.base import Storage
from pfmoc.storage.filesystem import FilesystemStorage
from pfmoc.storage.fslink import FslinkStorage
from pfmoc.storage.handover import handover
from pfmoc.storage.object_registry import open_s3, open_swift
from pfmoc.storage.paths import StoreBase
from pfmoc.storage.placed import PlacedStorage
from pfmoc.storage.zip_in import Limits
from pfmoc.storage.zipfile import ZipfileStorage


def open_placed(settings: Settings) -> Storage:
    """Make the storage of jobs whose client shares the storeBase, and stages for itself."""
    return PlacedStorage(storebase=StoreBase(settings.storebase_mount), handover=handover(settings))


def open_storage(settings: Settings) -> Storage:
    """Make the storage of ``STORAGE_ENV``.

    Outside production the storeBase is made when absent. In production it is the operator's: an absent one is more likely an
    unmounted one, and ``probe`` says so.
    """
    if settings.dev and not settings.travels:
        settings.storebase_mount.mkdir(parents=True, exist_ok=True)
    match settings.storage_env:
        case "swift":
            return open_swift(settings)
        case "s3":
            return open_s3(settings)
    storebase = StoreBase(settings.storebase_mount)
    writer = handover(settings)
    match settings.storage_env:
        case "zipfile":
            limits = Limits(entries=settings.max_unpacked_files, size=settings.max_unpacked_bytes, ratio=settings.max_zip_ratio)
            return ZipfileStorage(storebase=storebase, handover=writer, limits=limits)
        case "filesystem":
            return FilesystemStorage(storebase=storebase, handover=writer)
        case "fslink":
            return FslinkStorage(
                storebase=storebase,
                handover=writer,
                # A process sees its input writable, so it must never get a link to a user's file.
                hard_links=not writer.same_user,
                limit=settings.max_unpacked_files,
            )
