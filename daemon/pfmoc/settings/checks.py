"""What settings must not say together."""

from __future__ import annotations

from collections.abc import Iterator

from pfmoc.listeners import contradictions as listener_contradictions
from pfmoc.settings.fields import Settings

Problem = tuple[frozenset[str], str]
"""The variables that a problem rests on, and its text."""


def contradictions(settings: Settings, *, bad: set[str]) -> list[str]:
    """Problems that lie between fields; none that rests on a variable which is itself bad."""
    found = [
        problem
        for check in (_credentials, _listeners, _storage, _legacy, _volumes, _swift, _s3, _paths)
        for problem in check(settings)
    ]
    return [text for names, text in found if not names & bad]


def _credentials(settings: Settings) -> Iterator[Problem]:
    if settings.dev:
        if not settings.loopback:
            yield (
                frozenset({"PFMOC_HOST", "APPLICATION_MODE"}),
                f"PFMOC_HOST: {settings.host} is not loopback, and development credentials are never offered to a network;"
                " set APPLICATION_MODE=production with SECRET_KEY, PFCON_USER and PFCON_PASSWORD",
            )
        return
    for name, value in (
        ("SECRET_KEY", settings.secret_key.get_secret_value()),
        ("PFCON_USER", settings.pfcon_user),
        ("PFCON_PASSWORD", settings.pfcon_password.get_secret_value()),
    ):
        if not value:
            yield frozenset({name}), f"{name}: is required when APPLICATION_MODE is production"


def _listeners(settings: Settings) -> Iterator[Problem]:
    main, *others = settings.endpoints
    token = settings.legacy_token.get_secret_value()
    for variable, text in listener_contradictions(main, others, token=token, dev=settings.dev, innetwork=settings.innetwork):
        yield frozenset({variable, "PFMOC_LEGACY_TOKEN", "PFMOC_HOST", "PORT"}), text


def _storage(settings: Settings) -> Iterator[Problem]:
    modes = frozenset({"STORAGE_ENV", "PFCON_INNETWORK"})
    if settings.innetwork and settings.storage_env == "zipfile":
        others = "swift, s3, filesystem or fslink"
        yield modes, f"STORAGE_ENV: must be {others} when PFCON_INNETWORK is true; zipfile moves data through the API"
    if not settings.innetwork and settings.storage_env != "zipfile":
        yield modes, f"STORAGE_ENV: must be zipfile when PFCON_INNETWORK is false, not {settings.storage_env}"


def _legacy(settings: Settings) -> Iterator[Problem]:
    if not settings.in_objects:
        return
    for number, endpoint in enumerate(settings.endpoints):
        variable = "PFMOC_LISTENERS" if number else "PFMOC_DIALECTS"
        for dialect in (name for name in endpoint.dialects if name == "pman" or name.startswith("cmd-")):
            yield (
                frozenset({variable, "STORAGE_ENV"}),
                f"{variable}: {dialect} is served from a file system only, and STORAGE_ENV is {settings.storage_env}",
            )


def _volumes(settings: Settings) -> Iterator[Problem]:
    volumes = frozenset({"CONTAINER_ENV", "COMPUTE_VOLUME_TYPE"})
    pvc = settings.volume_type == "kubernetes_pvc"
    if settings.container_env == "process":
        if settings.volume_type is not None:
            yield volumes, "COMPUTE_VOLUME_TYPE: has no meaning when CONTAINER_ENV is process; leave it unset"
        return
    if not settings.in_cluster:
        if pvc:
            yield volumes, f"COMPUTE_VOLUME_TYPE: kubernetes_pvc is nothing that {settings.container_env} has"
        if settings.volume_type == "host" and settings.storebase is None:
            yield volumes, "STOREBASE: is required when COMPUTE_VOLUME_TYPE is host: the storeBase's path on the engine's host"
        return
    if settings.volume_type is not None and not pvc:
        yield volumes, f"COMPUTE_VOLUME_TYPE: must be kubernetes_pvc, or unset, when CONTAINER_ENV is {settings.container_env}"
    if not settings.travels and not settings.volume_name:
        yield (
            frozenset({"VOLUME_NAME", "CONTAINER_ENV", "STORAGE_ENV"}),
            f"VOLUME_NAME: is required when CONTAINER_ENV is {settings.container_env} and STORAGE_ENV is {settings.storage_env}:"
            " the PersistentVolumeClaim that is the storeBase",
        )
    if settings.container_env == "openshift" and (settings.container_user.uid or settings.container_user.gid):
        yield (
            frozenset({"CONTAINER_ENV", "CONTAINER_USER"}),
            "CONTAINER_USER: must be unset when CONTAINER_ENV is openshift, which gives each project user ids of its own",
        )


def _swift(settings: Settings) -> Iterator[Problem]:
    if settings.storage_env != "swift":
        return
    keystone = {
        "OS_AUTH_URL": settings.os_auth_url,
        "OS_APPLICATION_CREDENTIAL_ID": settings.os_application_credential_id,
        "OS_APPLICATION_CREDENTIAL_SECRET": settings.os_application_credential_secret.get_secret_value(),
    }
    version_1 = {
        "SWIFT_AUTH_URL": settings.swift_auth_url,
        "SWIFT_USERNAME": settings.swift_username,
        "SWIFT_KEY": settings.swift_key.get_secret_value(),
    }
    if not any(keystone.values()) and not any(version_1.values()):
        yield (
            frozenset({*keystone, *version_1, "STORAGE_ENV"}),
            "OS_AUTH_URL: is required when STORAGE_ENV is swift, with OS_APPLICATION_CREDENTIAL_ID and"
            " OS_APPLICATION_CREDENTIAL_SECRET; or else SWIFT_AUTH_URL with SWIFT_USERNAME and SWIFT_KEY",
        )
    for name, value in (keystone if any(keystone.values()) else version_1 if any(version_1.values()) else {}).items():
        if not value:
            yield frozenset({name}), f"{name}: is required, as the other settings by which to sign in to Swift are set"
    if not settings.swift_container_name:
        yield frozenset({"SWIFT_CONTAINER_NAME", "STORAGE_ENV"}), "SWIFT_CONTAINER_NAME: is required when STORAGE_ENV is swift"


def _s3(settings: Settings) -> Iterator[Problem]:
    if settings.storage_env != "s3":
        return
    for name, value in (
        ("S3_ENDPOINT_URL", settings.s3_endpoint_url),
        ("S3_ACCESS_KEY", settings.s3_access_key),
        ("S3_SECRET_KEY", settings.s3_secret_key.get_secret_value()),
        ("S3_BUCKET_NAME", settings.s3_bucket_name),
    ):
        if not value:
            yield frozenset({name, "STORAGE_ENV"}), f"{name}: is required when STORAGE_ENV is s3"


def _paths(settings: Settings) -> Iterator[Problem]:
    for name, path in (
        ("STOREBASE_MOUNT", settings.storebase_mount),
        ("STOREBASE", settings.storebase),
        ("PFMOC_STATE_DIR", settings.state_dir),
        ("PFMOC_PROCESS_IMAGES", settings.process_images),
        ("PFMOC_RESOURCES", settings.resources),
        ("KUBECONFIG", settings.kubeconfig if settings.in_cluster else None),
    ):
        if path is not None and not path.is_absolute():
            yield frozenset({name}), f"{name}: must be an absolute path, not '{path}'"
