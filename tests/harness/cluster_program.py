"""The program with which the role `pfmoc` works on a cluster, called as its tasks call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from harness.box import ROOT, Box


def cluster_program(box: Box, namespace: str, command: str, **more: Any) -> dict[str, Any]:
    """Run it on the box's cluster; return what it says.

    :param more: further entries of its document
    """
    done = subprocess.run(
        [sys.executable, "-m", "pfmoc_cluster", command],
        input=json.dumps({"kubeconfig": str(box.kubeconfig), "namespace": namespace, **more}),
        env={**os.environ, "PYTHONPATH": str(ROOT / "roles/pfmoc/files")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
