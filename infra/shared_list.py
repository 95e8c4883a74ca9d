"""Our entries in a list that others write too: the taints of a node, the pull secrets of a service account.

To server-side apply such a list is one value (``listType=atomic``): who applies it takes away what others put there, as the
node controllers their ``node.kubernetes.io`` taints, and OpenShift its service accounts' own pull secrets. So each entry has
a key, ours are put in and taken out by it, and all others stay as they are.

The engine runs the provider in a process of its own, in infra/, where this module has no package before its name: it imports
nothing of the kit.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

TIMEOUT_S = 30
TRIES = 10
"""Others write the same object: a node's status every few seconds."""
PATIENCE_S, PAUSE_S = 60, 0.5
"""For an object that is not there yet: a controller makes the service accounts of a new project."""

Entry = Mapping[str, str]

_LOADING = threading.Lock()
"""The engine asks from many threads. The library names a certificate's file to all of them before it has written it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A list in an object of the cluster.

    :param path: of the object, at the API server
    :param field: keys that lead to the list
    :param key: fields that tell one entry from another
    """

    path: str
    field: tuple[str, ...]
    key: tuple[str, ...]

    @classmethod
    def of(cls, props: Mapping[str, Any]) -> Place:
        """Read it from a resource's properties."""
        return cls(path=props["path"], field=tuple(props["field"].split(".")), key=tuple(props["key"].split(",")))

    @classmethod
    def taints(cls, node: str) -> Place:
        """The taints of a node."""
        return cls(path=f"/api/v1/nodes/{node}", field=("spec", "taints"), key=("key", "effect"))

    @classmethod
    def pull_secrets(cls, namespace: str, account: str = "default") -> Place:
        """The pull secrets of a service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"
        return cls(path=path, field=("imagePullSecrets",), key=("name",))

    def entries(self, document: Mapping[str, Any]) -> list[Entry]:
        """The list in an object; empty where there is none."""
        value: Any = document
        for step in self.field:
            value = (value or {}).get(step)
        return list(value or ())

    def id(self, entry: Entry) -> tuple[str, ...]:
        """What tells an entry from others."""
        return tuple(str(entry.get(field, "")) for field in self.key)

    def ours(self, entries: Iterable[Entry], like: Iterable[Entry]) -> list[Entry]:
        """Those of the entries that have the keys of others, in the order of those."""
        found = {self.id(entry): entry for entry in entries}
        return [found[self.id(each)] for each in like if self.id(each) in found]

    def merged(self, entries: Iterable[Entry], before: Iterable[Entry], after: Sequence[Entry]) -> list[Entry]:
        """The list with our entries exchanged; what else is in it keeps its place."""
        out = {self.id(entry) for entry in (*before, *after)}
        return [*(entry for entry in entries if self.id(entry) not in out), *after]

    def change(self, document: Mapping[str, Any], wanted: Sequence[Entry]) -> list[dict[str, Any]]:
        """The JSON patch that writes the list, if nobody has written the object since."""
        version = {"op": "test", "path": "/metadata/resourceVersion", "value": document["metadata"]["resourceVersion"]}
        return [version, {"op": "add", "path": "/" + "/".join(self.field), "value": list(wanted)}]


def plain(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """Entries to be compared: an empty value and none are the same to Kubernetes."""
    return [{key: str(value) for key, value in sorted(entry.items()) if value not in ("", None)} for entry in entries]


class Cluster:
    """The API server that a kubeconfig's context names."""

    def __init__(self, props: Mapping[str, Any]) -> None:
        # The program, which only says what is wanted, need not wait for the client.
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415
        from kubernetes.config import new_client_from_config  # noqa: PLC0415

        self._error = ApiException
        file = str(Path(props["kubeconfig"]).expanduser()) if props.get("kubeconfig") else None
        with _LOADING:
            self._client: Any = new_client_from_config(config_file=file, context=props["context"])  # type: ignore[no-untyped-call]

    def get(self, path: str) -> dict[str, Any] | None:
        """An object; None when it is not there."""
        try:
            return self._call("GET", path)
        except self._error as error:
            if error.status == 404:
                return None
            raise

    def exchange(self, place: Place, before: Sequence[Entry], after: Sequence[Entry]) -> bool:
        """Exchange our entries. False when the object is not there."""
        for left in reversed(range(TRIES)):
            document = self.get(place.path)
            if document is None:
                return False
            wanted = place.merged(place.entries(document), before, after)
            if wanted == place.entries(document):
                return True
            try:
                self._call("PATCH", place.path, place.change(document, wanted))
            except self._error as error:
                # The server answers 422 to a test that fails, and 409 when somebody was faster.
                if error.status not in (409, 422) or not left:
                    raise
            else:
                return True
        return False

    def _call(self, verb: str, path: str, patch: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        request = self._client.param_serialize(
            verb,
            path,
            header_params={"Accept": "application/json", "Content-Type": "application/json-patch+json"},
            body=patch,
            auth_settings=["BearerToken"],
        )
        answer = self._client.call_api(*request, _request_timeout=TIMEOUT_S)
        answer.read()
        return dict(self._client.response_deserialize(answer, {"200": "object"}).data)


class SharedListProvider(ResourceProvider):
    """What the engine asks of the cluster for such entries."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Put our entries in.

        :raises RuntimeError: when the object is not there
        """
        self._exchange(props, before=[], after=props["entries"])
        return CreateResult(f"{props['path']}#{props['field']}", dict(props))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Look which of our entries are there, and how."""
        place = Place.of(props)
        document = Cluster(props).get(place.path)
        if document is None:
            return ReadResult("", {})
        return ReadResult(id_, {**props, "entries": plain(place.ours(place.entries(document), props["entries"]))})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Say whether our entries are others, or elsewhere.

        Another context is a change too, though the cluster may be the same: a refresh and a deletion follow the state's.
        """
        elsewhere = [key for key in ("path", "field") if _olds.get(key) != _news.get(key)]
        changed = plain(_olds.get("entries") or ()) != plain(_news["entries"])
        renamed = any((_olds.get(key) or "") != (_news.get(key) or "") for key in ("context", "kubeconfig"))
        return DiffResult(
            changes=bool(elsewhere) or changed or renamed, replaces=elsewhere, delete_before_replace=bool(elsewhere)
        )

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Exchange our entries.

        :raises RuntimeError: when the object is not there
        """
        self._exchange(_news, before=_olds.get("entries") or [], after=_news["entries"])
        return UpdateResult(outs=dict(_news))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Take our entries out; an object that is gone has none."""
        Cluster(_props).exchange(Place.of(_props), _props["entries"], [])

    def _exchange(self, props: Mapping[str, Any], *, before: Sequence[Entry], after: Sequence[Entry]) -> None:
        cluster, deadline = Cluster(props), time.monotonic() + PATIENCE_S
        while not cluster.exchange(Place.of(props), before, plain(after)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster has no {props['path']}")
            time.sleep(PAUSE_S)


# As the provider's own process finds it.
SharedListProvider.__module__ = Path(__file__).stem
sys.modules.setdefault(Path(__file__).stem, sys.modules[__name__])


class SharedList(Resource, module="kubernetes", name="SharedList"):
    """Entries of ours in a list of the cluster.

    :param context: of the kubeconfig
    :param kubeconfig: the file; None: ``$KUBECONFIG``, else the usual one
    """

    def __init__(
        self,
        name: str,
        place: Place,
        entries: Sequence[Entry],
        *,
        context: str,
        kubeconfig: str | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        where = {"path": place.path, "field": ".".join(place.field), "key": ",".join(place.key)}
        props = {**where, "entries": plain(entries), "context": context, "kubeconfig": kubeconfig or ""}
        super().__init__(SharedListProvider(), name, props, opts)
