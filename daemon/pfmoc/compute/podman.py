"""Plugins as containers of Podman or Docker, through the Docker-compatible API.

The engine is the only truth: nothing about a run is kept here. Seen to work with Podman 4.3.1; the calls and fields used are
those of API 1.41 (Docker 20.10) and later.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiodocker import DockerError
from aiodocker.containers import DockerContainer

from pfmoc.compute.base import Compute, Limits, Observation, Run, RunState
from pfmoc.compute.container_spec import DAEMON_LABEL, container_spec
from pfmoc.compute.container_status import observation
from pfmoc.compute.engine import Engine, refused, says_absent, says_ending, usual_socket
from pfmoc.compute.limits import bounds_of, check_limits, check_reference
from pfmoc.compute.tasks import to_the_end
from pfmoc.compute.text import Frames, Tail
from pfmoc.errors import ComputeRefused, ComputeUnavailable
from pfmoc.locks import KeyedLocks
from pfmoc.settings import Settings

_log = logging.getLogger(__name__)

RESYNC_S = 30.0
"""Seconds after which a watch that has heard nothing lists the containers: an events stream can fall silent without closing."""

EVENTS_BACK_S = 60
"""Seconds before now from which events are asked for. The engine says nothing when it begins to listen, so what happens
meanwhile is had this way; what comes twice does no harm."""

_NO_STATUS = 0
"""For an error that comes within a stream whose status was good."""

INSPECTIONS = 8
"""Containers inspected at once when all are listed."""

_ENDS_S = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds until another look at a container that ended while Podman looked at it."""


