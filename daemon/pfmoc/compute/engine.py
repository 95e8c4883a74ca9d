"""A connection to a Docker-compatible engine: each question has a deadline, and no answer is never taken for a no."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from aiodocker import Docker, DockerError

from pfmoc.errors import ComputeRefused, ComputeUnavailable

T = TypeVar("T")

API_VERSION = "1.41"
"""Docker 20.10, and what Podman 4 speaks. Asked for where an engine does not say what it speaks."""

_UNREACHABLE = 900
"""What aiodocker gives for a status when there was no answer."""

_CANNOT_EXECUTE = ("command that was not found", "OCI permission denied", "exec format error")

_ERROR_TEXT_MAX = 1000


class Engine:
    """One engine. To be made within an event loop, and closed.

    :param url: of its socket
    :param deadline: seconds that it may take to answer a question
    """

    def __init__(self, url: str, *, deadline: float) -> None:
        self.docker = Docker(url=url)
        self._deadline = deadline
        self._greeting = asyncio.Lock()
        self._is_podman: bool | None = None

    async def close(self) -> None:
        """Close the connection."""
        await self.docker.close()

    async def is_podman(self) -> bool:
        """True for Podman, False for Docker."""
        return await self.ask(self._greet())

    async def ask(self, question: Coroutine[Any, Any, T], *, deadline: float | None = None) -> T:
        """Await an answer.

        :raises ComputeUnavailable: there was none within the deadline
        :raises DockerError: it was an error, with its status
        """
        deadline = deadline or self._deadline
        try:
            async with asyncio.timeout(deadline):
                await self._greet()
                return await question
        except TimeoutError:
            raise ComputeUnavailable(f"the container engine did not answer within {deadline:g} s") from None
        except DockerError as error:
            if error.status == _UNREACHABLE:
                raise _unreachable() from error
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:  # cut off within the answer
            raise _unreachable() from error
        finally:
            question.close()  # in case that it was never put

    @asynccontextmanager
    async def stream(self, path: str, *, params: Mapping[str, str], method: str = "GET") -> AsyncIterator[aiohttp.ClientResponse]:
        """Read an answer as it comes. aiodocker keeps the whole of a log, hides how a stream of events ended, and leaves the
        connection open when the reader of a stream is cancelled.

        Without a deadline: that is the caller's.
        """
        await self._greet()
        url = f"{self.docker.docker_host}/{self.docker.api_version}/{path}"
        async with self.docker.session.request(method, url, params=params, timeout=aiohttp.ClientTimeout()) as response:
            if response.status >= 400:
                text = (await response.text())[:_ERROR_TEXT_MAX]
                with suppress(ValueError, KeyError, TypeError):
                    text = json.loads(text)["message"]
                raise DockerError(response.status, text)
            yield response

    async def _greet(self) -> bool:
        """Learn once who is there. aiodocker would ask for the version instead, which costs Podman a dozen processes."""
        async with self._greeting:
            if self._is_podman is None:
                async with self.docker.session.get(f"{self.docker.docker_host}/_ping") as response:
                    self.docker.api_version = f"v{response.headers.get('Api-Version', API_VERSION)}"
                    self._is_podman = "Libpod-Api-Version" in response.headers
            return self._is_podman


def refused(what: str, error: DockerError) -> ComputeRefused:
    """The engine's error as one for the client, naming what it is about."""
    # Podman answers 500 when the program of a plugin cannot be executed. That is the job's fault, and Docker says so with 400.
    blames_job = error.status == 500 and any(words in error.message for words in _CANNOT_EXECUTE)
    return ComputeRefused(f"{what}: {error.message}", engine_status=400 if blames_job else error.status)


def says_absent(error: DockerError) -> bool:
    """True when there is no such container. Podman says 500 of one that vanishes while it is being looked at."""
    return error.status == 404 or (error.status == 500 and "no such container" in error.message)


def says_ending(error: DockerError) -> bool:
    """True when a container's process ended while Podman looked at it: its cgroup was to be read, and is gone."""
    return error.status == 500 and "no such process" in error.message


def usual_socket(engine: str) -> Path:
    """The socket that an engine of this kind has when nobody says otherwise."""
    if engine == "docker":
        return Path("/var/run/docker.sock")
    run = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}"))
    return run / "podman" / "podman.sock"


def _unreachable() -> ComputeUnavailable:
    return ComputeUnavailable("the container engine cannot be reached")
