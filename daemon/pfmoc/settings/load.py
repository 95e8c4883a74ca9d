"""Reading the settings: from the environment and a file, old names and defaults included, every problem told at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import AliasChoices, SecretStr, TypeAdapter, ValidationError

from pfmoc.settings.checks import contradictions
from pfmoc.settings.cluster import ClusterSettings
from pfmoc.settings.fields import Settings
from pfmoc.settings.objects import ObjectSettings
from pfmoc.settings.values import Group

DEV_USER = "pfcon"
DEV_PASSWORD = "pfcon1234"  # noqa: S105 - upstream's published development password; refused on any bind but loopback
DEV_SECRET = "pfmoc development secret, refused on any bind but loopback"  # noqa: S105 - the same
EMBEDDED_HOME = Path("~/.cache/pfmoc/embedded")

_BOOLEAN = TypeAdapter(bool)


class SettingsError(Exception):
    """The configuration is wrong.

    :param problems: one line each, every one that was found, beginning with the variable's name
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


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
    known = {key: value for key, value in known.items() if value or key not in _MAY_BE_EMPTY}
    if "STORAGE_ENV" not in known and _is_true(known.get("PFCON_INNETWORK", "")):
        known["STORAGE_ENV"] = "swift"
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


def _is_true(text: str) -> bool:
    try:
        return _BOOLEAN.validate_python(text)
    except ValidationError:
        return False


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
    problems += contradictions(settings, bad={problem.partition(":")[0] for problem in problems})
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


def _embedded() -> dict[str, str]:
    home = EMBEDDED_HOME.expanduser()
    return {
        "APPLICATION_MODE": "embedded",
        "CONTAINER_ENV": "process",
        "STOREBASE_MOUNT": str(home / "storeBase"),
        "PFMOC_STATE_DIR": str(home / "state"),
        "PFMOC_PROCESS_IMAGES": str(home / "images"),
    }


def _variables(group: type[Group]) -> frozenset[str]:
    names: set[str] = set()
    for info in group.model_fields.values():
        if isinstance(info.validation_alias, AliasChoices):
            names.update(str(choice) for choice in info.validation_alias.choices)
    return frozenset(names)


_VARIABLES = _variables(Settings)
_MAY_BE_EMPTY = _variables(ClusterSettings) | _variables(ObjectSettings)
"""Variables that count as not set when they are empty: an OpenShift Template passes on every parameter, given or not."""
_EMBEDDED_ALLOWS = frozenset(
    {
        "PORT",
        "PFMOC_HOST",
        "DOCKER_HOST",
        "KUBECONFIG",
        "PFMOC_DIALECTS",
        "PFMOC_LISTENERS",
        "PFMOC_LEGACY_TOKEN",
        "PFMOC_SERVICE_NAMES",
        "PFMOC_RESOURCES",
    }
) | {name for name in _VARIABLES if name.startswith("OS_")}
"""Variables that many machines set anyway, or that only say where and what is served: with no other, the daemon is embedded."""
