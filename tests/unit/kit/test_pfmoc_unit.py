"""The daemon as a unit of systemd: a valid one, and a hardened one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest

TEMPLATE = Path(__file__).resolve().parents[3] / "roles" / "pfmoc" / "templates" / "pfmoc.service.j2"


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


@pytest.fixture(params=["podman", "process"])
def unit(request, tmp_path) -> Path:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here")
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 - no HTML
    environment.filters["comment"] = "# {}".format
    values = {
        "ansible_managed": "managed",
        "pfmoc_python": "/usr/bin/python3",
        "pfmoc_dir": "/var/lib/pfmoc",
        "pfmoc_compute": request.param,
        "_pfmoc_env_file": "/var/lib/pfmoc/pfmoc.env",
        "_pfmoc_fingerprint": "f",
    }
    path = tmp_path / "pfmoc.service"
    path.write_text(environment.from_string(TEMPLATE.read_text()).render(values))
    return path


def test_systemd_takes_it(unit):
    done = analyze("verify", "--man=no", str(unit))
    assert not [line for line in done.stderr.splitlines() if "pfmoc.service" in line], done.stderr


def test_it_is_hardened(unit):
    # Of 100; a unit that says nothing has 96.
    done = analyze("security", "--offline=true", "--no-pager", "--threshold=45", str(unit))
    assert done.returncode == 0, done.stdout


def test_plugins_outlive_it(unit):
    assert "KillMode=process\n" in unit.read_text()
