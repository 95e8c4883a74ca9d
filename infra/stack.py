"""A site's Pulumi stack: what the operator's commands ask of it, over the Automation API.

The program is infra/program.py, a local one: plain ``pulumi up`` in infra/ does the same, in the environment that
``python -m infra env SITE`` prints. Operations are run with the engine's event log and not with ``Stack.up``, which asks three
more times for outputs and history, and knows fewer events than the engine tells.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pulumi.automation import LocalWorkspace
from pulumi.automation.errors import CommandError, StackAlreadyExistsError

from infra.dead_engines import end_remains, is_dead
from infra.engine import Engine, Event, Installation, OnEvent, cache
from infra.failures import Holder, Locked, OperatorError, diagnostics, explained
from infra.intents import PROJECT, Intents
from infra.keys import SEED_BYTES
from infra.sites import ROOT
from infra.spec import Site

WORK = ROOT / "infra"
POLICIES = ("--policy-pack", str(WORK / "policy"))
"""The pack is always on: plain `pulumi up` has to name it."""
FLEETING = "box*"
"""Stacks whose clouds come and go, and whose settings git ignores: those of one that is gone may be made anew."""

Tell = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a site's state and its passphrase are.

    :param backend: address of the state
    :param passphrase: file with the passphrase; None where the environment names one itself
    """

    backend: str
    passphrase: Path | None

    @classmethod
    def of(cls, site: Site, environ: Mapping[str, str], below: Path) -> Place:
        """What the environment says, else the site file, else a place below the cache."""
        given = any(environ.get(name) for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"))
        return cls(
            backend=_whole(environ.get("PULUMI_BACKEND_URL") or site.state.url or f"file://{below / 'state'}"),
            passphrase=None if given else below / "passphrases" / site.name,
        )

    @property
    def directory(self) -> Path | None:
        """The state's directory; None where it is kept elsewhere."""
        scheme, _, path = self.backend.partition("://")
        return Path(path.partition("?")[0]).expanduser() if scheme == "file" else None

    @property
    def environment(self) -> dict[str, str]:
        """What the engine is told of it."""
        file = {"PULUMI_CONFIG_PASSPHRASE_FILE": str(self.passphrase)} if self.passphrase else {}
        return {"PULUMI_BACKEND_URL": self.backend, **file}

    def has(self, stack: str) -> bool | None:
        """Say whether a stack is there; None when only the engine can tell."""
        if self.directory is None:
            return None
        stacks = self.directory / ".pulumi" / "stacks" / PROJECT
        return any((stacks / f"{stack}.json{suffix}").exists() for suffix in ("", ".gz"))

    def holders(self, stack: str) -> list[Holder]:
        """Who holds the state; of one that is kept elsewhere only the engine can tell.

        :raises Locked: when a lock does not say whose it is
        """
        if self.directory is None:
            return []
        locks = (self.directory / ".pulumi" / "locks" / "organization" / PROJECT / stack).glob("*.json")
        return [holder for lock in sorted(locks) if (holder := _holder(lock))]


class SiteStack:
    """The stack of a site.

    :param tell: takes sentences for the operator: what was made, what was put aside
    """

    def __init__(self, site: Site, file: Path, place: Place, engine: Engine, tell: Tell) -> None:
        self.site, self.file, self.name = site, file, site.name
        self.backend = place.backend
        self.engine, self.place = engine, place
        self._tell = tell
        self._workspace = LocalWorkspace(work_dir=str(WORK), pulumi_command=engine)
        self._exported: dict[bool, dict[str, Any]] = {}
        self.intents = Intents(self)

    def preview(
        self,
        *,
        refresh: bool = False,
        policies: bool = True,
        past: Collection[str] = (),
        on_event: OnEvent | None = None,
    ) -> list[Event]:
        """What ``up`` would do. Nothing is changed, the state neither.

        :param refresh: look at the clouds, and not only at what the state says of them
        :param past: URNs of resources that are not looked at
        :param policies: refuse what the policies refuse
        :returns: the engine's events
        :raises OperatorError: when that cannot be told
        """
        words = [*(["--refresh"] if refresh else []), *(POLICIES if policies else [])]
        words += [word for urn in past for word in ("--exclude", urn)]
        return self._operate(["preview", *words], on_event)

    def up(self, *, refresh: bool = False, on_event: OnEvent | None = None) -> list[Event]:
        """Make the clouds match the site file.

        :param refresh: look at the clouds first, and so repair what was changed by hand
        :raises OperatorError: when not all of it was done
        """
        try:
            events = self._operate(["up", "--yes", "--skip-preview", *(["--refresh"] if refresh else []), *POLICIES], on_event)
        except Locked:  # another operator is at work: this one has not begun
            raise
        except BaseException:
            self.intents.begun()
            raise
        self.intents.begun()
        return events

    def destroy_preview(self, *, on_event: OnEvent | None = None) -> list[Event]:
        """What ``destroy`` would do."""
        return self._operate(["destroy", "--preview-only"], on_event)

    def destroy(self, *, on_event: OnEvent | None = None) -> list[Event]:
        """Delete all that the state knows.

        :raises OperatorError: when not all of it was done
        """
        return self._operate(["destroy", "--yes", "--skip-preview"], on_event)

    def refresh(self, *, on_event: OnEvent | None = None) -> list[Event]:
        """Write into the state what the clouds have."""
        return self._operate(["refresh", "--yes", "--skip-preview"], on_event)

    def forget(self, urns: Iterable[str]) -> None:
        """Take resources out of the state; in the clouds nothing is changed."""
        for urn in urns:
            self.run(["state", "delete", urn, "--yes"])
        self._exported.clear()

    def cancel(self) -> None:
        """Take away the locks of the state."""
        self.run(["cancel", "--yes", self.name], stack=False)

    def require_free(self) -> None:
        """Be sure that nobody else is at work. Of a state that is not in a directory only an operation tells it.

        :raises Locked: when somebody is, or may be on another machine
        """
        living = [holder for holder in self.place.holders(self.name) if not is_dead(holder)]
        if living:
            raise Locked(tuple(living))

    def export(self, *, secrets: bool = False, afresh: bool = False) -> dict[str, Any]:
        """The state. It is read once, and again after what may have changed it.

        :param secrets: with secrets plain, and not encrypted
        :param afresh: read it again, as others may have changed it
        """
        if afresh:
            self._exported.clear()
        if secrets not in self._exported:
            told = self.run(["stack", "export", *(["--show-secrets"] if secrets else [])])
            self._exported[secrets] = dict(json.loads(told))
        return self._exported[secrets]

    def resources(self, *, secrets: bool = False) -> list[dict[str, Any]]:
        """The state's resources.

        :param secrets: with secrets plain, and not encrypted
        """
        return list(self.export(secrets=secrets).get("deployment", {}).get("resources") or [])

    @property
    def files(self) -> tuple[Path, ...]:
        """What the stack has on this machine."""
        own = [self.place.directory / ".pulumi" / "stacks" / PROJECT / f"{self.name}.json"] if self.place.directory else []
        return (*own, WORK / f"Pulumi.{self.name}.yaml", *([self.place.passphrase] if self.place.passphrase else []))

    def import_state(self, document: Mapping[str, Any]) -> None:
        """Put another state in the place of this one."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(document, file)
            file.flush()
            self.run(["stack", "import", "--file", file.name])
        self._exported.clear()

    def outputs(self, *, secrets: bool = False) -> dict[str, Any]:
        """The stack's outputs.

        :param secrets: all of them, secrets plain; else secrets as the state has them
        """
        if secrets:
            return dict(json.loads(self.run(["stack", "output", "--json", "--show-secrets"])))
        roots = (each for each in self.resources() if each.get("type") == "pulumi:pulumi:Stack")
        return dict(next(roots, {}).get("outputs") or {})

    def config(self) -> dict[str, str]:
        """What is plain in the stack's configuration. The engine, asked, would take a second to decrypt the rest."""
        return {key: str(value) for key, value in _settings(self.name).items() if not isinstance(value, dict)}

    def seed(self) -> str:
        """What passwords and keys are derived from (``infra.keys``), plain."""
        return self.run(["config", "get", f"{PROJECT}:seed"]).strip()

    def set_config(self, key: str, value: str, *, secret: bool = False) -> None:
        """Set a value of the configuration."""
        self.run(["config", "set", "--secret" if secret else "--plaintext", f"{PROJECT}:{key}"], stdin=value)

    def remove_config(self, key: str) -> None:
        """Unset a value of the configuration."""
        self.run(["config", "rm", f"{PROJECT}:{key}"])

    def run(self, words: list[str], *, stdin: str | None = None, stack: bool = True) -> str:
        """Run any command of the engine on this stack.

        :returns: what it wrote to stdout
        :raises OperatorError: when it fails
        """
        more = ["--stack", self.name] if stack else []

        def once() -> str:
            try:
                return self.engine.execute([*words, *more], cwd=str(WORK), stdin=stdin).stdout
            except CommandError as error:
                raise explained(str(error)) from error

        return self._past_the_dead(once)

    def ensure(self) -> None:
        """Make the stack, its passphrase and its seed, where they are not there.

        Settings that are there are used, for a state that is not there too: the seed in them makes the same passwords and keys.

        :raises OperatorError: when the passphrase that opens them is not here
        """
        there = self.place.has(self.name)
        if there is False:
            self._without_state()
        if self.place.passphrase and not self.place.passphrase.exists():
            self._make_passphrase(self.place.passphrase)
        if self.place.directory:
            self.place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not there:
            try:
                self._workspace.create_stack(self.name)
            except StackAlreadyExistsError:
                pass
            except CommandError as error:
                raise explained(str(error)) from error
            else:
                self._tell(f"made the stack {self.name} in {self.backend}")
        settings = _settings(self.name)
        if f"{PROJECT}:seed" not in settings:
            self.set_config("seed", secrets.token_hex(SEED_BYTES), secret=True)
        usual = self.file.resolve() == ROOT / "inventories" / self.name / "site.yml"
        wanted = "" if usual else str(self.file.resolve())
        if settings.get(f"{PROJECT}:site", "") != wanted:
            self.set_config("site", wanted)

    def require(self) -> None:
        """Be sure that the stack is there.

        :raises OperatorError: when it is not
        """
        there = self.place.has(self.name)
        if there is None:
            there = any(each.name == self.name for each in self._workspace.list_stacks())
        if not there:
            cause = f"the site {self.name} has no state in {self.backend}"
            raise NoState(cause, f"make it: python -m infra up {self.name}")
        if self.place.passphrase and not self.place.passphrase.exists():
            raise no_passphrase(self.name, self.place.passphrase)

    def _without_state(self) -> None:
        """Say what is done with settings that belong to a state that is not there."""
        file = WORK / f"Pulumi.{self.name}.yaml"
        if not _settings(self.name, "encryptionsalt"):
            return
        if not self.place.passphrase or self.place.passphrase.exists():
            self._tell(
                f"{file.name} is of a state that is not in {self.backend}; its seed and what else it says is used."
                " If there is a state, see $PULUMI_BACKEND_URL; if it is lost: python -m infra adopt"
            )
        elif fnmatchcase(self.name, FLEETING):
            kept = file.with_name(f".Pulumi.{self.name}.yaml.old")
            file.replace(kept)
            self._tell(f"{file.name} is of a state that is gone, with its passphrase; it is kept as infra/{kept.name}")

    def _make_passphrase(self, file: Path) -> None:
        if _settings(self.name, "encryptionsalt"):
            raise no_passphrase(self.name, file)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(SEED_BYTES) + "\n")
        self._tell(f"made a passphrase for the secrets of {self.name}: {file}; without it the state is worthless, so keep a copy")

    def _operate(self, words: list[str], on_event: OnEvent | None) -> list[Event]:
        return self._past_the_dead(lambda: self._operate_once(words, on_event))

    def _past_the_dead(self, act: Callable[[], T]) -> T:
        """Do something, and if the state is locked by engines of this machine that are no more, take their locks away first."""
        try:
            return act()
        except Locked as locked:
            if not locked.holders or not all(is_dead(holder) for holder in locked.holders):
                raise
            left = sum(end_remains(holder.pid) for holder in locked.holders)
            more = f", and ended {left} processes that it had left" if left else ""
            self._tell(f"took away the lock of {', '.join(map(str, locked.holders))}: that process is no more{more}")
            self.cancel()
        return act()

    def _operate_once(self, words: list[str], on_event: OnEvent | None) -> list[Event]:
        events: list[Event] = []
        if words[0] != "preview":
            self._exported.clear()

        def take(event: Event) -> None:
            events.append(event)
            if on_event:
                on_event(event)

        try:
            self.engine.events([*words, "--stack", self.name, "--suppress-outputs"], cwd=str(WORK), on_event=take)
        except CommandError as error:
            raise Incomplete.of(events, str(error)) from error
        return events


