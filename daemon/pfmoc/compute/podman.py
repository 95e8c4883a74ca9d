"""Plugins as containers of Podman or Docker, through the Docker-compatible API.

The engine is the only truth: nothing about a run is kept here. Seen to work with Podman 4.3.1; the calls and fields used are
those of API 1.41 (Docker 20.10) and later.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

import aiohttp
from aiodocker import Docker, DockerError
from aiodocker.containers import DockerContainer

from pfmoc.compute.base import Compute, Limits, Observation, Run, RunState
from pfmoc.compute.container_spec import DAEMON_LABEL, container_spec
from pfmoc.compute.container_status import observation
from pfmoc.compute.limits import check_limits, check_reference, gpus_here
from pfmoc.compute.tasks import to_the_end
from pfmoc.compute.text import Tail
from pfmoc.errors import ComputeRefused, ComputeUnavailable
from pfmoc.settings import Settings

RESYNC_S = 30.0
"""Seconds after which a watch that has heard nothing lists the containers: an events stream can fall silent without closing."""

EVENTS_BACK_S = 60
"""Seconds before now from which events are asked for. The engine says nothing when it begins to listen, so what happens
meanwhile is had this way; what comes twice does no harm."""

INSPECTIONS = 8
"""Containers inspected at once when all are listed."""

_UNREACHABLE = 900
"""What aiodocker gives for a status when there was no answer."""

_CANNOT_EXECUTE = ("command that was not found", "OCI permission denied", "exec format error")

_HEADER = 8
_CHUNK = 1 << 16

T = TypeVar("T")

_News = str | Exception | None
"""Id of a container that something happened to; why nothing more will be heard; or, at the close, nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Facts:
    """What the engine says of itself."""

    cpus: int
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
        self._gpus = gpus_here(settings)
        self._facts: _Facts | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._watchers: set[asyncio.Queue[_News]] = set()

    async def __aenter__(self) -> Self:
        # The deadline of each question is ours (``_ask``); a client-wide one would also end the events stream.
        self._docker = Docker(url=self._url)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for watcher in self._watchers:
            watcher.put_nowait(None)
        await self._docker.close()

    def check(self, image: str, limits: Limits) -> None:
        """Reject limits out of bounds, and what is no image reference. Whether the image can be had, only fetching it tells."""
        check_limits(limits, gpus=self._gpus)
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
        return await self._ask(self._read_logs(inspected["Id"], tail))

    async def remove(self, name: str) -> None:
        """Kill and remove a container of ours, with its anonymous volumes. Another's of that name is left alone."""
        async with self._lock(name):
            inspected = await self._inspected(name)
            if inspected is not None and self._is_ours(inspected):
                await self._delete(inspected["Id"], name=name)

    async def watch(self) -> AsyncIterator[Observation]:
        """Yield every container of ours as it is, and then each that an event is about."""
        news: asyncio.Queue[_News] = asyncio.Queue()
        listener = asyncio.create_task(self._listen(news))
        self._watchers.add(news)
        states: dict[str, str] = {}
        try:
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
        finally:
            self._watchers.discard(news)
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener

    # Starting.

    async def _start(self, run: Run) -> Observation:
        spec = await self._spec(run)
        async with self._lock(run.name):
            try:
                container = await self._ask(self._docker.containers.create(spec, name=run.name))
            except DockerError as error:
                # Engines differ in how they say that the name is taken (Docker 409, Podman 4 500), so look.
                there = await self._inspected(run.name)
                if there is not None:
                    if not self._is_ours(there):
                        problem = f"a container named {run.name} exists, and is not one of this daemon's"
                        raise ComputeRefused(problem, engine_status=409) from None
                    if observation(there).state is not RunState.PENDING:
                        return observation(there)
                    # A daemon was killed between create and start: what was asked for then is not known to be what is now.
                    await self._delete(there["Id"], name=run.name)
                elif error.status == 404:
                    await self._fetch(run.image)
                else:
                    raise _refused(run.image, error) from None
                container = await self._create_again(run, spec)
            return await self._begin(container, run)

    async def _create_again(self, run: Run, spec: dict[str, Any]) -> DockerContainer:
        try:
            return await self._ask(self._docker.containers.create(spec, name=run.name))
        except DockerError as error:
            raise _refused(run.image, error) from None

    async def _begin(self, container: DockerContainer, run: Run) -> Observation:
        try:
            await self._ask(container.start())
            return observation(await self._ask(container.show()))
        except (DockerError, ComputeUnavailable) as error:
            with suppress(ComputeRefused, ComputeUnavailable):  # the first error is the one to tell
                await self._delete(container.id, name=run.name)
            if isinstance(error, DockerError):
                raise _refused(run.image, error) from None
            raise

    async def _spec(self, run: Run) -> dict[str, Any]:
        facts = await self._learn()
        return container_spec(
            run,
            settings=self._settings,
            incoming=self._on_host(run.incoming, facts),
            outgoing=self._on_host(run.outgoing, facts),
            daemon=self._daemon,
            cpus_there=facts.cpus,
        )

    async def _fetch(self, image: str) -> None:
        """Pull an image, once however many ask for it."""
        deadline = self._settings.pull_deadline_s
        async with self._lock(f"image {image}"):
            with suppress(DockerError):
                await self._ask(self._docker.images.inspect(image))
                return
            try:
                async with asyncio.timeout(deadline):
                    async for _ in self._docker.images.pull(image, stream=True):
                        pass
            except TimeoutError:
                raise ComputeRefused(f"{image}: could not be fetched within {deadline:g} s", engine_status=504) from None
            except DockerError as error:
                if error.status == _UNREACHABLE:
                    raise _unreachable() from error
                # Within the stream of a pull an error has no status of its own; the image is not there, that much is sure.
                raise ComputeRefused(f"{image}: cannot be fetched: {error.message}", engine_status=error.status or 404) from None

    # Removing, listing.

    async def _delete(self, container_id: str, *, name: str) -> None:
        container = self._docker.containers.container(container_id)
        try:
            await self._ask(container.delete(force=True, v=True))
        except DockerError as error:
            if error.status == 409:  # someone else is at it; be sure that it is done
                with suppress(DockerError):
                    await self._ask(container.wait(condition="removed"))
            elif error.status != 404:
                raise _refused(name, error) from None

    async def _inspected(self, name: str) -> Mapping[str, Any] | None:
        """Inspect by exact name: the engine itself would also take the beginning of another container's id."""
        try:
            inspected: dict[str, Any] = await self._ask(self._docker.containers.container(name).show())
        except DockerError as error:
            if error.status == 404:
                return None
            raise _refused(name, error) from None
        return inspected if inspected["Name"].removeprefix("/") == name else None

    async def _listed(self, **params: int) -> list[DockerContainer]:
        filters = json.dumps({"label": [f"{DAEMON_LABEL}={self._daemon}"]})
        try:
            return await self._ask(self._docker.containers.list(all=1, filters=filters, **params))
        except DockerError as error:
            raise _refused("list of containers", error) from None

    async def _observed(self, ids: Sequence[str]) -> list[Observation]:
        room = asyncio.Semaphore(INSPECTIONS)

        async def one(container_id: str) -> Observation | None:
            async with room:
                try:
                    return observation(await self._ask(self._docker.containers.container(container_id).show()))
                except DockerError as error:
                    if error.status == 404:
                        return None
                    raise _refused(container_id, error) from None

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

    async def _listen(self, news: asyncio.Queue[_News]) -> None:
        """Pass on the id of every container of ours that an event is about; at the end, why there will be no more."""
        filters = json.dumps({"type": ["container"], "label": [f"{DAEMON_LABEL}={self._daemon}"]})
        try:
            since = int(time.time()) - EVENTS_BACK_S
            async with self._get("events", params={"filters": filters, "since": str(since)}) as response:
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for container_id in dict.fromkeys(json.loads(line)["Actor"]["ID"] for line in lines if line.strip()):
                        news.put_nowait(container_id)
            raise ConnectionResetError("the stream ended")
        except (aiohttp.ClientError, DockerError, OSError, ValueError, KeyError, ComputeUnavailable) as error:
            news.put_nowait(error)

    async def _read_logs(self, container_id: str, tail: int) -> str:
        kept = Tail()
        async with self._get(
            f"containers/{container_id}/logs", params={"stdout": "1", "stderr": "1", "tail": str(tail)}
        ) as response:
            content = response.content
            with suppress(asyncio.IncompleteReadError):
                # Frames of both streams, each with a header that ends in its length.
                while header := await content.readexactly(_HEADER):
                    left = int.from_bytes(header[4:], "big")
                    while left and (chunk := await content.read(min(left, _CHUNK))):
                        kept.feed(chunk)
                        left -= len(chunk)
        return kept.lines(tail)

    @asynccontextmanager
    async def _get(self, path: str, *, params: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Read an answer as it comes; aiodocker keeps the whole of a log, and hides how a stream of events ended."""
        if self._docker.api_version == "auto":
            await self._ask(self._docker.version())
        url = f"{self._docker.docker_host}/{self._docker.api_version}/{path}"
        async with self._docker.session.get(url, params=params, timeout=aiohttp.ClientTimeout()) as response:
            if response.status >= 400:
                raise DockerError(response.status, (await response.text())[:_CHUNK])
            yield response

    # The engine.

    async def _ask(self, question: Awaitable[T]) -> T:
        """Await an answer within the deadline.

        :raises ComputeUnavailable: there was none
        :raises DockerError: it was an error, with its status
        """
        deadline = self._settings.engine_deadline_s
        try:
            async with asyncio.timeout(deadline):
                return await question
        except TimeoutError:
            raise ComputeUnavailable(f"the container engine did not answer within {deadline:g} s") from None
        except DockerError as error:
            if error.status == _UNREACHABLE:
                raise _unreachable() from error
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:  # cut off within the answer
            raise _unreachable() from error

    async def _learn(self) -> _Facts:
        """Ask once for what does not change while the engine runs.

        :raises ComputeUnavailable: it does not answer, or the storeBase is not to be found with it
        """
        if self._facts is None:
            try:
                info = await self._ask(self._docker.system.info())
                self._facts = _Facts(cpus=int(info["NCPU"]), storebase=await self._find_storebase())
            except DockerError as error:
                raise ComputeUnavailable(f"the container engine answers with an error: {error.message}") from error
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
        for container in await self._ask(self._docker.containers.list(filters=filters)):
            inspected = await self._ask(container.show())
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
            volume = await self._ask((await self._ask(volumes.get(name))).show())
        except DockerError as error:
            if error.status != 404:
                raise
            raise ComputeUnavailable(f"VOLUME_NAME: the container engine has no volume {name}") from None
        if volume["Driver"] != "local":
            raise ComputeUnavailable(f"VOLUME_NAME: the driver of volume {name} must be local, not {volume['Driver']}")
        return Path(volume["Mountpoint"])

    def _on_host(self, path: Path, facts: _Facts) -> Path:
        """The same path as the engine's host has it."""
        return facts.storebase / path.relative_to(self._settings.storebase_mount)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())


def usual_socket(engine: str) -> Path:
    """The socket that an engine of this kind has when nobody says otherwise."""
    if engine == "docker":
        return Path("/var/run/docker.sock")
    run = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}"))
    return run / "podman" / "podman.sock"


def _identity(settings: Settings) -> str:
    """What tells this daemon's runs from another's, the same after a restart: where it keeps its state and its data."""
    parts = (settings.state_dir, settings.storebase_mount, settings.storebase, settings.volume_name, settings.selector)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def _refused(what: str, error: DockerError) -> ComputeRefused:
    # Podman answers 500 when the program of a plugin cannot be executed. That is the job's fault, and Docker says so with 400.
    blames_job = error.status == 500 and any(words in error.message for words in _CANNOT_EXECUTE)
    return ComputeRefused(f"{what}: {error.message}", engine_status=400 if blames_job else error.status)


def _unreachable() -> ComputeUnavailable:
    return ComputeUnavailable("the container engine cannot be reached")
