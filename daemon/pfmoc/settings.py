"""Settings, read once from the environment at start.

Names and defaults are upstream's (contract 7.1); older names are read too. What is new is called ``PFMOC_*``. With nothing set at
all the daemon is *embedded*: one machine, loopback, local storage, jobs as processes, development credentials.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from pfmoc.listeners import DialectName, Endpoint, contradictions, is_loopback, parse_listeners

DEV_USER = "pfcon"
DEV_PASSWORD = "pfcon1234"  # noqa: S105 - upstream's published development password; refused on any bind but loopback
DEV_SECRET = "pfmoc development secret, refused on any bind but loopback"  # noqa: S105 - the same
EMBEDDED_HOME = Path("~/.cache/pfmoc/embedded")

MIB = 1 << 20
GIB = 1 << 30


class SettingsError(Exception):
    """The configuration is wrong.

    :param problems: one line each, every one that was found, beginning with the variable's name
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _pairs(text: object) -> object:
    """Read ``k=v,k2=v2``; a value may contain ``=``, blanks around are trimmed."""
    if not isinstance(text, str):
        return text
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"'{part}' is not key=value")
        pairs[key.strip()] = value.strip()
    return pairs


def _words(text: object) -> object:
    """Read ``a,b,c``."""
    return tuple(filter(None, (part.strip() for part in text.split(",")))) if isinstance(text, str) else text


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _ids(text: str) -> str:
    """Check one side of CONTAINER_USER: empty, a number, or ``lo-hi``."""
    low, dash, high = text.partition("-")
    if text and not (_is_id(low) and (not dash or (_is_id(high) and int(low) <= int(high)))):
        raise ValueError(f"'{text}' is neither a number nor a range lo-hi")
    return text


class ContainerUser(BaseModel):
    """``UID:GID``; either side may be empty (the image's own) or a range, from which each job gets a random one."""

    model_config = ConfigDict(frozen=True)

    uid: Annotated[str, AfterValidator(_ids)] = ""
    gid: Annotated[str, AfterValidator(_ids)] = ""

    def draw(self) -> tuple[int | None, int | None]:
        """The user and group for one job; None where the image decides."""
        return _draw(self.uid), _draw(self.gid)


def _draw(text: str) -> int | None:
    if not text:
        return None
    low, _, high = text.partition("-")
    return int(low) + secrets.randbelow(int(high or low) - int(low) + 1)


def _container_user(text: object) -> object:
    if not isinstance(text, str):
        return text
    if text.count(":") != 1:
        raise ValueError("must be UID:GID; either side may be empty or a range lo-hi")
    uid, gid = text.split(":")
    return {"uid": uid.strip(), "gid": gid.strip()}


ContainerEnv = Literal["docker", "podman", "process"]
StorageEnv = Literal["zipfile", "filesystem", "fslink"]


def _named(*names: str, **kwargs: Any) -> Any:
    """Declare a field that is read from one variable, or from its older names."""
    return Field(validation_alias=AliasChoices(*names), **kwargs)


