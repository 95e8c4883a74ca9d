"""The operator's commands: one module each, with ``register(app)``. Only the module of the command that runs is imported."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence

import typer

from infra.console import err
from infra.failures import EXIT_FAILED, OperatorError
from infra.spec import SiteError

NAMES = (
    "preview",
    "up",
    "drift",
    "destroy",
    "doctor",
    "env",
    "unlock",
    "headroom",
    "price",
    "expire",
    "quarantine",
    "purge",
    "adopt",
)
"""In the order that ``--help`` has them."""


def application(names: Sequence[str] = NAMES) -> typer.Typer:
    """The command line, with some of the commands."""
    app = typer.Typer(
        name="python -m infra",
        help="What an operator asks of a site. SITE is a name below inventories/, or a site file.",
        no_args_is_help=True,
        epilog="More, for machines without the clouds' packages: validate, schema, reference.",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    # A callback keeps a single command a command, with its name.
    app.callback()(lambda: None)
    for name in names:
        importlib.import_module(f"infra.commands.{name}").register(app)
    return app


def run(argv: Sequence[str]) -> int:
    """Do what the command line asks, and tell failures in a sentence.

    :returns: the exit status
    """
    # The clouds' clients log what they then raise, and Python prints that when nobody listens.
    logging.getLogger().addHandler(logging.NullHandler())
    names = tuple(name for name in NAMES if name in argv[:1]) or NAMES
    try:
        application(names)(list(argv), prog_name="python -m infra")
    except SystemExit as ended:
        return int(ended.code or 0)
    except SiteError as error:
        err.print(str(error))
        return EXIT_FAILED
    except OperatorError as error:
        err.print(f"error: {error}")
        return error.code
    return 0