class NoState(OperatorError):
    """The site has no state: nothing was made yet, or it is kept elsewhere."""


class Incomplete(OperatorError):
    """An operation of the engine failed.

    :param events: what it told until then
    """

    def __init__(self, cause: str, fix: str, events: list[Event]) -> None:
        super().__init__(cause, fix)
        self.events = events

    @classmethod
    def of(cls, events: list[Event], text: str) -> OperatorError:
        """Say what an operation failed of: the first error that a resource met, else what the engine wrote."""
        broken = [event["policyEvent"] for event in events if "policyEvent" in event]
        broken = [each for each in broken if each.get("enforcementLevel") == "mandatory"]
        if broken:
            lines = sorted({f"  {str(each.get('resourceUrn', '')).rpartition('::')[2]} {_one_line(each)}" for each in broken})
            return cls("the policies refuse it, and nothing was done:\n" + "\n".join(lines), "correct the site file", events)
        told = diagnostics(events)
        told.sort(key=lambda each: (each[0].endswith("::pulumi:pulumi:Stack"), not each[0]))
        if "currently locked by" in text or not told:
            found = explained(text)
            if isinstance(found, Locked):
                return found
            return cls(found.cause, found.fix, events)
        urn, message = told[0]
        found = explained(message)
        name = urn.rpartition("::")[2]
        where = f"{urn.split('::')[-2].rpartition('$')[2].rpartition(':')[2]} {name}: " if urn.count("::") >= 3 else ""
        more = f" (and {len(told) - 1} more errors)" if len(told) > 1 else ""
        return cls(f"{where}{found.cause}{more}", found.fix, events)


