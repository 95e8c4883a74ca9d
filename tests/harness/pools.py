"""Simulated nodes on demand, as `make box-nodes` makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.box import Box

PROGRAM = Path(__file__).parents[2] / "roles/box_kubernetes/files/simulated_nodes.py"
# A set of one's own: neither the site's pools nor a person's are touched.
SET = "tests"


def apply(box: Box, pools: Sequence[Mapping[str, Any]], *, owner: str = SET) -> str:
    """Make a set be these pools; return what the program says."""
    done = subprocess.run(
        [sys.executable, PROGRAM, "--kubectl", box.toolchain / "bin/kubectl", "--set", owner],
        input=json.dumps(pools),
        env=os.environ | {"KUBECONFIG": str(box.kubeconfig), "KUBECACHEDIR": str(box.directory / "kubernetes/kubectl-cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def simulated(box: Box, pools: Sequence[Mapping[str, Any]], *, owner: str = SET) -> Iterator[None]:
    """Have these pools, and only as long as the context lasts."""
    apply(box, pools, owner=owner)
    try:
        yield
    finally:
        apply(box, [], owner=owner)
