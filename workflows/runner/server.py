"""One plugin run on a pfcon server, the way CUBE does it: submit, watch, fetch, delete.

Data travel within the API, or through an object store that the server and its users share. There a node reads what its parent
wrote, and nothing passes through this machine but the first input and the results.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pfconclient.client import Client, JobType  # type: ignore[import-untyped]  # it has no py.typed
from pfconclient.exceptions import PfconRequestException  # type: ignore[import-untyped]  # the same

from workflows.runner.documents import Node
from workflows.runner.names import know_localhost
from workflows.runner.store import Store, StoreError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
CLEAN_UP_S = 60.0
REQUEST_S = 300
PASSING = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
"""What a balancer says while the server behind it is being replaced, and a server that is busy."""
PATIENCE_S = 60.0
STAGES = ("waiting", "pull", "plugin", "publish")
ROOT = "home/workflows"
"""Where the data of runs lie in a shared store: each run has a directory there, with one for each node."""


class ServerError(Exception):
    """The server refused a request, or did not answer."""


class NotSharedError(ServerError):
    """The server shares with CUBE what it does not share with us; it is well, for all that we know."""


class StoppedError(Exception):
    """We were told to stop."""


@dataclass(frozen=True)
class Access:
    """Where the API is and who we are there.

    :param authorities: file of those that the server's certificate is signed by; empty for the usual ones
    :param store: how to use the store that the server shares with us
    """

    url: str
    user: str
    password: str = field(repr=False)
    authorities: str = ""
    store: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_env_file(cls, path: Path) -> Access:
        """Read what the daemon itself was started with, or what its users were given: so no secret is ever on a command line."""
        if not path.is_file():
            raise ServerError(f"{path} is missing: has `make up` set up the daemon?")
        values = {name: value or "" for name, value in dotenv_values(path).items()}
        try:
            url = values.get("PFMOC_URL") or f"http://{values['PFMOC_HOST']}:{values['PORT']}/api/v1/"
            user, password = values["PFCON_USER"], values["PFCON_PASSWORD"]
        except KeyError as error:
            raise ServerError(f"{path} has no {error.args[0]}") from error
        store = {name: value for name, value in values.items() if name.startswith(("OS_", "SWIFT_"))}
        return cls(url, user, password, values.get("PFMOC_AUTHORITIES", ""), store)


@dataclass(frozen=True)
class Stages:
    """Seconds that a job spent in each; None for what the server does not know."""

    waiting: float | None = None
    pull: float | None = None
    plugin: float | None = None
    publish: float | None = None
    node: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Stages:
        """Read the server's answer."""
        return cls(**{name: document.get(name) for name in STAGES}, node=document.get("node") or "")


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    status: str
    logs: str
    message: str = ""
    stages: Stages | None = None

    @property
    def succeeded(self) -> bool:
        """True unless the plugin, or its start, failed."""
        return self.status == "finishedSuccessfully"


