"""User ids and SELinux categories for each namespace, as OpenShift's cluster-policy-controller gives them out."""

from __future__ import annotations

import math
import re

from .cluster import Cluster, NotFoundError, Object
from .controller import Controller
from .informer import Informer
from .resources import NAMESPACES

UID_RANGE = "openshift.io/sa.scc.uid-range"
GROUPS = "openshift.io/sa.scc.supplemental-groups"
CATEGORIES = "openshift.io/sa.scc.mcs"

FIRST_UID = 1_000_000_000
BLOCK = 10_000  # user ids in each namespace
BLOCKS = 100_000
# Neighbouring namespaces' labels lie this far apart, so that there is room for labels between them.
CATEGORIES_STEP = 5


def block_of(namespace: Object) -> int | None:
    """Which block of user ids a namespace has, if it has one of this range."""
    text = (namespace["metadata"].get("annotations") or {}).get(UID_RANGE, "")
    match = re.fullmatch(rf"(\d+)/{BLOCK}", text)
    block, rest = divmod(int(match[1]) - FIRST_UID, BLOCK) if match else (-1, 0)
    return block if not rest and 0 <= block < BLOCKS else None


def marks(block: int) -> dict[str, str]:
    """What a namespace with this block is annotated with."""
    uids = f"{FIRST_UID + block * BLOCK}/{BLOCK}"
    return {UID_RANGE: uids, GROUPS: uids, CATEGORIES: categories(block * CATEGORIES_STEP)}


def categories(number: int) -> str:
    """The n-th SELinux label of two different categories, in the order (1,0) (2,0) (2,1) (3,0)."""
    high = (1 + math.isqrt(1 + 8 * number)) // 2
    return f"s0:c{high},c{number - high * (high - 1) // 2}"


class UidRanges(Controller):
    """Annotates each namespace with the first block that no other has."""

    def __init__(self, cluster: Cluster, namespaces: Informer) -> None:
        super().__init__()
        self._cluster = cluster
        self._namespaces = namespaces
        # Given out by us: the copy in memory may not show it yet.
        self._given: dict[str, int] = {}
        namespaces.listeners.append(lambda namespace: self.enqueue(namespace["metadata"]["name"]))

    def reconcile(self, key: str) -> None:
        """Annotate one namespace."""
        namespace = self._namespaces.get(key)
        if namespace is None:
            self._given.pop(key, None)
            return
        if UID_RANGE in (namespace["metadata"].get("annotations") or {}):
            return
        taken = {block_of(other) for other in self._namespaces.all()} | {*self._given.values()}
        block = self._given.setdefault(key, next(block for block in range(BLOCKS) if block not in taken))
        try:
            self._cluster.patch(NAMESPACES, key, {"metadata": {"annotations": marks(block)}})
        except NotFoundError:
            self._given.pop(key)
