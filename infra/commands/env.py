"""``env``: what plain ``pulumi`` needs to work on the same state."""

from __future__ import annotations

import os
import shlex
import sys

import typer

from infra.commands.options import SiteArgument, asked
from infra.engine import Installation, cache
from infra.stack import Place


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("env")(env)


def env(site: SiteArgument) -> None:
    """Print the environment for plain `pulumi`, for a shell: eval "$(python -m infra env SITE)"; cd infra; pulumi preview."""
    wanted = asked(site, warn=False)
    place = Place.of(wanted.site, os.environ, cache() / "pulumi")
    installation = Installation.found(os.environ, cache() / "toolchain")
    lines = [f"unset {name}" for name in sorted(os.environ) if name == "OS_CLOUD"]
    for name, value in {**installation.environment, **place.environment, "PULUMI_STACK": wanted.site.name}.items():
        lines.append(f"export {name}={shlex.quote(value)}")
    lines.append(f'export PATH={shlex.quote(str(installation.program.parent))}:"$PATH"')
    sys.stdout.write("\n".join(lines) + "\n")