class Settings(BaseModel):
    """All settings, checked. Immutable."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, use_attribute_docstrings=True)

    application_mode: str = _named("APPLICATION_MODE", default="production")
    """Anything but ``production`` is development: published credentials, loopback only."""
    secret_key: SecretStr = _named("SECRET_KEY", default=SecretStr(""))
    """Signs the tokens. Stable, so that tokens survive a restart: CUBE keeps them in its database."""
    pfcon_user: str = _named("PFCON_USER", default="")
    """Who may ask for a token."""
    pfcon_password: SecretStr = _named("PFCON_PASSWORD", default=SecretStr(""))
    """The password that goes with it."""

    host: str = _named("PFMOC_HOST", default="127.0.0.1")
    """Address to bind."""
    port: Annotated[int, Field(ge=0, le=65535)] = _named("PORT", default=5005)
    """0 lets the system choose; the log says which."""
    dialects: Annotated[tuple[DialectName, ...], BeforeValidator(_words)] = _named("PFMOC_DIALECTS", default=("pfcon6", "pfcon5"))
    """Generations of the API that are served on this port: ``pfcon6``, ``pfcon5``, ``pfcon4``; and, without a login, ``pfcon3``,
    ``pman``, ``cmd-pfcon``, ``cmd-pman``, ``cmd-pfioh``."""
    listeners: Annotated[tuple[Endpoint, ...], BeforeValidator(parse_listeners)] = _named("PFMOC_LISTENERS", default=())
    """Further ports, ``DIALECT[+DIALECT...][@[HOST:]PORT]`` each, separated by commas: ``pman,cmd-pfioh,pfcon3@5006``. Without an
    address: 127.0.0.1, and 5010 for pman, 5055 for pfioh."""
    legacy_token: SecretStr = _named("PFMOC_LEGACY_TOKEN", default=SecretStr(""))
    """What dialects without a login ask for, as a bearer token or as the password of Basic. Required where other machines can
    reach one; without it they are served on loopback only, and not to web browsers."""
    service_names: Annotated[tuple[str, ...], BeforeValidator(_words)] = _named(
        "PFMOC_SERVICE_NAMES", default=("host", "localhost")
    )
    """What ``service`` in the documents of ``cmd-pfcon`` calls this daemon. pfcon 2 had a table of services; a document that
    names another is refused, unless it is one of ``PFMOC_RESOURCES``."""
    resources: Path | None = _named("PFMOC_RESOURCES", default=None)
    """File of other compute resources, as for ``pfmoc run``. Their names are services too: a ``coordinate`` that names one has
    its job run there."""
    delete_active: Literal["terminate", "refuse"] = _named("PFMOC_DELETE_ACTIVE", default="terminate")
    """What ``POST deletejobs`` does while a sibling runs: end it and then delete, or answer upstream's 409. CUBE cancels with
    this one request, so upstream's way leaves a cancelled plugin running."""

    innetwork: bool = _named("PFCON_INNETWORK", default=False)
    """True when CUBE and this daemon share the storage."""
    storage_env: StorageEnv = _named("STORAGE_ENV", default="zipfile")
    """How data travel: ``zipfile`` through the API, ``filesystem`` and ``fslink`` by a shared file system (in the network)."""
    storebase_mount: Path = _named("STOREBASE_MOUNT", default=Path("/var/local/storeBase"))
    """The storeBase as the daemon sees it."""
    state_dir: Path = _named("PFMOC_STATE_DIR", default=Path("/var/lib/pfmoc"))
    """Job records, and the runs of the ``process`` environment. Local disk, not the shared storeBase: SQLite lives here."""

    container_env: ContainerEnv = _named("CONTAINER_ENV", default="docker")
    """Where plugins run: containers over the Docker-compatible API of docker or podman, or plain processes."""
    volume_type: Literal["docker_local_volume", "host"] | None = _named("COMPUTE_VOLUME_TYPE", "STORAGE_TYPE", default=None)
    """How the engine reaches the storeBase. Default: ``docker_local_volume`` for docker and podman."""
    storebase: Path | None = _named("STOREBASE", default=None)
    """The storeBase as the engine's host sees it, for volume type ``host``."""
    volume_name: str | None = _named("VOLUME_NAME", default=None)
    """The engine's volume that is the storeBase, for ``docker_local_volume``; else it is found through ``selector``."""
    selector: str = _named("PFCON_SELECTOR", default="org.chrisproject.role=pfcon")
    """Label by which the daemon finds its own container."""
    docker_host: str | None = _named("DOCKER_HOST", default=None)
    """Socket of the Docker-compatible API, such as ``unix:///run/podman/podman.sock``. Default: the engine's usual place."""
    process_images: Path | None = _named("PFMOC_PROCESS_IMAGES", default=None)
    """Directory of the "images" of the ``process`` environment: ``<repository>/<tag>/bin`` each."""

    plugin_network: Literal["none", "host", "bridge"] = _named("PFMOC_PLUGIN_NETWORK", default="none")
    """The network of a plugin's container. Plugins need none: their data come and go as files."""
    gpus: Annotated[int, Field(ge=0)] | None = _named("PFMOC_GPUS", default=None)
    """How many GPUs a job may ask for. Default: the NVIDIA devices that the daemon sees; to be set where it runs in a
    container."""

    job_logs_tail: Annotated[int, Field(ge=0, le=1_000_000)] = _named("JOB_LOGS_TAIL", default=1000)
    """Lines of a job's log in an answer."""
    job_labels: Annotated[Mapping[str, str], BeforeValidator(_pairs)] = _named("JOB_LABELS", default_factory=dict)
    """``k=v,k2=v2``: labels put on every container."""
    ignore_limits: bool = _named("IGNORE_LIMITS", default=False)
    """Start plugins without cpu and memory limits. GPUs are requested all the same."""
    home_workaround: bool = _named("ENABLE_HOME_WORKAROUND", default=False)
    """Append ``HOME=/tmp`` to a plugin's environment."""
    remove_jobs: bool = _named("REMOVE_JOBS", default=True)
    """False keeps ended containers for a person to look at: DELETE then answers 204 and does nothing."""
    container_user: Annotated[ContainerUser, BeforeValidator(_container_user)] = _named(
        "CONTAINER_USER", default_factory=ContainerUser
    )
    """``UID:GID`` of plugins; either side may be empty (the image decides) or ``lo-hi`` (drawn for each job)."""
    shm_size_mib: Annotated[int, Field(gt=0)] | None = _named("SHM_SIZE", default=None)
    """MiB of /dev/shm."""

    max_upload_bytes: Annotated[int, Field(gt=0)] = _named("PFMOC_MAX_UPLOAD_BYTES", default=1024 * GIB)
    """Largest request body."""
    max_form_bytes: Annotated[int, Field(gt=0)] = _named("PFMOC_MAX_FORM_BYTES", default=4 * MIB)
    """Largest sum of all form fields, files aside. No command line can be longer: by default Linux ends it at 2 MiB."""
    max_unpacked_bytes: Annotated[int, Field(gt=0)] = _named("PFMOC_MAX_UNPACKED_BYTES", default=4096 * GIB)
    """Largest sum of the files of one zip."""
    max_unpacked_files: Annotated[int, Field(gt=0)] = _named("PFMOC_MAX_UNPACKED_FILES", default=1_000_000)
    """Most entries of one zip."""
    max_zip_ratio: Annotated[int, Field(gt=1)] = _named("PFMOC_MAX_ZIP_RATIO", default=200)
    """Largest ratio of unpacked to packed bytes, for a zip that unpacks to more than 256 MiB (``storage/zip_in.py``).
    Sparse volumes reach 100; a bomb starts at 1000."""
    body_idle_s: Annotated[float, Field(gt=0)] = _named("PFMOC_BODY_IDLE_S", default=60.0)
    """Seconds that a client may be silent within a request."""
    engine_deadline_s: Annotated[float, Field(gt=0)] = _named("PFMOC_ENGINE_DEADLINE_S", default=30.0)
    """Seconds that the compute environment may take to answer."""
    pull_deadline_s: Annotated[float, Field(gt=0)] = _named("PFMOC_PULL_DEADLINE_S", default=150.0)
    """Seconds that fetching an image may take; below the 200 s that CUBE waits for an answer."""
    drain_s: Annotated[float, Field(ge=0)] = _named("PFMOC_DRAIN_S", default=30.0)
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
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every address that is served, the main port first."""
        return (Endpoint(dialects=self.dialects, host=self.host, port=self.port), *self.listeners)


def load(environ: Mapping[str, str], *, env_file: Path | None = None) -> Settings:
    """Read and check the settings.

    :param environ: the process environment
    :param env_file: ``key=value`` lines that the environment overrides; ``.env`` in the working directory when there is one
    :raises SettingsError: with every problem at once
    """
    if env_file is None:
        env_file = Path(".env") if Path(".env").is_file() else None
    elif not env_file.is_file():
        raise SettingsError([f"--env-file: {env_file} is not a file"])
    values: dict[str, str] = {}
    if env_file is not None:
        values.update({key: value for key, value in dotenv_values(env_file).items() if value is not None})
    values.update(environ)
    known = {key: value for key, value in {**_old_names(values), **values}.items() if key in _VARIABLES}
    if not known.keys() - _EMBEDDED_ALLOWS:
        known = {**_embedded(), **known}
    return _checked(known)


def _old_names(values: Mapping[str, str]) -> dict[str, str]:
    """Translate the old variables whose meaning, and not only name, has changed (contract 7.1, 11.10)."""
    new = {}
    if values.get("STORE_ENV") == "mount" and "STOREBASE" in values:
        new["STOREBASE_MOUNT"] = values["STOREBASE"]
    uid, gid = values.get("SECURITYCONTEXT_RUN_AS_USER", ""), values.get("SECURITYCONTEXT_RUN_AS_GROUP", "")
    if uid or gid:
        new["CONTAINER_USER"] = f"{uid}:{gid}"
    return new


def _checked(values: dict[str, str]) -> Settings:
    """Build the settings; on failure drop the bad values, so that the checks across fields are made too."""
    problems: list[str] = []
    good = dict(values)
    try:
        settings = Settings.model_validate(good)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_input=False):
            name = next((variable for variable in error["loc"] if variable in _VARIABLES), None) or str(error["loc"][0])
            problems.append(f"{name}: {error['msg'].removeprefix('Value error, ')}")
            good.pop(str(name), None)
        settings = Settings.model_validate(good)
    problems += _contradictions(settings, bad={problem.partition(":")[0] for problem in problems})
    if problems:
        raise SettingsError(problems)
    if settings.dev:
        settings = settings.model_copy(
            update={
                "secret_key": settings.secret_key if settings.secret_key.get_secret_value() else SecretStr(DEV_SECRET),
                "pfcon_user": settings.pfcon_user or DEV_USER,
                "pfcon_password": settings.pfcon_password
                if settings.pfcon_password.get_secret_value()
                else SecretStr(DEV_PASSWORD),
            }
        )
    return settings


def _contradictions(settings: Settings, *, bad: set[str]) -> list[str]:
    """Problems that lie between fields; none that rests on a variable which is itself bad."""
    found = [*_credentials(settings), *_listeners(settings), *_storage(settings), *_paths(settings)]
    return [text for names, text in found if not names & bad]


_Problem = tuple[frozenset[str], str]
"""The variables that a problem rests on, and its text."""


def _credentials(settings: Settings) -> Iterator[_Problem]:
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


def _listeners(settings: Settings) -> Iterator[_Problem]:
    main, *others = settings.endpoints
    token = settings.legacy_token.get_secret_value()
    for variable, text in contradictions(main, others, token=token, dev=settings.dev, innetwork=settings.innetwork):
        yield frozenset({variable, "PFMOC_LEGACY_TOKEN", "PFMOC_HOST", "PORT"}), text


def _storage(settings: Settings) -> Iterator[_Problem]:
    modes = frozenset({"STORAGE_ENV", "PFCON_INNETWORK"})
    if settings.innetwork and settings.storage_env == "zipfile":
        yield modes, "STORAGE_ENV: must be filesystem or fslink when PFCON_INNETWORK is true; zipfile moves data through the API"
    if not settings.innetwork and settings.storage_env != "zipfile":
        yield modes, f"STORAGE_ENV: must be zipfile when PFCON_INNETWORK is false, not {settings.storage_env}"
    volumes = frozenset({"CONTAINER_ENV", "COMPUTE_VOLUME_TYPE"})
    if settings.container_env == "process":
        if settings.volume_type is not None:
            yield volumes, "COMPUTE_VOLUME_TYPE: has no meaning when CONTAINER_ENV is process; leave it unset"
    elif settings.volume_type == "host" and settings.storebase is None:
        yield volumes, "STOREBASE: is required when COMPUTE_VOLUME_TYPE is host: the storeBase's path on the engine's host"


def _paths(settings: Settings) -> Iterator[_Problem]:
    for name, path in (
        ("STOREBASE_MOUNT", settings.storebase_mount),
        ("STOREBASE", settings.storebase),
        ("PFMOC_STATE_DIR", settings.state_dir),
        ("PFMOC_PROCESS_IMAGES", settings.process_images),
        ("PFMOC_RESOURCES", settings.resources),
    ):
        if path is not None and not path.is_absolute():
            yield frozenset({name}), f"{name}: must be an absolute path, not '{path}'"


def _embedded() -> dict[str, str]:
    home = EMBEDDED_HOME.expanduser()
    return {
        "APPLICATION_MODE": "embedded",
        "CONTAINER_ENV": "process",
        "STOREBASE_MOUNT": str(home / "storeBase"),
        "PFMOC_STATE_DIR": str(home / "state"),
        "PFMOC_PROCESS_IMAGES": str(home / "images"),
    }


def _variables() -> frozenset[str]:
    names: set[str] = set()
    for info in Settings.model_fields.values():
        if isinstance(info.validation_alias, AliasChoices):
            names.update(str(choice) for choice in info.validation_alias.choices)
    return frozenset(names)


_VARIABLES = _variables()
_EMBEDDED_ALLOWS = frozenset(
    {
        "PORT",
        "PFMOC_HOST",
        "DOCKER_HOST",
        "PFMOC_DIALECTS",
        "PFMOC_LISTENERS",
        "PFMOC_LEGACY_TOKEN",
        "PFMOC_SERVICE_NAMES",
        "PFMOC_RESOURCES",
    }
)
"""Variables that many machines set anyway, or that only say where and what is served: with no other, the daemon is embedded."""
