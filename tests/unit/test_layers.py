"""Which part of the daemon may know which other. Dependencies point one way: dialects -> jobs -> compute, storage."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pfmoc

ROOT = Path(pfmoc.__file__).parent

COMMON = {"pfmoc", "backoff", "connections", "durable", "data", "errors", "locks", "settings"}
"""What everybody may know: it knows neither HTTP nor jobs."""
REQUESTS = {"auth", "body", "http", "logs", "spool"}
"""What stands between a socket and a dialect."""

ALLOWED: dict[str, set[str]] = {
    "backoff": set(),
    "connections": set(),
    "durable": set(),
    "data": set(),
    "errors": set(),
    "locks": set(),
    "listeners": set(),
    "settings": {"listeners"},
    "pfmoc": set(),
    # The layers, from the bottom.
    "cluster": COMMON,
    "compute": COMMON | {"cluster"},
    "objects": COMMON,
    "storage": COMMON | {"objects"},
    "mover": {"pfmoc", "backoff", "objects", "storage"},
    "staged": COMMON | {"mover", "storage"},
    "jobs": COMMON | {"cluster", "compute", "storage"},
    "workflow": COMMON | {"storage"},
    "coordination": COMMON | {"compute", "jobs", "spool", "storage", "workflow"},
    "dialects": COMMON | REQUESTS | {"compute", "coordination", "jobs", "listeners", "storage"},
    # Requests.
    "auth": COMMON | {"http"},
    "body": COMMON | {"http"},
    "http": COMMON,
    "logs": set(),
    "spool": COMMON,
    # The daemon as a process.
    "health": COMMON | {"http"},
    "metrics": COMMON,
    "openapi": COMMON | {"dialects", "http", "jobs"},
    "pidfile": COMMON,
    "reference": COMMON,
    "server": COMMON | {"http", "logs"},
}
"""The rest, ``app`` and ``__main__``, puts everything together."""

NO_SERVER = {"cluster", "compute", "storage", "jobs", "coordination", "workflow", *COMMON}
"""Where nothing of ``aiohttp.web`` has a place."""


def name_of(path: Path) -> str:
    """The module in a file, without the ``pfmoc.`` before it."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".") or "pfmoc"


MODULES = {name_of(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported, with the names taken from it; imports by ``importlib`` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            yield str(ast.literal_eval(node.args[0]))


def layer(module: str) -> str:
    """The part of the daemon that a module belongs to: a package, or a module beside the packages."""
    first = module.partition(".")[0]
    return first if (ROOT / first).is_dir() or (ROOT / f"{first}.py").is_file() else "pfmoc"


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name) not in ("app", "__main__")])
def test_a_module_knows_only_what_its_layer_may_know(name: str):
    own = layer(name)
    others = [other for other in imported(MODULES[name]) if other.partition(".")[0] == "pfmoc"]
    known = {layer(other.removeprefix("pfmoc").lstrip(".") or "pfmoc") for other in others}
    assert known - {own} <= ALLOWED[own]


def test_every_part_is_in_the_table():
    assert {layer(name) for name in MODULES} - {"app", "__main__"} == ALLOWED.keys()


@pytest.mark.parametrize(
    ("program", "part"), [("compute.shim", "compute.rundir"), ("mover.__main__", "storage.trees")], ids=["supervisor", "mover"]
)
def test_what_runs_beside_a_plugin_is_made_of_the_standard_library(program, part):
    # There is one for each run, so it must start fast and stay small.
    pending, seen = [program], set()
    while pending:
        name = pending.pop()
        seen.add(name)
        for other in imported(MODULES[name]):
            if other.partition(".")[0] != "pfmoc":
                assert other.partition(".")[0] in sys.stdlib_module_names, f"{name} imports {other}"
                continue
            module = other.removeprefix("pfmoc.")
            found = module if module in MODULES else module.rpartition(".")[0] or "pfmoc"
            pending += {found, found.rpartition(".")[0] or "pfmoc"} - seen
    assert part in seen


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name) in NO_SERVER])
def test_only_what_serves_knows_the_server(name: str):
    assert not [other for other in imported(MODULES[name]) if other.startswith("aiohttp.web")]