class Server:
    """A pfcon server that we are logged in to.

    Each job is deleted in the end, whatever happened: the server keeps neither a container nor a file of ours. In a shared store
    inputs and outputs stay: they are the user's.
    """

    def __init__(self, access: Access, stop: threading.Event) -> None:
        self._stop = stop
        if access.authorities:
            # requests looks there, whoever calls it.
            os.environ["REQUESTS_CA_BUNDLE"] = access.authorities
        know_localhost()
        with _translated("log in"):
            token = Client.get_auth_token(f"{access.url}auth-token/", access.user, access.password)
            self._client = Client(access.url, token)
            self.info: Mapping[str, Any] = self._client.get_server_info()
        self._url = access.url
        self.store: Store | None = None
        if self.info["pfcon_innetwork"]:
            if self.info["storage_env"] != "swift":
                raise NotSharedError(f"{access.url} shares {self.info['storage_env']} with CUBE, and not with us")
            with _translated("use the store"):
                self.store = Store(access.store)
        self._brought: set[str] = set()
        self._bringing = threading.Lock()

    def run(self, jid: str, node: Node, source: Path, destination: Path, phase: Callable[[str], None]) -> Ended:
        """Run a plugin on the files in ``source`` and put its output, also a failed one's, into ``destination``.

        :raises ServerError: a request failed
        :raises StoppedError: the stop event was set; the job has been removed
        """
        try:
            phase("sending")
            self.submit(jid, node, source, destination)
            ended = self._watch(jid, phase)
            if self.store:
                phase("publishing")
                self._carry(JobType.UPLOAD, jid, {"job_output_path": place(destination)})
                ended = replace(ended, stages=self.stages(jid))
            phase("fetching")
            self._fetch(jid, destination)
        finally:
            phase("cleaning")
            self.delete(jid)
        return ended

    def submit(self, jid: str, node: Node, source: Path, destination: Path) -> None:
        """Start a job, and no more.

        :raises ServerError: a request failed
        :raises StoppedError: the stop event was set
        """
        if self.store is None:
            self._submit(jid, node, source)
        else:
            self._submit_shared(self.store, jid, node, source, destination)

    def status(self, jid: str) -> Ended:
        """How a job is, ended or not.

        :raises ServerError: the request failed
        """
        with _translated("ask for the status"):
            compute = self._patiently(lambda: self._client.get_job_status(JobType.PLUGIN, jid, REQUEST_S))["compute"]
        return Ended(compute["status"], compute["logs"], compute["message"])

    def knows(self, jid: str) -> bool:
        """Whether the server has such a job.

        :raises ServerError: the request failed
        """
        with _translated("ask for the job"):
            try:
                self._patiently(lambda: self._client.get_job_status(JobType.PLUGIN, jid, REQUEST_S))
            except PfconRequestException as error:
                if error.code == HTTPStatus.NOT_FOUND:
                    return False
                raise
        return True

    def _submit(self, jid: str, node: Node, source: Path) -> None:
        if self._stop.is_set():
            raise StoppedError
        with _translated(f"submit {node.name}"):
            data = Client.create_zip_file(str(source))
            self._client.submit_job(JobType.PLUGIN, jid, descriptors(node), data, REQUEST_S)

    def _submit_shared(self, store: Store, jid: str, node: Node, source: Path, destination: Path) -> None:
        """Have the server copy the input, and start the job: what the parent wrote lies in the store already."""
        with _translated("bring the input"), self._bringing:
            if place(source) not in self._brought and not store.names(place(source)):
                store.put(source, place(source))
            self._brought |= {place(source), place(destination)}
        if self._stop.is_set():
            raise StoppedError
        ways = {"input_dirs": [place(source)], "output_dir": place(destination)}
        self._carry(JobType.COPY, jid, ways)
        with _translated(f"submit {node.name}"):
            self._patiently(lambda: self._client.submit_job(JobType.PLUGIN, jid, descriptors(node) | ways, timeout=REQUEST_S))

    def _carry(self, kind: JobType, jid: str, fields: Mapping[str, Any]) -> None:
        """Run a job of the server's own, which moves data.

        :raises ServerError: it failed
        """
        with _translated(f"{kind.value} data"):
            compute = self._patiently(lambda: self._client.submit_job(kind, jid, dict(fields), timeout=REQUEST_S))["compute"]
            pause = FIRST_PAUSE_S
            while compute["status"] in ("notStarted", "started"):
                if self._stop.wait(pause):
                    raise StoppedError
                pause = min(pause * 1.5, LONGEST_PAUSE_S)
                compute = self._patiently(lambda: self._client.get_job_status(kind, jid, REQUEST_S))["compute"]
        if compute["status"] != "finishedSuccessfully":
            raise ServerError(
                f"the {kind.value} job ended with {compute['status']}: {compute['message'] or compute['logs'][-500:]}"
            )

    def _patiently(self, ask: Callable[[], dict[str, Any]], *, stoppable: bool = True) -> dict[str, Any]:
        """Ask again while somebody in between says that the server is away: a request that is made twice does what one does."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except PfconRequestException as error:
                if error.code not in PASSING or time.monotonic() > until:
                    raise
            if not stoppable:
                time.sleep(LONGEST_PAUSE_S)
            elif self._stop.wait(LONGEST_PAUSE_S):
                raise StoppedError

    def _watch(self, jid: str, phase: Callable[[str], None]) -> Ended:
        pause = FIRST_PAUSE_S
        while True:
            now = self.status(jid)
            if now.status not in ("notStarted", "started"):
                return now
            phase("running" if now.status == "started" else "queued")
            if self._stop.wait(pause):
                raise StoppedError
            pause = min(pause * 1.5, LONGEST_PAUSE_S)

    def stages(self, jid: str) -> Stages | None:
        """What took the time; None where the server does not say."""
        with contextlib.suppress(PfconRequestException, ValueError):
            answer = self._client.get(f"{self._url}pluginjobs/{jid}/stages/", REQUEST_S)
            if answer.status_code == 200:
                return Stages.of(answer.json())
        return None

    def _fetch(self, jid: str, destination: Path) -> None:
        with _translated("fetch the output"):
            if self.store:
                self.store.get(place(destination), destination)
                return
            # Not get_plugin_job_files: that trusts the names in the archive, and prints.
            data = self._client.get_plugin_job_zip_data(jid, REQUEST_S)
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                archive.extractall(destination)

    def delete(self, jid: str) -> None:
        """Delete as CUBE does: the data by a job of its own, then the records. A failure here spoils no result."""
        with contextlib.suppress(PfconRequestException):
            answer = self._patiently(lambda: self._client.submit_job(JobType.DELETE, jid, {}, timeout=REQUEST_S), stoppable=False)
            status = answer["compute"]["status"]
            deadline = time.monotonic() + CLEAN_UP_S
            while status in ("notStarted", "started") and time.monotonic() < deadline:
                time.sleep(FIRST_PAUSE_S)
                status = self._client.get_job_status(JobType.DELETE, jid, REQUEST_S)["compute"]["status"]
        kinds = [JobType.PLUGIN, JobType.DELETE] if self.store is None else list(JobType)
        for kind in kinds:
            with contextlib.suppress(PfconRequestException):
                self._client.delete_job(kind, jid, REQUEST_S)


def descriptors(node: Node) -> dict[str, Any]:
    """The fields of a node's job."""
    return {
        "auid": "workflow",
        "image": node.image,
        "entrypoint": list(node.entrypoint),
        "args": list(node.args),
        "type": node.type,
        "env": [f"{name}={value}" for name, value in node.env.items()],
        "cpu_limit": node.limits.cpu,
        "memory_limit": node.limits.memory,
        "gpu_limit": node.limits.gpu,
        **({"gpu_product": node.limits.gpu_product} if node.limits.gpu_product else {}),
        "number_of_workers": node.limits.workers,
    }


def place(directory: Path) -> str:
    """Where a directory of the results lies in a shared store."""
    return f"{ROOT}/{directory.parent.name}/{directory.name}"


@contextlib.contextmanager
def _translated(deed: str) -> Iterator[None]:
    try:
        yield
    except (PfconRequestException, StoreError) as error:
        raise ServerError(f"could not {deed}: {error}") from error
    except (ValueError, LookupError, zipfile.BadZipFile) as error:
        raise ServerError(f"could not {deed}: the answer makes no sense: {error!r}") from error
