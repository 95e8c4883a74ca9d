"""Which class speaks which dialect, and which one speaks two that share their URLs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pfmoc.dialects.base import Common, Dialect, Services
from pfmoc.dialects.cmd import CmdPfcon, CmdPfioh, CmdPman
from pfmoc.dialects.pfcon3 import Pfcon3
from pfmoc.dialects.pfcon4 import Pfcon4, Pfcon5And4
from pfmoc.dialects.pfcon5 import Pfcon5
from pfmoc.dialects.pfcon6 import Pfcon6
from pfmoc.dialects.pman import Pman
from pfmoc.dialects.shared_root import Pfcon3AndPman
from pfmoc.listeners import DialectName, Endpoint

DIALECTS: Mapping[DialectName, type[Dialect]] = {
    "pfcon6": Pfcon6,
    "pfcon5": Pfcon5,
    "pfcon4": Pfcon4,
    "pfcon3": Pfcon3,
    "pman": Pman,
    "cmd-pfcon": CmdPfcon,
    "cmd-pman": CmdPman,
    "cmd-pfioh": CmdPfioh,
}

TOGETHER: Mapping[frozenset[DialectName], type[Dialect]] = {
    frozenset({"pfcon5", "pfcon4"}): Pfcon5And4,
    frozenset({"pfcon3", "pman"}): Pfcon3AndPman,
}
"""Instead of two dialects with the same URLs on one listener, the one that tells them apart."""


def speakers(endpoint: Endpoint, services: Services) -> Sequence[Dialect]:
    """The dialects of one listener; with the routes for logging in where one of them asks for a token."""
    names = set(endpoint.dialects)
    kinds: list[type[Dialect]] = [Common] if endpoint.with_login else []
    for pair, kind in TOGETHER.items():
        if pair <= names:
            kinds.append(kind)
            names -= pair
    kinds += [DIALECTS[name] for name in endpoint.dialects if name in names]
    return [kind(services) for kind in kinds]
