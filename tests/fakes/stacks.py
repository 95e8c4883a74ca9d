"""A stack without an engine: it keeps what it is told, and counts what it is asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infra.intents import Intents
from infra.spec import Site


@dataclass
class StackInMemory:
    """As much of ``infra.stack.SiteStack`` as the commands use beside the engine."""

    site: Site
    told: dict[str, Any] = field(default_factory=dict)
    """The outputs."""
    settings: dict[str, str] = field(default_factory=dict)
    held: list[dict[str, Any]] = field(default_factory=list)
    """The state's resources."""
    planned: list[dict[str, Any]] = field(default_factory=list)
    """Events of a preview."""
    pending: list[dict[str, Any]] = field(default_factory=list)
    """What an engine that was killed had begun."""
    runs: list[dict[str, str]] = field(default_factory=list)
    """The configuration at each ``up``."""
    refreshed: list[bool] = field(default_factory=list)
    """Whether the clouds were to be looked at, at each preview."""
    on_up: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.intents = Intents(self)

    @property
    def name(self) -> str:
        return self.site.name

    def outputs(self, *, secrets: bool = False) -> dict[str, Any]:
        return {**self.told, "inventory": {}, "secrets": {}} if secrets else self.told

    def require_free(self) -> None:
        """Nobody else is at work."""

    def export(self, *, afresh: bool = False) -> dict[str, Any]:  # noqa: ARG002 - there is nobody to change it
        return {"deployment": {"resources": self.held, "pending_operations": self.pending}}

    def import_state(self, document) -> None:
        self.pending = document["deployment"]["pending_operations"]

    def preview(self, *, refresh: bool = True, **_: Any) -> list[Any]:
        self.refreshed.append(refresh)
        return self.planned

    def forget(self, urns) -> None:
        self.held = [each for each in self.held if each["urn"] not in urns]

    def seed(self) -> str:
        return "a seed for tests"

    def resources(self, *, secrets: bool = False) -> list[dict[str, Any]]:  # noqa: ARG002 - there are none
        return self.held

    def config(self) -> dict[str, str]:
        return dict(self.settings)

    def set_config(self, key, value) -> None:
        self.settings[f"pfmoc:{key}"] = value

    def remove_config(self, key) -> None:
        del self.settings[f"pfmoc:{key}"]

    def up(self, **_: Any) -> list[Any]:
        self.runs.append(dict(self.settings))
        self.intents.begun()
        self.on_up()
        return []
