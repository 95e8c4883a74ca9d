"""The Deployment's revisions: which are there, whether the newest has come up, and if not why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from .api import Api, Object
from .manifests import SELECTOR
from .specification import NAME

REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"
PAUSE_S = 0.5
LOG_LINES = 5


class RolloutError(Exception):
    """The pods did not come up, or there is nothing to go back to; the text is for people."""


@dataclass(frozen=True)
class Revision:
    """A state of the Deployment that the cluster remembers.

    :param number: counts up; going back to one makes it the newest
    :param template: what its pods are made from
    """

    number: int
    template: Object

    @property
    def image(self) -> str:
        """The daemon's image."""
        return str(self.template["spec"]["containers"][0]["image"])


def revisions(api: Api) -> list[Revision]:
    """All revisions, the newest first."""
    deployment = api.get("apps/v1", "Deployment", NAME)
    if deployment is None:
        raise RolloutError(f"there is no daemon in {api.namespace}")
    uid = deployment["metadata"]["uid"]
    found = []
    for each in api.find("apps/v1", "ReplicaSet", labels=SELECTOR):
        if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences", [])):
            number = int(each["metadata"].get("annotations", {}).get(REVISION, 0))
            found.append(Revision(number, _without_hash(each["spec"]["template"])))
    return sorted(found, key=lambda revision: revision.number, reverse=True)


def newest(api: Api, *, timeout_s: float) -> int:
    """Number of the newest revision; 0 if there is no daemon.

    :raises RolloutError: the cluster has not numbered the Deployment's latest state within ``timeout_s``
    """
    until = time.monotonic() + timeout_s
    while (deployment := api.get("apps/v1", "Deployment", NAME)) is not None and not _observed(deployment):
        if time.monotonic() > until:
            raise RolloutError(f"the cluster has not looked at the daemon's Deployment for {timeout_s:.0f} s")
        time.sleep(PAUSE_S)
    return int(deployment["metadata"].get("annotations", {}).get(REVISION, 0)) if deployment else 0


def back(api: Api, *, to: str = "") -> Revision:
    """Give the pods their template of an earlier revision.

    :param to: a revision's number, or a part of its image's name such as the digest; the one before the newest by default
    :raises RolloutError: there is none
    """
    earlier = revisions(api)[1:]
    fitting = [each for each in earlier if not to or to == str(each.number) or (not to.isdigit() and to in each.image)]
    if not fitting:
        known = ", ".join(f"{each.number} ({each.image})" for each in earlier) or "none"
        which = f"no revision {to}" if to else "no earlier revision"
        raise RolloutError(f"there is {which} of the daemon to go back to; there are: {known}")
    api.replace_template(NAME, fitting[0].template)
    return fitting[0]


def wait(api: Api, *, timeout_s: float) -> None:
    """Wait until all pods are of the newest revision and ready, and no others are left.

    :raises RolloutError: with what the pods say, if they are not within ``timeout_s``
    """
    until = time.monotonic() + timeout_s
    while not _complete(api.get("apps/v1", "Deployment", NAME)):
        if time.monotonic() > until:
            reasons = "\n".join(f"  {line}" for line in dict.fromkeys(trouble(api)))
            raise RolloutError(f"the daemon did not come up within {timeout_s:.0f} s\n{reasons}")
        time.sleep(PAUSE_S)


def trouble(api: Api) -> Iterator[str]:
    """What keeps pods from coming up, a line each."""
    for each in api.find("v1", "Event", fields="type=Warning"):
        if str(each["involvedObject"].get("name", "")).startswith(NAME):
            yield f"{each['involvedObject']['kind']}: {each.get('reason')}: {each.get('message')}"
    for pod in api.find("v1", "Pod", labels=SELECTOR):
        name = pod["metadata"]["name"]
        for status in pod.get("status", {}).get("containerStatuses", []):
            waiting = status.get("state", {}).get("waiting", {})
            ended = status.get("lastState", {}).get("terminated") or status.get("state", {}).get("terminated")
            if waiting:
                yield f"{name}: {waiting.get('reason')}: {waiting.get('message', '')}"
            if ended:
                yield f"{name}: ended with status {ended.get('exitCode')} ({ended.get('reason')})"
            if not status.get("ready"):
                log = api.log(name, lines=LOG_LINES) or api.log(name, lines=LOG_LINES, previous=True)
                yield from (f"{name} | {line}" for line in log.splitlines())


def _complete(deployment: Object | None) -> bool:
    if deployment is None:
        return False
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    return bool(
        _observed(deployment)
        and status.get("updatedReplicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
    )


def _observed(deployment: Object) -> bool:
    """True once the cluster has acted on the latest state, and has given it its number."""
    return bool(deployment.get("status", {}).get("observedGeneration", 0) >= deployment["metadata"]["generation"])


def _without_hash(template: Object) -> Object:
    labels = {name: value for name, value in template["metadata"].get("labels", {}).items() if name != HASH}
    return template | {"metadata": template["metadata"] | {"labels": labels}}
