"""All settings, as one immutable object."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from pfmoc.listeners import DialectName, Endpoint, is_loopback, parse_listeners
from pfmoc.settings.cluster import ClusterSettings
from pfmoc.settings.objects import ObjectSettings
from pfmoc.settings.values import GIB, MIB, ContainerUser, Group, named, pairs, user, words

ContainerEnv = Literal["docker", "podman", "process", "kubernetes", "openshift"]
StorageEnv = Literal["zipfile", "filesystem", "fslink", "swift", "s3"]
VolumeType = Literal["docker_local_volume", "host", "kubernetes_pvc"]


class ServiceSettings(Group):
    """What concerns the daemon wherever it runs."""

    application_mode: str = named("APPLICATION_MODE", default="production")
    """Anything but ``production`` is development: published credentials, loopback only."""
    secret_key: SecretStr = named("SECRET_KEY", default=SecretStr(""))
    """Signs the tokens. Stable, so that tokens survive a restart: CUBE keeps them in its database."""
    pfcon_user: str = named("PFCON_USER", default="")
    """Who may ask for a token."""
    pfcon_password: SecretStr = named("PFCON_PASSWORD", default=SecretStr(""))
    """The password that goes with it."""

    host: str = named("PFMOC_HOST", default="127.0.0.1")
    """Address to bind."""
    port: Annotated[int, Field(ge=0, le=65535)] = named("PORT", default=5005)
    """0 lets the system choose; the log says which."""
    dialects: Annotated[tuple[DialectName, ...], BeforeValidator(words)] = named("PFMOC_DIALECTS", default=("pfcon6", "pfcon5"))
    """Generations of the API that are served on this port: ``pfcon6``, ``pfcon5``, ``pfcon4``; and, without a login, ``pfcon3``,
    ``pman``, ``cmd-pfcon``, ``cmd-pman``, ``cmd-pfioh``."""
    listeners: Annotated[tuple[Endpoint, ...], BeforeValidator(parse_listeners)] = named("PFMOC_LISTENERS", default=())
    """Further ports, ``DIALECT[+DIALECT...][@[HOST:]PORT]`` each, separated by commas: ``pman,cmd-pfioh,pfcon3@5006``. Without an
    address: 127.0.0.1, and 5010 for pman, 5055 for pfioh."""
    legacy_token: SecretStr = named("PFMOC_LEGACY_TOKEN", default=SecretStr(""))
    """What dialects without a login ask for, as a bearer token or as the password of Basic. Required where other machines can
    reach one; without it they are served on loopback only, and not to web browsers."""
    service_names: Annotated[tuple[str, ...], BeforeValidator(words)] = named(
        "PFMOC_SERVICE_NAMES", default=("host", "localhost")
    )
    """What ``service`` in the documents of ``cmd-pfcon`` calls this daemon. pfcon 2 had a table of services; a document that
    names another is refused, unless it is one of ``PFMOC_RESOURCES``."""
    resources: Path | None = named("PFMOC_RESOURCES", default=None)
    """File of other compute resources, as for ``pfmoc run``. Their names are services too: a ``coordinate`` that names one has
    its job run there."""
    delete_active: Literal["terminate", "refuse"] = named("PFMOC_DELETE_ACTIVE", default="terminate")
    """What ``POST deletejobs`` does while a sibling runs: end it and then delete, or answer upstream's 409. CUBE cancels with
    this one request, so upstream's way leaves a cancelled plugin running."""

    innetwork: bool = named("PFCON_INNETWORK", default=False)
    """True when CUBE and this daemon share the storage."""
    storage_env: StorageEnv = named("STORAGE_ENV", default="zipfile")
    """How data travel: ``zipfile`` through the API; in the network, ``filesystem`` and ``fslink`` by a shared file system,
    ``swift`` and ``s3`` by an object store, to and from which each job's pod moves its own, or else the daemon does so over the
    storeBase: without a cluster, or with ``COMPUTE_VOLUME_TYPE=kubernetes_pvc``. Default in the network: ``swift``."""
    storebase_mount: Path = named("STOREBASE_MOUNT", default=Path("/var/local/storeBase"))
    """The storeBase as the daemon sees it."""
    state_dir: Path = named("PFMOC_STATE_DIR", default=Path("/var/lib/pfmoc"))
    """Job records, and the runs of the ``process`` environment. Local disk, not the shared storeBase: SQLite lives here. With
    kubernetes and openshift the records are in the cluster, and this may be as short-lived as the pod."""
    record_days: Annotated[float, Field(gt=0)] = named("PFMOC_RECORD_DAYS", default=30.0)
    """Days for which the record of an ended job is kept, and answered from."""

    container_env: ContainerEnv = named("CONTAINER_ENV", default="docker")
    """Where plugins run: ``kubernetes`` or ``openshift`` (a pod for each job), ``docker`` or ``podman`` (containers over the
    Docker-compatible API), ``process`` (plain processes)."""
    volume_type: VolumeType | None = named("COMPUTE_VOLUME_TYPE", "STORAGE_TYPE", default=None)
    """How the engine reaches the storeBase: ``docker_local_volume`` (default) or ``host`` for docker and podman,
    ``kubernetes_pvc`` for kubernetes and openshift, where with ``swift`` and ``s3`` there is none by default."""
    storebase: Path | None = named("STOREBASE", default=None)
    """The storeBase as the engine's host sees it, for volume type ``host``."""
    volume_name: str | None = named("VOLUME_NAME", default=None)
    """The volume that is the storeBase. For ``docker_local_volume`` the engine's, which else is found through ``selector``. For
    ``kubernetes_pvc`` a PersistentVolumeClaim, which object stores do without."""
    selector: str = named("PFCON_SELECTOR", default="org.chrisproject.role=pfcon")
    """Label by which the daemon finds its own container."""
    docker_host: str | None = named("DOCKER_HOST", default=None)
    """Socket of the Docker-compatible API, such as ``unix:///run/podman/podman.sock``. Default: the engine's usual place."""
    process_images: Path | None = named("PFMOC_PROCESS_IMAGES", default=None)
    """Directory of the "images" of the ``process`` environment: ``<repository>/<tag>/bin`` each."""

    plugin_network: Literal["none", "host", "bridge"] = named("PFMOC_PLUGIN_NETWORK", default="none")
    """The network of a plugin's container. Plugins need none: their data come and go as files."""
    gpus: Annotated[int, Field(ge=0)] | None = named("PFMOC_GPUS", default=None)
    """How many GPUs a job may ask for. Default with kubernetes and openshift: 16 where ``PFMOC_GPU_PRODUCTS`` is set, else none.
    Default with the others: the NVIDIA devices that the daemon sees; to be set where it runs in a container."""
    max_cpu_m: Annotated[int, Field(ge=1)] | None = named("PFMOC_MAX_CPU_M", default=None)
    """How many millicores a job may ask for, for each worker. Default: no bound of the site's."""
    max_memory_mib: Annotated[int, Field(ge=6)] | None = named("PFMOC_MAX_MEMORY_MIB", default=None)
    """How many MiB of memory a job may ask for, for each worker; 6 or more, for nothing starts with less. Default: no bound of
    the site's."""

    job_logs_tail: Annotated[int, Field(ge=0, le=1_000_000)] = named("JOB_LOGS_TAIL", default=1000)
    """Lines of a job's log in an answer."""
    job_labels: Annotated[Mapping[str, str], BeforeValidator(pairs)] = named("JOB_LABELS", default_factory=dict)
    """``k=v,k2=v2``: labels put on every container."""
    ignore_limits: bool = named("IGNORE_LIMITS", default=False)
    """Start plugins without cpu and memory limits. GPUs are requested all the same."""
    home_workaround: bool = named("ENABLE_HOME_WORKAROUND", default=False)
    """Append ``HOME=/tmp`` to a plugin's environment."""
    remove_jobs: bool = named("REMOVE_JOBS", default=True)
    """False keeps ended containers for a person to look at: DELETE then answers 204 and does nothing."""
    container_user: Annotated[ContainerUser, BeforeValidator(user)] = named("CONTAINER_USER", default_factory=ContainerUser)
    """``UID:GID`` of plugins; either side may be empty (the image decides) or ``lo-hi`` (drawn for each job)."""
    shm_size_mib: Annotated[int, Field(gt=0)] | None = named("SHM_SIZE", default=None)
    """MiB of /dev/shm."""

    max_upload_bytes: Annotated[int, Field(gt=0)] = named("PFMOC_MAX_UPLOAD_BYTES", default=1024 * GIB)
    """Largest request body."""
    max_form_bytes: Annotated[int, Field(gt=0)] = named("PFMOC_MAX_FORM_BYTES", default=4 * MIB)
    """Largest sum of all form fields, files aside. No command line can be longer: by default Linux ends it at 2 MiB."""
    max_unpacked_bytes: Annotated[int, Field(gt=0)] = named("PFMOC_MAX_UNPACKED_BYTES", default=4096 * GIB)
    """Largest sum of the files of one zip."""
    max_unpacked_files: Annotated[int, Field(gt=0)] = named("PFMOC_MAX_UNPACKED_FILES", default=1_000_000)
    """Most entries of one zip."""
    max_zip_ratio: Annotated[int, Field(gt=1)] = named("PFMOC_MAX_ZIP_RATIO", default=200)
    """Largest ratio of unpacked to packed bytes, for a zip that unpacks to more than 256 MiB (``storage/zip_in.py``).
    Sparse volumes reach 100; a bomb starts at 1000."""
    body_idle_s: Annotated[float, Field(gt=0)] = named("PFMOC_BODY_IDLE_S", default=60.0)
    """Seconds that a client may be silent within a request."""
    engine_deadline_s: Annotated[float, Field(gt=0)] = named("PFMOC_ENGINE_DEADLINE_S", default=30.0)
    """Seconds that the compute environment may take to answer."""
    pull_deadline_s: Annotated[float, Field(gt=0)] = named("PFMOC_PULL_DEADLINE_S", default=150.0)
    """Seconds that fetching an image may take; below the 200 s that CUBE waits for an answer. With kubernetes and openshift,
    where nobody waits for it: seconds for which an image may be missing, or a container not begin for another reason, before the
    job is ended. A fetch that goes on is not cut short there."""
    drain_s: Annotated[float, Field(ge=0)] = named("PFMOC_DRAIN_S", default=30.0)
    """Seconds that requests in flight get to finish after SIGTERM."""

    @property
    def dev(self) -> bool:
        """True outside production mode."""
        return self.application_mode != "production"

    @property
    def loopback(self) -> bool:
        """True when only this machine can reach the daemon."""
        return is_loopback(self.host)

    @property
    def in_cluster(self) -> bool:
        """True where plugins are pods, and job records are in the cluster."""
        return self.container_env in ("kubernetes", "openshift")

    @property
    def in_objects(self) -> bool:
        """True where data are in an object store."""
        return self.storage_env in ("swift", "s3")

    @property
    def travels(self) -> bool:
        """True where data travel with a job's own pod, to and from an object store."""
        return self.in_objects and self.in_cluster and self.volume_type != "kubernetes_pvc"

    @property
    def staged(self) -> bool:
        """True where the daemon itself brings data from an object store to the storeBase, and back."""
        return self.in_objects and not self.travels

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every address that is served, the main port first."""
        return (Endpoint(dialects=self.dialects, host=self.host, port=self.port), *self.listeners)


class Settings(ObjectSettings, ClusterSettings, ServiceSettings):
    """All settings, checked."""

    @property
    def secrets(self) -> list[str]:
        """The values that must show nowhere."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr) and value.get_secret_value()]
