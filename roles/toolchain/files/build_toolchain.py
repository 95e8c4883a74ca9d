#!/usr/bin/env python3
"""Make what the box runs and the Pulumi program needs, from package registries only, or link to what the machine has.

    build_toolchain.py --directory DIRECTORY [--progress FILE] [--check] PRODUCT ...

Prints JSON: ``changed``; ``products``, each with its action (``kept``, ``linked``, ``built``), version, seconds, MiB, path, and
the machine's own programs that it links to; ``made``, a line for people on each that was not kept; ``pulumi``, the environment
that its commands need. With --check nothing is written, and the actions are those that would be taken. What is there, made
from the same pins, is left alone.
Standard library only.
"""
# ruff: noqa: T201 - standard output is what it is for

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from toolchain import cache, golang, pins, pulumi
from toolchain.errors import ToolchainError
from toolchain.products import Order, Product
from toolchain.progress import Progress

_MIB = 1 << 20


class Toolchain:
    """The wanted products.

    :param store: where they lie
    :param wanted: in the order in which they are made
    """

    def __init__(self, store: cache.Cache, wanted: Sequence[Product], workshop: golang.Workshop, progress: Progress) -> None:
        self._store, self._wanted, self._workshop, self._progress = store, wanted, workshop, progress
        self._keys = {product.name: product.key for product in wanted}
        self._home = pulumi.Home(store)
        self.actions: dict[str, str] = {}

    def complete(self) -> bool:
        """True if all is there, under its stable names."""
        there = all(
            self._made(product) and self._store.has_names(product.name, self._keys[product.name]) for product in self._wanted
        )
        return there and (not self._has_engine() or self._home.complete(self._plugins()))

    def plan(self) -> None:
        """Find what would be done."""
        for product in self._wanted:
            self.actions[product.name] = (
                "kept" if self._made(product) else "linked" if product.find(self._store.root) else "built"
            )

    def make(self) -> None:
        """Make what is missing, one product after the other; each is kept as soon as it is whole.

        :raises ToolchainError: one cannot be made; those before it are there
        """
        missing = [product for product in self._wanted if not self._made(product)]
        self.actions = {product.name: "kept" for product in self._wanted if product not in missing}
        for product in self._wanted:
            if product in missing:
                rest = len(missing) - missing.index(product) - 1
                after = f" ({rest} more product{'s' if rest > 1 else ''} after it)" if rest else ""
                self.actions[product.name] = self._make(product, after)
            self._store.give_names(product.name, self._keys[product.name])
        if self._has_engine():
            self._home.make(self._plugins())
        cache.remove(self._workshop.directory)

    def result(self) -> Mapping[str, Any]:
        """What there is now."""
        document: dict[str, Any] = {"products": {}}
        for product in self._wanted:
            made = self._made(product)
            known = asdict(made) if made else {"version": product.version, "seconds": 0.0, "mib": 0.0}
            known |= {"action": self.actions.get(product.name, "kept"), "path": str(self._store.current / product.name)}
            document["products"][product.name] = {name: known[name] for name in ("action", "version", "seconds", "mib", "path")}
            if made and made.machine:
                document["products"][product.name]["machine"] = sorted(made.machine)
        lines = [_line(name, product) for name, product in document["products"].items() if product["action"] != "kept"]
        return document | {"made": lines, "pulumi": dict(self._home.environment) if self._has_engine() else {}}

    def _made(self, product: Product) -> cache.Made | None:
        return self._store.made(product.name, self._keys[product.name])

    def _has_engine(self) -> bool:
        return any(isinstance(product, pulumi.Engine) for product in self._wanted)

    def _plugins(self) -> Sequence[tuple[pulumi.Plugin, Path]]:
        plugins = [product for product in self._wanted if isinstance(product, pulumi.Plugin)]
        return [(plugin, self._store.directory(plugin.name, self._keys[plugin.name])) for plugin in plugins]

    def _make(self, product: Product, after: str) -> str:
        began = time.monotonic()
        key = self._keys[product.name]
        with self._store.draft(product.name) as draft:
            order = Order(
                draft=draft,
                place=self._store.directory(product.name, key),
                aside=self._store.root,
                workshop=self._workshop,
                say=self._progress,
                after=after,
            )
            found = product.find(self._store.root)
            if found:
                action, version = "linked", next(iter(found.values())).version
                (draft / "bin").mkdir()
                links = {draft / "bin" / name: program.path for name, program in found.items()}
                self._link(links)
                product.complete(order)
            else:
                action, version = "built", product.version
                self._check_room(product)
                links = dict(product.make(order))
                self._link(links)
            made = cache.Made(
                action=action,
                version=version,
                seconds=round(time.monotonic() - began, 1),
                mib=round(cache.mib(draft), 1),
                machine={str(path): cache.identity(path) for path in links.values()},
            )
            self._store.keep(draft, product.name, key, made)
        self._progress.say(f"{product.name}: {action}, version {version}, {made.seconds:.0f} s, {made.mib:.0f} MiB")
        return action

    @staticmethod
    def _link(links: Mapping[Path, Path]) -> None:
        for link, program in links.items():
            link.symlink_to(program)

    def _check_room(self, product: Product) -> None:
        """Refuse what cannot end well before an hour of it is done."""
        free = shutil.disk_usage(self._store.root).free / _MIB
        if free >= product.disk_mib:
            return
        # An interrupted build has taken part of its room already.
        free += cache.mib(self._workshop.directory) if self._workshop.directory.exists() else 0
        if free < product.disk_mib:
            raise ToolchainError(
                f"the disk of {self._store.root} has {free:.0f} MiB left, and building {product.name} takes"
                f" {product.disk_mib}: make room, or choose another disk with PFMOC_CACHE"
            )


