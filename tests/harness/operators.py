"""An operator at work: the commands on a site of the test's own, with a state of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import swiftclient
import yaml
from openstack.config import OpenStackConfig
from openstack.connection import Connection

from harness.box import ROOT, Box
from harness.openshift import User

COMMAND_S = 1800
"""For one command, on a machine that has other work too."""

OPENSTACK: Mapping[str, Any] = {
    "cloud": "box",
    "services": ["block-storage", "compute", "network", "object-store"],
    "external_network": "external",
    "storage_policies": ["standard", "archive"],
}
OPENSHIFT: Mapping[str, Any] = {"context": "box", "dns_namespace": "kube-system"}

Answer = tuple[int, str, str]
"""Exit status, stdout, stderr."""


class Operator:
    """Runs the commands on a site.

    :param directory: for the site file and the state
    :param site: the site file
    """

    def __init__(self, box: Box, directory: Path, site: Mapping[str, Any]) -> None:
        self.box, self.directory, self.name = box, directory, str(site["name"])
        self.file, self.settings = directory / f"{self.name}.yml", ROOT / "infra" / f"Pulumi.{self.name}.yaml"
        self.settings.unlink(missing_ok=True)
        outer = ("MAKE", "MFLAGS", "OS_", "PULUMI_", "SITE")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
        self.environ = environ | {
            "PFMOC_CACHE": str(box.cache),
            "OS_CLIENT_CONFIG_FILE": str(box.clouds_yaml),
            "KUBECONFIG": str(box.directory / "kubeconfig"),
            "PULUMI_BACKEND_URL": f"file://{directory}/state",
            "PULUMI_CONFIG_PASSPHRASE": "for tests",
        }
        self.write(site)

    def write(self, site: Mapping[str, Any]) -> None:
        """Change the site file."""
        self.file.write_text(yaml.safe_dump(site, sort_keys=False))

    def start(self, *words: str, **environ: str) -> subprocess.Popen[str]:
        """Start a command.

        :param environ: variables of its environment beside the usual ones
        """
        return self._popen([sys.executable, "-m", "infra", words[0], str(self.file), *words[1:]], ROOT, self.environ | environ)

    def run(self, *words: str, **environ: str) -> Answer:
        """Run a command to its end. Whatever happens, nobody gets to see a stack trace."""
        with self.start(*words, **environ) as process:
            return _ended(process)

    def up(self, *words: str) -> str:
        """Run `up`, which must succeed; what it printed on stdout."""
        code, out, err = self.run("up", "--yes", *words)
        assert code == 0, out + err
        return out

    def drift(self) -> dict[str, Any]:
        """Run `drift`; its document."""
        code, out, err = self.run("drift", "--json")
        assert out, err
        document: dict[str, Any] = json.loads(out)
        assert {"in step": 0, "drifted": 2, "unknown": 3}[document["verdict"]] == code, out + err
        return document

    def require_in_step(self) -> None:
        """Run `drift`, which must find nothing."""
        document = self.drift()
        assert document["verdict"] == "in step", document["findings"]

    def make(self, target: str, **variables: str) -> Answer:
        """Run `make TARGET SITE=...`."""
        words = ["make", "-s", target, f"SITE={self.file}", *(f"{name}={value}" for name, value in variables.items())]
        with self._popen(words, ROOT, self.environ) as process:
            return _ended(process)

    @cached_property
    def for_pulumi(self) -> dict[str, str]:
        """The environment that `env` prints, as a shell takes it."""
        words = ["bash", "-c", f'eval "$({sys.executable} -m infra env {self.file})" && env -0']
        done = subprocess.run(words, cwd=ROOT, env=self.environ, capture_output=True, text=True, check=True)
        return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)

    def start_pulumi(self, *words: str, **environ: str) -> subprocess.Popen[str]:
        """Start plain `pulumi` in infra/, as a person would."""
        return self._popen(["pulumi", "--non-interactive", *words], ROOT / "infra", self.for_pulumi | environ)

    def pulumi(self, *words: str, **environ: str) -> Answer:
        """Run plain `pulumi` to its end."""
        with self.start_pulumi(*words, **environ) as process:
            return _ended(process)

    def _popen(self, words: list[str], place: Path, environ: Mapping[str, str]) -> subprocess.Popen[str]:
        # A group of its own, as a terminal gives to each command: so signals can be sent as Ctrl-C sends them.
        return subprocess.Popen(
            words,
            cwd=place,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @cached_property
    def cloud(self) -> Any:
        """The box's OpenStack, as its administrator."""
        loader = OpenStackConfig(config_files=[str(self.box.clouds_yaml)], vendor_files=[], load_envvars=False)
        return Connection(config=loader.get_one(cloud="box"))

    @cached_property
    def cluster(self) -> User:
        """The box's cluster, as its administrator."""
        return User(self.box.directory / "kubeconfig")

    def project(self, name: str) -> str:
        """The id of a Keystone project."""
        return str(self.cloud.identity.find_project(name, ignore_missing=False).id)

    def swift(self, name: str) -> Any:
        """The Swift account of a project, as the administrator."""
        base = self.cloud.object_store.get_endpoint().rpartition("/")[0]
        return swiftclient.Connection(preauthurl=f"{base}/AUTH_{self.project(name)}", preauthtoken=self.cloud.session.get_token())

    @property
    def state(self) -> Path:
        """The file with the state."""
        return self.directory / "state" / ".pulumi" / "stacks" / "pfmoc" / f"{self.name}.json"

    @property
    def locks(self) -> list[Path]:
        """Locks of the state."""
        return list((self.directory / "state" / ".pulumi" / "locks").rglob("*.json"))

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets plain."""
        code, out, err = self.pulumi("stack", "output", "--json", "--show-secrets")
        assert code == 0, err
        return dict(json.loads(out))

    @contextmanager
    def forged(self, forge: Callable[[list[dict[str, Any]]], None]) -> Iterator[None]:
        """A state that somebody has changed, as that of another cloud would be; afterwards it is as it was.

        :param forge: changes the state's resources
        """
        code, out, err = self.pulumi("stack", "export")
        assert code == 0, err
        document = json.loads(out)
        forge(document["deployment"]["resources"])
        forged, kept = self.directory / "forged.json", self.directory / "kept.json"
        forged.write_text(json.dumps(document))
        kept.write_text(out)
        assert self.pulumi("stack", "import", "--file", str(forged))[0] == 0
        try:
            yield
        finally:
            assert self.pulumi("stack", "import", "--file", str(kept))[0] == 0

    def close(self) -> None:
        """Close the connections, and remove what the stack has in the working tree."""
        self.settings.unlink(missing_ok=True)
        for name in ("cloud", "cluster"):
            if name in self.__dict__:
                self.__dict__[name].close()


def _ended(process: subprocess.Popen[str]) -> Answer:
    out, err = process.communicate(timeout=COMMAND_S)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out, err


@contextmanager
def operating(box: Box, directory: Path, site: Mapping[str, Any], *, up: bool = True) -> Iterator[Operator]:
    """An operator of a site, of which nothing is left afterwards.

    :param up: make the site first
    """
    operator = Operator(box, directory, site)
    try:
        if up:
            operator.up()
        yield operator
    finally:
        if operator.state.exists():
            operator.write(site)
            # Nobody interrupts it, so the state need not be written, whole, at each step.
            code, out, err = operator.run("destroy", "--yes", "--allow", "*", PULUMI_SKIP_CHECKPOINTS="true")
            assert code == 0, out + err
        operator.close()


def engines_below(parent: int) -> list[int]:
    """Engines that a command runs, or the command itself where it is one."""
    running = psutil.process_iter(["name", "ppid"])
    return [each.pid for each in running if each.info["name"] == "pulumi" and parent in (each.pid, each.info["ppid"])]