_News = str | Exception | None
"""Id of a container that something happened to; why nothing more will be heard; or, at the close, nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Facts:
    """What the engine says of itself."""

    cpus: int | None
    """None where the engine takes any limit."""
    storebase: Path


class PodmanCompute(Compute):
    """See the module.

    :param settings: the daemon's; ``container_env`` is ``podman`` or ``docker``
    """

    def __init__(self, settings: Settings) -> None:
        self.env = settings.container_env
        self.volume_type = settings.volume_type or "docker_local_volume"
        self._settings = settings
        self._url = settings.docker_host or f"unix://{usual_socket(settings.container_env)}"
        self._daemon = _identity(settings)
        self._bounds = bounds_of(settings)
        self._facts: _Facts | None = None
        self._closed = False
        self._locks = KeyedLocks()
        self._watchers: set[asyncio.Queue[_News]] = set()
        self._listeners: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._engine = Engine(self._url, deadline=self._settings.engine_deadline_s)
        self._docker = self._engine.docker
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed = True
        for watcher in self._watchers:
            watcher.put_nowait(None)
        for listener in self._listeners:
            listener.cancel()
        if self._listeners:
            await asyncio.wait(self._listeners)
        await self._engine.close()

    def check(self, image: str, limits: Limits) -> None:
        """Reject limits out of bounds, and what is no image reference. Whether the image can be had, only fetching it tells."""
        check_limits(limits, self._bounds)
        check_reference(image)

    async def probe(self) -> None:
        """Prove that the engine answers from its own store, and knows where the storeBase is."""
        await self._learn()
        await self._listed(limit=1)

    async def start(self, run: Run) -> Observation:
        """Create and start a container; its image is fetched first where it is absent."""
        self.check(run.image, run.limits)
        return await to_the_end(self._start(run))

    async def inspect(self, name: str) -> Observation | None:
        """Observe one container of ours, by its exact name."""
        inspected = await self._inspected(name)
        return observation(inspected) if inspected is not None and self._is_ours(inspected) else None

    async def runs(self) -> Sequence[Observation]:
        """Observe every container that bears this daemon's label."""
        return await self._observed([container.id for container in await self._listed()])

    async def logs(self, name: str, *, tail: int) -> str:
        """Return the end of a container's log, read as a stream."""
        inspected = await self._inspected(name)
        if tail <= 0 or inspected is None or not self._is_ours(inspected):
            return ""
        try:
            return await self._engine.ask(self._read_logs(inspected["Id"], tail))
        except DockerError as error:
            if says_absent(error):  # removed meanwhile
                return ""
            raise refused(name, error) from None

    async def remove(self, name: str) -> None:
        """Kill and remove a container of ours, with its anonymous volumes. Another's of that name is left alone."""
        async with self._locks.hold(name):
            inspected = await self._inspected(name)
            if inspected is not None and self._is_ours(inspected):
                await self._delete(inspected["Id"], name=name)

    async def watch(self) -> AsyncIterator[Observation]:
        """Yield every container of ours as it is, and then each that an event is about."""
        news: asyncio.Queue[_News] = asyncio.Queue()
        listener = asyncio.create_task(self._listen(news))
        self._listeners.add(listener)
        listener.add_done_callback(self._listeners.discard)
        self._watchers.add(news)
        try:
            async with aclosing(self._told(news)) as told:
                async for seen in told:
                    yield seen
        except ComputeUnavailable:
            if not self._closed:
                raise
        finally:
            self._watchers.discard(news)
            listener.cancel()
            await asyncio.wait([listener])

    # Starting.

    async def _start(self, run: Run) -> Observation:
        spec = await self._spec(run)
        async with self._locks.hold(run.name):
            there = await self._inspected(run.name)
            if there is not None and not self._is_ours(there):
                problem = f"a container named {run.name} exists, and is not one of this daemon's"
                raise ComputeRefused(problem, engine_status=409)
            if there is not None and observation(there).state is not RunState.PENDING:
                return observation(there)
            if there is not None:
                # A daemon was killed between create and start: what was asked for then is not known to be what is now.
                await self._delete(there["Id"], name=run.name)
            return await self._begin(await self._create(run, spec), run)

    async def _create(self, run: Run, spec: dict[str, Any]) -> DockerContainer:
        for last in (False, True):
            try:
                return await self._engine.ask(self._docker.containers.create(spec, name=run.name))
            except DockerError as error:
                if error.status != 404 or last:
                    raise refused(run.image, error) from None
                await self._fetch(run.image)
        raise AssertionError("the second attempt returns or raises")

    async def _begin(self, container: DockerContainer, run: Run) -> Observation:
        try:
            await self._engine.ask(container.start())
            inspected = await self._engine.ask(container.show())
        except (DockerError, ComputeUnavailable) as error:
            with suppress(ComputeRefused, ComputeUnavailable):  # the first error is the one to tell
                await self._delete(container.id, name=run.name)
            if isinstance(error, DockerError):
                raise refused(run.image, error) from None
            raise
        if not (self._settings.ignore_limits or inspected["HostConfig"].get("Memory")):
            _log.warning("the container engine enforces no memory limit: it has no root, and no cgroup is delegated to it")
        return observation(inspected)

    async def _spec(self, run: Run) -> dict[str, Any]:
        facts = await self._learn()
        return container_spec(
            run,
            settings=self._settings,
            incoming=self._on_host(run.mounts.incoming, facts),
            outgoing=self._on_host(run.mounts.outgoing, facts),
            daemon=self._daemon,
            cpus_there=facts.cpus,
        )

    async def _fetch(self, image: str) -> None:
        """Pull an image, once however many ask for it."""
        deadline = self._settings.pull_deadline_s
        async with self._locks.hold(f"image {image}"):
            with suppress(DockerError):
                await self._engine.ask(self._docker.images.inspect(image))
                return
            try:
                await self._engine.ask(self._pull(image), deadline=deadline)
            except ComputeUnavailable as error:
                if error.__cause__ is not None:
                    raise
                raise ComputeRefused(f"{image}: could not be fetched within {deadline:g} s", engine_status=504) from None
            except DockerError as error:
                # Within the stream of a pull an error has no status of its own; the image is not there, that much is sure.
                raise ComputeRefused(
                    f"{image}: cannot be fetched: {error.message}",
                    engine_status=404 if error.status == _NO_STATUS else error.status,
                ) from None

    async def _pull(self, image: str) -> None:
        params = {"fromImage": image}
        if ":" not in image.rpartition("/")[2] and "@" not in image:
            params["tag"] = "latest"  # else Docker would fetch every tag there is
        async with self._engine.stream("images/create", method="POST", params=params) as response:
            async for line in response.content:
                told = json.loads(line)
                if "error" in told:
                    raise DockerError(_NO_STATUS, str(told["error"]))

    # Removing, listing.

    async def _delete(self, container_id: str, *, name: str) -> None:
        container = self._docker.containers.container(container_id)
        try:
            await self._engine.ask(container.delete(force=True, v=True))
        except DockerError as error:
            if error.status == 409:  # someone else is at it; be sure that it is done
                with suppress(DockerError):
                    await self._engine.ask(container.wait(condition="removed"))
            elif not says_absent(error):
                raise refused(name, error) from None

    async def _inspected(self, name: str) -> Mapping[str, Any] | None:
        """Inspect by exact name: the engine itself would also take the beginning of another container's id."""
        inspected = await self._shown(name)
        return inspected if inspected is not None and inspected["Name"].removeprefix("/") == name else None

    async def _shown(self, container: str) -> Mapping[str, Any] | None:
        """Inspect a container, by name or id; None where there is none. One that ends meanwhile is looked at again."""
        pauses = iter(_ENDS_S)
        while True:
            try:
                shown: dict[str, Any] = await self._engine.ask(self._docker.containers.container(container).show())
            except DockerError as error:
                if says_absent(error):
                    return None
                pause = next(pauses, None) if says_ending(error) else None
                if pause is None:
                    raise refused(container, error) from None
            else:
                return shown
            await asyncio.sleep(pause)

    async def _listed(self, **params: int) -> list[DockerContainer]:
        filters = json.dumps({"label": [f"{DAEMON_LABEL}={self._daemon}"]})
        try:
            return await self._engine.ask(self._docker.containers.list(all=1, filters=filters, **params))
        except DockerError as error:
            raise refused("list of containers", error) from None

    async def _observed(self, ids: Sequence[str]) -> list[Observation]:
        room = asyncio.Semaphore(INSPECTIONS)

        async def one(container_id: str) -> Observation | None:
            async with room:
                shown = await self._shown(container_id)
                return None if shown is None else observation(shown)

        seen = await asyncio.gather(*map(one, ids))
        return [observed for observed in seen if observed is not None]

    async def _changed(self, states: dict[str, str]) -> list[Observation]:
        """Observe the containers whose state is not the one remembered in ``states``, and remember it."""
        now = {container.id: str(container["State"]) for container in await self._listed()}
        changed = [container_id for container_id, state in now.items() if states.get(container_id) != state]
        states.clear()
        states.update(now)
        return await self._observed(changed)

    def _is_ours(self, inspected: Mapping[str, Any]) -> bool:
        return (inspected["Config"].get("Labels") or {}).get(DAEMON_LABEL) == self._daemon

    # Streams.

    async def _told(self, news: asyncio.Queue[_News]) -> AsyncGenerator[Observation, None]:
        """Observe what the news are about, and now and then what there should have been news of."""
        states: dict[str, str] = {}
        for seen in await self._changed(states):
            yield seen
        while True:
            try:
                async with asyncio.timeout(RESYNC_S):
                    item = await news.get()
            except TimeoutError:
                for seen in await self._changed(states):
                    yield seen
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise ComputeUnavailable("the container engine ended its stream of events") from item
            for seen in await self._observed([item]):
                yield seen

    async def _listen(self, news: asyncio.Queue[_News]) -> None:
        """Pass on the id of every container of ours that an event is about; at the end, why there will be no more."""
        filters = json.dumps({"type": ["container"], "label": [f"{DAEMON_LABEL}={self._daemon}"]})
        try:
            since = int(time.time()) - EVENTS_BACK_S
            async with self._engine.stream("events", params={"filters": filters, "since": str(since)}) as response:
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for container_id in dict.fromkeys(json.loads(line)["Actor"]["ID"] for line in lines if line.strip()):
                        news.put_nowait(container_id)
            raise ConnectionResetError("the stream ended")
        except (aiohttp.ClientError, DockerError, OSError, ValueError, KeyError, ComputeUnavailable) as error:
            news.put_nowait(error)

    async def _read_logs(self, container_id: str, tail: int) -> str:
        params = {"stdout": "1", "stderr": "1"}
        # Podman 4 garbles the end of a log: with ``tail`` it loses and joins lines that are long or lack their end. Its logs are
        # of bounded size (``container_spec``), so all of it is read instead.
        if not await self._engine.is_podman():
            params["tail"] = str(tail)
        kept, frames = Tail(), Frames()
        async with self._engine.stream(f"containers/{container_id}/logs", params=params) as response:
            async for chunk in response.content.iter_any():
                for part in frames.feed(chunk):
                    kept.feed(part)
        return kept.lines(tail)

    # Where things are.

    async def _learn(self) -> _Facts:
        """Ask once for what does not change while the engine runs.

        :raises ComputeUnavailable: it does not answer, or the storeBase is not to be found with it
        """
        if self._facts is None:
            try:
                storebase = await self._find_storebase()
                podman = await self._engine.is_podman()
                cpus = None if podman else int((await self._engine.ask(self._docker.system.info()))["NCPU"])
            except DockerError as error:
                raise ComputeUnavailable(f"the container engine answers with an error: {error.message}") from error
            self._facts = _Facts(cpus=cpus, storebase=storebase)
        return self._facts

    async def _find_storebase(self) -> Path:
        """Where the engine's host has the storeBase."""
        settings = self._settings
        if self.volume_type == "host":
            if settings.storebase is None:
                raise ComputeUnavailable("STOREBASE is not set")
            return settings.storebase
        if settings.volume_name is not None:
            return await self._mountpoint(settings.volume_name)
        filters = json.dumps({"label": [settings.selector]})
        for container in await self._engine.ask(self._docker.containers.list(filters=filters)):
            inspected = await self._engine.ask(container.show())
            for mount in inspected["Mounts"]:
                if Path(mount["Destination"]) == settings.storebase_mount:
                    return Path(mount["Source"])
        raise ComputeUnavailable(
            f"no container with the label {settings.selector} has a volume mounted at {settings.storebase_mount};"
            " set VOLUME_NAME, or COMPUTE_VOLUME_TYPE=host with STOREBASE"
        )

    async def _mountpoint(self, name: str) -> Path:
        volumes: Any = self._docker.volumes
        try:
            volume = await self._engine.ask((await self._engine.ask(volumes.get(name))).show())
        except DockerError as error:
            if error.status != 404:
                raise
            raise ComputeUnavailable(f"VOLUME_NAME: the container engine has no volume {name}") from None
        if volume["Driver"] != "local":
            raise ComputeUnavailable(f"VOLUME_NAME: the driver of volume {name} must be local, not {volume['Driver']}")
        return Path(volume["Mountpoint"])

    def _on_host(self, path: Path, facts: _Facts) -> Path:
        """The same path as the engine's host has it. Links on the way to the storeBase may have been followed already."""
        mount = self._settings.storebase_mount
        return facts.storebase / path.relative_to(mount if path.is_relative_to(mount) else mount.resolve())


def _identity(settings: Settings) -> str:
    """What tells this daemon's runs from another's, the same after a restart: where it keeps its state and its data."""
    parts = (settings.state_dir, settings.storebase_mount, settings.storebase, settings.volume_name, settings.selector)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
