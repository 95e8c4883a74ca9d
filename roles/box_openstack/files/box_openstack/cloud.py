"""The cloud: where it is, what it consists of, and the addresses of its parts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# The ports, in this order from the port base.
LISTENERS = (
    "keystone",
    "placement",
    "glance",
    "neutron",
    "nova",
    "cinder",
    "swift",
    "swift-account",
    "swift-container",
    "swift-object",
)
# What one cannot run without the others.
NEEDS = {
    "placement": {"keystone"},
    "glance": {"keystone"},
    "neutron": {"keystone"},
    "nova": {"keystone", "placement", "glance", "neutron"},
    "cinder": {"keystone", "glance"},
    "swift": {"keystone"},
    "keystone": set[str](),
}


class SpecificationError(Exception):
    """The cloud cannot be made or run as asked; the text names the cause and the fix."""


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """What the configuration is rendered from.

    :param state: the directory that holds all of it
    :param golden: directory of seeded databases, shared by all clouds of this user
    :param lock: digest of the lock file that the environment was made from
    :param name: its name in ``clouds_yaml``
    :param clouds_yaml: file with the administrator's credentials
    :param host: address that every server listens on
    :param internal_host: host of the internal endpoints in the catalogue
    :param port_base: first of ten ports, see ``LISTENERS``
    :param region: the one region's id
    :param services: names of projects, keys of ``NEEDS``
    :param storage_policies: Swift's, the default one first
    """

    state: Path
    golden: Path
    lock: str
    name: str
    clouds_yaml: Path
    host: str
    internal_host: str
    port_base: int
    region: str
    services: tuple[str, ...]
    storage_policies: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if unknown := set(self.services) - NEEDS.keys():
            raise SpecificationError(f"there is no service {', '.join(sorted(unknown))}; there are: {', '.join(NEEDS)}")
        for service in self.services:
            if missing := NEEDS[service] - set(self.services):
                raise SpecificationError(f"{service} does not run without {', '.join(sorted(missing))}: name them too")
        if len(set(self.storage_policies)) < len(self.storage_policies) or not self.storage_policies:
            raise SpecificationError("the storage policies need names, each another")

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Cloud:
        """The cloud of a JSON document with the fields of this class; others are not looked at."""
        fields = {name: document[name] for name in cls.__dataclass_fields__}
        for name in ("state", "golden", "clouds_yaml"):
            fields[name] = Path(fields[name])
        for name in ("services", "storage_policies"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    @classmethod
    def load(cls, state: Path) -> Cloud:
        """The cloud of a state directory that is prepared."""
        return cls.from_document(json.loads((state / "cloud.json").read_text()))

    def dump(self) -> str:
        """The document that ``load`` reads. It holds no secret."""
        return json.dumps(asdict(self), default=str, indent=2) + "\n"

    @property
    def record(self) -> Path:
        """The file that says what the state directory was made for."""
        return self.state / "cloud.json"

    def is_recorded(self) -> bool:
        """Whether the state directory was made for this cloud, as it is."""
        return self.record.exists() and self.record.read_text() == self.dump()

    def refuse_loss(self) -> None:
        """Raise SpecificationError if objects of the state directory would be out of reach.

        A storage policy's place in the list is its number on the disk.
        """
        if not self.record.exists():
            return
        policies = Cloud.load(self.state).storage_policies
        if self.storage_policies[: len(policies)] != policies:
            raise SpecificationError(
                f"the storage policies are {', '.join(policies)}; new ones can be appended, but objects lie under these. "
                f"To begin anew, stop the box and remove {self.state}"
            )

    @property
    def conf(self) -> Path:
        """Directory of the services' configuration."""
        return self.state / "conf"

    def port(self, listener: str) -> int:
        """Port of one of ``LISTENERS``."""
        return self.port_base + LISTENERS.index(listener)

    def url(self, listener: str) -> str:
        """Where the programs of this machine reach it."""
        return f"http://{self.host}:{self.port(listener)}"

    def database_file(self, name: str) -> Path:
        """The SQLite file of a database."""
        return self.state / "databases" / f"{name}.sqlite"

    def database(self, name: str) -> str:
        """SQLAlchemy's URL of a database; a lock is waited for 60 s at most."""
        return f"sqlite:///{self.database_file(name)}?timeout=60"
