"""What the site file says of jobs comes to the daemon's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
HOSTS = {
    "all": {"hosts": {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}},
    "pfmoc": {"hosts": {"localhost": None}},
}
GPU_POOL = {"name": "gpu", "gpu": {"product": "NVIDIA-A100-SXM4-40GB"}}


def settings_of(directory: Path, **site) -> dict[str, str]:
    """The daemon's settings on a site, as its role is given them."""
    inventory = directory / "inventory"
    inventory.mkdir()
    (inventory / "hosts.yml").write_text(yaml.safe_dump(HOSTS))
    (inventory / "site.yml").write_text(yaml.safe_dump({"name": "lab", **site}))
    told = subprocess.run(
        [
            Path(sys.executable).with_name("ansible"),
            *("pfmoc", "-m", "ansible.builtin.debug", "-a", "var=pfmoc_settings"),
            *("--inventory", ROOT / "inventories" / "common", "--inventory", inventory),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(directory / "ansible")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(told.stdout.partition("=> ")[2])["pfmoc_settings"]
    return found


@pytest.mark.parametrize(
    ("limits", "pools", "told"),
    [
        ({"cpu_m": 4000, "memory_mib": 8192, "gpus": 2, "seconds": 60}, [GPU_POOL], ("4000", "8192", "2", "60")),
        ({"gpus": 2}, [], ("8000", "32768", "2", "86400")),
        # What the site file's reference says of a site that says nothing; no GPU where there is none.
        (None, [GPU_POOL], ("8000", "32768", "1", "86400")),
        (None, [], ("8000", "32768", "0", "86400")),
    ],
)
def test_what_one_job_may_ask_for(tmp_path, limits, pools, told):
    daemon = {"compute": "kubernetes"} | ({"job_limits": limits} if limits else {})
    settings = settings_of(tmp_path, daemon=daemon, node_pools=pools)
    assert tuple(settings[f"PFMOC_{name}"] for name in ("MAX_CPU_M", "MAX_MEMORY_MIB", "GPUS", "JOB_DEADLINE_S")) == told


def test_a_host_is_not_told(tmp_path):
    assert settings_of(tmp_path, daemon={"job_limits": {"cpu_m": 1}}).keys() == {"PFMOC_DIALECTS"}
