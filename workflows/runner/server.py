"""One plugin run on a pfcon server, the way CUBE does it: submit, watch, fetch, delete."""

from __future__ import annotations

import contextlib
import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pfconclient.client import Client, JobType  # type: ignore[import-untyped]  # it has no py.typed
from pfconclient.exceptions import PfconRequestException  # type: ignore[import-untyped]  # the same

from workflows.runner.documents import Node

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
CLEAN_UP_S = 60.0
REQUEST_S = 300


class ServerError(Exception):
    """The server refused a request, or did not answer."""


class StoppedError(Exception):
    """We were told to stop."""


@dataclass(frozen=True)
class Access:
    """Where the API is and who we are there."""

    url: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Access({self.url!r}, {self.user!r})"

    @classmethod
    def from_env_file(cls, path: Path) -> Access:
        """Read what the daemon itself was started with: so no secret is ever on a command line."""
        if not path.is_file():
            raise ServerError(f"{path} is missing: has `make up` set up the daemon?")
        values = dotenv_values(path)
        try:
            host, port = values["PFMOC_HOST"], values["PORT"]
            user, password = values["PFCON_USER"], values["PFCON_PASSWORD"]
        except KeyError as error:
            raise ServerError(f"{path} has no {error.args[0]}") from error
        return cls(f"http://{host}:{port}/api/v1/", user or "", password or "")


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    status: str
    logs: str

    @property
    def succeeded(self) -> bool:
        """True unless the plugin, or its start, failed."""
        return self.status == "finishedSuccessfully"


class Server:
    """A pfcon server that we are logged in to.

    Each job is deleted in the end, whatever happened: the server keeps neither a container nor a file of ours.
    """

    def __init__(self, access: Access, stop: threading.Event) -> None:
        self._stop = stop
        with _translated("log in"):
            token = Client.get_auth_token(f"{access.url}auth-token/", access.user, access.password)
            self._client = Client(access.url, token)
            if self._client.get_server_info()["pfcon_innetwork"]:
                raise ServerError(f"{access.url} shares a storage with CUBE; it takes no data through the API")

    def run(self, jid: str, node: Node, source: Path, destination: Path, phase: Callable[[str], None]) -> Ended:
        """Run a plugin on the files in ``source`` and put its output, also a failed one's, into ``destination``.

        :raises ServerError: a request failed
        :raises StoppedError: the stop event was set; the job has been removed
        """
        try:
            phase("sending")
            self._submit(jid, node, source)
            ended = self._watch(jid, phase)
            phase("fetching")
            self._fetch(jid, destination)
        finally:
            phase("cleaning")
            self._delete(jid)
        return ended

    def _submit(self, jid: str, node: Node, source: Path) -> None:
        descriptors: dict[str, Any] = {
            "auid": "workflow",
            "image": node.image,
            "entrypoint": list(node.entrypoint),
            "args": list(node.args),
            "type": node.type,
            "env": [f"{name}={value}" for name, value in node.env.items()],
            "cpu_limit": node.limits.cpu,
            "memory_limit": node.limits.memory,
            "gpu_limit": node.limits.gpu,
            "number_of_workers": node.limits.workers,
        }
        if self._stop.is_set():
            raise StoppedError
        with _translated(f"submit {node.name}"):
            self._client.submit_job(JobType.PLUGIN, jid, descriptors, Client.create_zip_file(str(source)), REQUEST_S)

    def _watch(self, jid: str, phase: Callable[[str], None]) -> Ended:
        pause = FIRST_PAUSE_S
        while True:
            with _translated("ask for the status"):
                compute = self._client.get_job_status(JobType.PLUGIN, jid, REQUEST_S)["compute"]
            status = compute["status"]
            if status not in ("notStarted", "started"):
                return Ended(status, compute["logs"])
            phase("running" if status == "started" else "queued")
            if self._stop.wait(pause):
                raise StoppedError
            pause = min(pause * 1.5, LONGEST_PAUSE_S)

    def _fetch(self, jid: str, destination: Path) -> None:
        # Not get_plugin_job_files: that trusts the names in the archive, and prints.
        with _translated("fetch the output"):
            data = self._client.get_plugin_job_zip_data(jid, REQUEST_S)
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                archive.extractall(destination)

    def _delete(self, jid: str) -> None:
        """Delete as CUBE does: the data by a job of its own, then the records. A failure here spoils no result."""
        with contextlib.suppress(PfconRequestException):
            status = self._client.submit_job(JobType.DELETE, jid, {}, timeout=REQUEST_S)["compute"]["status"]
            deadline = time.monotonic() + CLEAN_UP_S
            while status in ("notStarted", "started") and time.monotonic() < deadline:
                time.sleep(FIRST_PAUSE_S)
                status = self._client.get_job_status(JobType.DELETE, jid, REQUEST_S)["compute"]["status"]
        for kind in (JobType.PLUGIN, JobType.DELETE):
            with contextlib.suppress(PfconRequestException):
                self._client.delete_job(kind, jid, REQUEST_S)


@contextlib.contextmanager
def _translated(deed: str) -> Iterator[None]:
    try:
        yield
    except PfconRequestException as error:
        raise ServerError(f"could not {deed}: {error}") from error
    except (ValueError, LookupError, zipfile.BadZipFile) as error:
        raise ServerError(f"could not {deed}: the answer makes no sense: {error!r}") from error
