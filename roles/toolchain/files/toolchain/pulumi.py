"""The Pulumi engine, its two provider plugins, and the home that they are installed into."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolchain import cache, machine, openstack_tokens, processes, products
from toolchain.errors import ToolchainError


@dataclass(frozen=True, kw_only=True)
class Engine(products.GoProduct):
    """The command, the host of Python programs, and the scripts that start those."""

    def make(self, order: products.Order) -> Mapping[Path, Path]:
        """Build both programs, and copy the scripts from the library of the same version."""
        super().make(order)
        engine, host = self.modules
        for module, scripts in (
            (engine, ("cmd/pulumi-language-python-exec", "dist/pulumi-resource-pulumi-python")),
            # The engine starts Python policy packs by this one; its own library has it no more.
            (host, ("dist/pulumi-analyzer-policy-python",)),
        ):
            library = order.go.module(self.source(order, module), "github.com/pulumi/pulumi/sdk/v3") / "python"
            for script in scripts:
                program = order.draft / "bin" / Path(script).name
                program.write_bytes((library / script).read_bytes())
                program.chmod(0o755)
        return {}


@dataclass(frozen=True, kw_only=True)
class Plugin(products.GoProduct):
    """A provider's plugin: ``bin/pulumi-resource-<provider>``.

    :param provider: Pulumi's name for it
    """

    provider: str

    @property
    def program(self) -> str:
        """Its file's name."""
        return f"pulumi-resource-{self.provider}"

    def find(self, aside: Path) -> Mapping[str, machine.Program]:
        """One that the user's own engine has installed, of this very version: the Python package accepts no other."""
        home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
        path = home / "plugins" / f"resource-{self.provider}-v{self.version}" / self.program
        if not os.access(path, os.X_OK) or path.resolve().is_relative_to(aside):
            return {}
        return {self.program: machine.Program(path=path, version=self.version)}


@dataclass(frozen=True, kw_only=True)
class KubernetesPlugin(Plugin):
    """Upstream's plugin."""

    def prepare(self, order: products.Order, module: products.Module, source: Path) -> None:
        """Minify the two documents that the plugin embeds, as upstream's generate.go does."""
        origin = order.go.module(source, module.pinned) / "cmd" / self.program
        schema = json.loads((origin / "schema.json").read_text())
        schema["version"] = self.version
        mapping = json.loads((origin / "terraform-mapping.json").read_text())
        for name, document in (("schema", schema), ("terraform-mapping", mapping)):
            (source / f"{name}-embed.json").write_text(json.dumps(document, separators=(",", ":")))


@dataclass(frozen=True, kw_only=True)
class OpenstackPlugin(Plugin):
    """A bridge of our own over Terraform's provider: upstream's module is not served. Its version says ``+local.bridge``."""

    def prepare(self, order: products.Order, module: products.Module, source: Path) -> None:
        """Make the table of tokens, and the schema with a program that knows them."""
        package = order.workshop.directory / "work" / "pulumi-openstack-package"
        shutil.rmtree(package, ignore_errors=True)
        order.workshop.install("pulumi-openstack.txt", package)
        provider = order.go.module(source, module.pinned)
        table = openstack_tokens.tokens(package / "pulumi_openstack", provider)
        (source / "provider" / "tokens.json").write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
        program = source / "write-schema"
        self.build(order, module, source, {program: "./schema"}, self.cpu_minutes)
        processes.run([str(program), "schema", "--out", str(source / "written"), "--skip-docs"], directory=source)
        shutil.copy(source / "written" / "schema.json", source / "plugin" / "schema-embed.json")


# With these the engine neither asks for updates nor fetches plugins, and takes none from PATH.
SETTINGS: Mapping[str, str] = {
    "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
    "PULUMI_SKIP_UPDATE_CHECK": "true",
}


class Home:
    """The engine's home, with the plugins installed, and the settings that go with it.

    :param store: where the products are
    """

    def __init__(self, store: cache.Cache) -> None:
        self._store = store
        # Caches may share one by a link: the settings name the place itself, which stays when such a cache goes.
        root = store.root.resolve()
        self._directory = root / "pulumi-home"
        self._settings = root / "pulumi.env"

    @property
    def environment(self) -> Mapping[str, str]:
        """What every call of the engine needs."""
        return {"PULUMI_HOME": str(self._directory), **SETTINGS}

    def complete(self, plugins: Sequence[tuple[Plugin, Path]]) -> bool:
        """True if the settings and these plugins are there."""
        written = self._settings.is_file() and self._settings.read_text() == self._text()
        return written and all(self._installed(plugin, origin) for plugin, origin in plugins)

    def make(self, plugins: Sequence[tuple[Plugin, Path]]) -> None:
        """Install plugins, and write the settings.

        :param plugins: each with the directory of its product
        :raises ToolchainError: the engine refuses one
        """
        self._directory.mkdir(exist_ok=True)
        for plugin, origin in plugins:
            if not self._installed(plugin, origin):
                self._install(plugin, origin / "bin" / plugin.program)
        draft = self._settings.with_name(f".{self._settings.name}.new")
        draft.write_text(self._text())
        draft.replace(self._settings)

    def _text(self) -> str:
        return "".join(f"{name}={value}\n" for name, value in sorted(self.environment.items()))

    def _file(self, plugin: Plugin) -> Path:
        return self._directory / "plugins" / f"resource-{plugin.provider}-v{plugin.version}" / plugin.program

    def _installed(self, plugin: Plugin, origin: Path) -> bool:
        file, program = self._file(plugin), origin / "bin" / plugin.program
        return file.exists() and (file.samefile(program) or file.stat().st_size == program.stat().st_size)

    def _install(self, plugin: Plugin, program: Path) -> None:
        words = ["plugin", "install", "resource", plugin.provider, f"v{plugin.version}", "--reinstall", "--file", str(program)]
        environment = os.environ | dict(self.environment) | {"PATH": f"{self._store.programs}:{os.environ.get('PATH', '')}"}
        try:
            processes.run([str(self._store.programs / "pulumi"), *words], environment=environment)
        except processes.ProcessError as error:
            raise ToolchainError(f"pulumi does not take the plugin {plugin.name}: {error.words}") from error
        # The engine copies it; one file with two names takes half the room.
        file = self._file(plugin)
        draft = file.with_name(f".{file.name}.new")
        draft.unlink(missing_ok=True)
        try:
            draft.hardlink_to(program.resolve())
        except OSError:
            return
        draft.replace(file)
