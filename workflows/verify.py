"""A user's journey through a daemon: ``python -m workflows.verify --env-file FILE < PLAN``.

A token and the server's information; a job on each architecture and on each GPU product that there are nodes for, its output
read back, from Swift where the daemon keeps it there, and compared; everything deleted, and nothing left. A line for each
finding, and one for the site's products that no node has.

Where data are on a volume that the daemon shares with CUBE and not with this machine, no job can be given an input from here:
token and information are all that is tried then, and a line says so.

The plan is JSON: ``images`` names an image with a shell for each architecture; ``products`` the GPUs of the site; ``nodes`` lists
the cluster's with ``name``, ``arch``, ``emulates``, ``product`` and ``simulated``. On a simulated node nothing runs: there it is
looked only whether the job comes to the right one. Exit status: 0 all is well, 1 something is not, 2 there is no way in.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from workflows.runner.documents import Node
from workflows.runner.server import Access, NotSharedError, Server, ServerError, place

WORDS = "It was a dark and stormy night.\n"
# $0 and $1 are the directories of input and output, which ChRIS puts behind a plugin's arguments.
SCRIPT = 'cat "$0/words" > "$1/words" && uname -m > "$1/machine"'
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
PLACED_S = 120.0
PAUSE_S = 0.5


class ClusterNode(BaseModel):
    """A node of the cluster."""

    name: str
    arch: str
    emulates: tuple[str, ...] = ()
    product: str = ""
    simulated: bool = False


class Plan(BaseModel):
    """What to try."""

    images: dict[str, str] = Field(default_factory=dict)
    products: tuple[str, ...] = ()
    nodes: tuple[ClusterNode, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One job.

    :param what: what it shows
    :param nodes: where it may come to be; none where that is not known
    :param product: the GPU that it wants, if it wants one
    :param runs: False where all these are simulated
    """

    what: str
    arch: str
    image: str
    nodes: Sequence[str] = ()
    product: str | None = None
    runs: bool = True


class Failed(Exception):
    """It is not as it should be; the text says what."""


def trials(plan: Plan) -> Iterator[Trial]:
    """A job for each architecture that there are nodes for, and for each of the plan's GPUs on each that has them."""
    for arch, image in sorted(plan.images.items()):
        fitting = [node for node in plan.nodes if arch == node.arch or arch in node.emulates]
        if fitting or not plan.nodes:
            real = [node for node in fitting if not node.simulated]
            names = [node.name for node in real or fitting]
            yield Trial(f"a job on {arch}", arch, image, nodes=names, runs=bool(real) or not plan.nodes)
    # A cluster may have others' too.
    for arch, product in sorted({(node.arch, node.product) for node in plan.nodes if node.product in plan.products}):
        if arch in plan.images:
            fitting = [node for node in plan.nodes if (node.arch, node.product) == (arch, product)]
            runs = not any(node.simulated for node in fitting)
            names = [node.name for node in fitting]
            yield Trial(f"a job on {arch} with {product}", arch, plan.images[arch], nodes=names, product=product, runs=runs)


def journey(server: Server, plan: Plan) -> Iterator[str]:
    """Make it; a line for each finding.

    :raises Failed: something is not as it should be
    :raises ServerError: the server did not do what it should
    """
    info = server.info
    yield f"token and server info: pfcon {info['server_version']}, storage {info['storage_env']}, compute {info['container_env']}"
    run = f"verify-{secrets.token_hex(4)}"
    missed = set(plan.products)
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch, run)
        (results / "input").mkdir(parents=True)
        (results / "input" / "words").write_text(WORDS)
        try:
            for number, trial in enumerate(trials(plan)):
                began = time.monotonic()
                how = attempt(server, trial, results, f"job-{number}")
                missed.discard(trial.product or "")
                yield f"{trial.what}: {how}, in {time.monotonic() - began:.1f} s"
        finally:
            left = clean(server, run, results)
    if missed:
        yield f"not tried, for there is no node with it, or no image for its processor: {', '.join(sorted(missed))}"
    if left:
        raise Failed(f"after everything was deleted there are still {', '.join(left)}")
    yield "everything deleted, nothing left"


def attempt(server: Server, trial: Trial, results: Path, name: str) -> str:
    """Run one job and look at what it did; how it went, in words."""
    node = Node.model_validate(
        {
            "name": name,
            "image": trial.image,
            "entrypoint": ["sh", "-c", SCRIPT],
            "limits": {"cpu": 200, "memory": 200, "gpu": 1 if trial.product else 0, "gpu_product": trial.product},
        }
    )
    jid, output = f"{results.name}-{name}", results / name
    output.mkdir()
    if not trial.runs:
        placed = where(server, jid, node, results, output)
        if placed not in trial.nodes:
            raise Failed(f"{trial.what}: it came to {placed}, and should be on one of {', '.join(trial.nodes)}")
        return f"placed on {placed}, which is simulated"
    ended = server.run(jid, node, results / "input", output, lambda _phase: None)
    if not ended.succeeded:
        raise Failed(f"{trial.what}: {ended.status}: {ended.message} {ended.logs[-500:]}".strip())
    if (output / "words").read_text() != WORDS:
        raise Failed(f"{trial.what}: the output is not what the plugin wrote")
    machine = (output / "machine").read_text().strip()
    if machine != MACHINES.get(trial.arch, trial.arch):
        raise Failed(f"{trial.what}: it ran on {machine}")
    if server.knows(jid):
        raise Failed(f"{trial.what}: the job is deleted, and the server still knows it")
    ran = ended.stages.node if ended.stages else ""
    if trial.product and ran and ran not in trial.nodes:
        raise Failed(f"{trial.what}: it ran on {ran}, and should have on one of {', '.join(trial.nodes)}")
    return f"ran on {ran}, output read back" if ran else "ran, output read back"


def where(server: Server, jid: str, node: Node, results: Path, output: Path) -> str:
    """The node that a job comes to; it is ended there."""
    try:
        server.submit(jid, node, results / "input", output)
        until = time.monotonic() + PLACED_S
        while time.monotonic() < until:
            stages = server.stages(jid)
            if stages and stages.node:
                return stages.node
            time.sleep(PAUSE_S)
        ended = server.status(jid)
    finally:
        server.delete(jid)
    raise Failed(f"{node.name}: it came to no node within {PLACED_S:.0f} s: {ended.status}: {ended.message}")


def clean(server: Server, run: str, results: Path) -> list[str]:
    """Delete what the journey put into the store; what is left there of it."""
    if server.store is None:
        return []
    prefix = str(Path(place(results / "input")).parent)
    server.store.delete(prefix)
    return [*server.store.names(prefix), *(name for name in server.store.names("") if name.startswith(f"key-{run}"))]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m workflows.verify", description="Use a daemon as a user does.")
    parser.add_argument("--env-file", type=Path, required=True, help="the daemon's, or what its users were given")
    arguments = parser.parse_args()
    plan = Plan.model_validate_json(sys.stdin.read() or "{}")
    try:
        server = Server(Access.from_env_file(arguments.env_file), threading.Event())
    except NotSharedError as error:
        print(f"token and server info; no job was tried: {error}")
        return 0
    except ServerError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        for line in journey(server, plan):
            print(line, flush=True)
    except (Failed, ServerError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