def _line(name: str, product: Mapping[str, Any]) -> str:
    """What was done, in a few words."""
    took = f", {product['seconds']:.0f} s, {product['mib']:.0f} MiB" if product["seconds"] else ""
    own = ", ".join(product.get("machine", ()))
    return f"{name} {product['version']} ({product['action']}{took}{f'; the machine has {own}' if own else ''})"


def _interrupted(number: int, _frame: FrameType | None) -> None:
    """Let drafts be removed and children end."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="where products lie, of all checkouts")
    parser.add_argument("--progress", type=Path, help="a file that gets a line whenever there is news")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--uv", default="uv", help="the uv that installs from PyPI")
    parser.add_argument(
        "--module-cache", type=Path, help="Go's module cache, kept; one of the toolchain's own is removed when done"
    )
    parser.add_argument("--build-cache", type=Path, help="Go's build cache, likewise")
    parser.add_argument("products", nargs="*", metavar="PRODUCT", help=f"of {', '.join(pins.PRODUCTS)}")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.products if name not in pins.PRODUCTS]
    if unknown:
        parser.error(f"there is no product {', '.join(unknown)}; there are: {', '.join(pins.PRODUCTS)}")
    return arguments


def _make(arguments: argparse.Namespace) -> Mapping[str, Any]:
    root: Path = arguments.directory.absolute()
    wanted = [product for name, product in pins.PRODUCTS.items() if name in arguments.products]
    workshop = golang.Workshop(
        directory=root / "build",
        module_cache=arguments.module_cache or root / "build" / "modules",
        build_cache=arguments.build_cache or root / "build" / "compiled",
        uv=arguments.uv,
    )
    store = cache.Cache(root)
    progress = Progress(None if arguments.check else arguments.progress)
    toolchain = Toolchain(store, wanted, workshop, progress)
    changed = not toolchain.complete()
    if changed and arguments.check:
        toolchain.plan()
    elif changed:
        try:
            with store.locked(progress):
                # Another build may have done the work meanwhile.
                changed = not toolchain.complete()
                if changed:
                    toolchain.make()
        finally:
            progress.end()
    return {"changed": changed, **toolchain.result()}


def main() -> None:
    """Make what is missing, and write what there is."""
    os.umask(0o022)
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        print(json.dumps(_make(_arguments())))
    except ToolchainError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{error.filename or 'the toolchain'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what was compiled so far is kept, and the next run goes on from there")


if __name__ == "__main__":
    main()
