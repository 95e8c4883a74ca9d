"""A Podman service of our own: private storage, private socket, and a small image made of this machine's programs.

Nothing of the user's containers is seen or touched. Offline: the image is the host's shell and a few tools, with the libraries
that they need.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path

from harness.waiting import until

IMAGE = "localhost/test/tools:1"
TOOLS = ("sh", "sleep", "cat", "head", "tr", "env", "id", "touch", "true")

# Debian 12 as root on hybrid cgroups: crun and raised limits are refused there, journald may be missing everywhere.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
{runtime}
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class PodmanDoesNotWork(Exception):
    """Podman is missing, or cannot run a container on this machine. The text is the reason to skip."""


class PodmanService:
    """``podman system service`` that a test can stop and start again."""

    def __init__(self) -> None:
        if shutil.which("podman") is None:
            raise PodmanDoesNotWork("podman is not installed")
        # A socket's path has at most 107 bytes, which pytest's own directories exceed.
        self.home = Path(tempfile.mkdtemp(prefix="pfmoc-podman-"))
        self.socket = self.home / "sock"
        self._process: subprocess.Popen[bytes] | None = None
        (self.home / "containers.conf").write_text(
            CONTAINERS_CONF.format(runtime='runtime = "runc"' if shutil.which("runc") else "")
        )
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "CONTAINERS_CONF": str(self.home / "containers.conf"),
        }
        try:
            root = self.home / "root.tar"
            pack_tools(root)
            self.podman("import", "--change", "ENV PATH=/bin", str(root), IMAGE)
            self.podman("run", "--name=try", "--network=none", "--memory=64m", IMAGE, "true")
            limit = self.podman("container", "inspect", "--format={{.HostConfig.Memory}}", "try").strip()
            self.podman("rm", "try")
        except subprocess.CalledProcessError as failed:
            self.close()
            raise PodmanDoesNotWork(f"podman cannot run a container here: {failed.stderr.strip()[-300:]}") from None
        if limit == "0":
            self.close()
            raise PodmanDoesNotWork("podman enforces no limits here: it runs without root, and no cgroup is delegated to it")

    @property
    def url(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self.socket}"

    def podman(self, *arguments: str, check: bool = True) -> str:
        """Run the command line on our storage, behind the service's back."""
        done = subprocess.run(self._command(*arguments), env=self._env, capture_output=True, text=True, check=check, timeout=60)
        return done.stdout

    def start(self) -> None:
        """Start the service and wait until it listens."""
        self._process = subprocess.Popen(
            self._command("system", "service", "--time=0", self.url),
            env=self._env,
            cwd=self.socket.parent,  # conmon leaves a file named oom where it stands
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # without root it is two processes
        )
        until(self._listens)

    def stop(self) -> None:
        """Kill the service; containers go on."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let the service accept connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End everything and remove the storage."""
        self.stop()
        self.podman("rm", "--all", "--force", "--time=0", check=False)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.home}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        if os.geteuid() != 0:  # its files belong to users of a namespace
            self.podman("unshare", "rm", "-rf", f"{self.home}/r", check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _command(self, *arguments: str) -> list[str]:
        home = self.home
        return ["podman", f"--root={home}/r", f"--runroot={home}/rr", f"--tmpdir={home}/t", *arguments]

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0


def pack_tools(tar: Path) -> None:
    """Write a root file system with ``TOOLS`` below /bin."""
    with tarfile.open(tar, "w") as archive:
        for directory in ("tmp", "share"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(entry)
        libraries: set[str] = set()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None, f"{tool} is not on PATH"
            archive.add(Path(found).resolve(), f"bin/{tool}")
            listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
            libraries.update(re.findall(r"(/\S+) \(0x", listed))
        for library in sorted(libraries):
            archive.add(Path(library).resolve(), library.lstrip("/"))