def _one_line(violation: Event) -> str:
    """What a policy says, without the description that the engine puts before it."""
    return " ".join(str(violation.get("message") or "").split())


def no_passphrase(site: str, file: Path) -> OperatorError:
    """The state is encrypted, and what opens it is not on this machine."""
    return OperatorError(
        f"the passphrase of the stack {site} is not here",
        f"put it into {file} (mode 0600), or set $PULUMI_CONFIG_PASSPHRASE_FILE; if nobody has it and the state is lost,"
        f" take infra/Pulumi.{site}.yaml away: all passwords and keys are made anew then",
    )


def _holder(lock: Path) -> Holder | None:
    """Who made a lock; None when it is gone meanwhile."""
    try:
        told = json.loads(lock.read_text())
        since = re.sub(r"\.\d+", "", str(told["timestamp"]))  # as the engine tells it
        return Holder(user=str(told["username"]), host=str(told["hostname"]), pid=int(told["pid"]), since=since)
    except FileNotFoundError:
        return None
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise Locked(()) from error


def _whole(backend: str) -> str:
    """Have a state that is a file replaced whole, or not at all.

    So the Go CDK's fileblob does; but beside it it writes ``.attrs`` in place, and who reads meanwhile, or after the engine was
    killed there, is told "failed to load checkpoint: EOF". Nothing in them is needed.
    """
    return backend if "://" not in backend or not backend.startswith("file:") or "?" in backend else f"{backend}?metadata=skip"


def _settings(name: str, key: str = "config") -> Any:
    """A part of the stack's settings, from its file; empty where there is none."""
    file = WORK / f"Pulumi.{name}.yaml"
    document = (yaml.safe_load(file.read_text()) if file.exists() else None) or {}
    return document.get(key) or {}


@contextmanager
def open_stack(
    site: Site,
    file: Path,
    *,
    create: bool = False,
    tell: Tell = lambda _: None,
    on_interrupt: Callable[[int], None] = lambda _: None,
) -> Iterator[SiteStack]:
    """Open the stack of a site.

    :param file: the site's file
    :param create: make it where it is not there
    :raises OperatorError: when it is not there, or cannot be opened
    """
    place = Place.of(site, os.environ, cache() / "pulumi")
    installation = Installation.found(os.environ, cache() / "toolchain")
    path = f"{installation.program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    engine = Engine(installation, {"PATH": path, **place.environment}, on_interrupt)
    stack = SiteStack(site, file, place, engine, tell)
    if create:
        stack.ensure()
    else:
        stack.require()
    try:
        yield stack
    finally:
        stack.intents.take_back()
