"""The command line of a document, split into what is executed. Nothing here, or below, is ever given to a shell."""

from __future__ import annotations

import shlex

from pfmoc.compute.base import INCOMING
from pfmoc.dialects.cmd.documents import Document, find, limits, section, words
from pfmoc.errors import InvalidRequest
from pfmoc.jobs.model import PluginSpec, PluginType

COMMAND_MAX = 128 << 10
"""Characters: what Linux takes as one argument, which upstream passed the whole line as."""

_SHELL, _PATH, _PROGRAM = "$execshell", "$selfpath", "$selfexec"


def plugin_spec(meta: Document, where: str) -> PluginSpec:
    """Translate a ``run`` document, or the ``meta-compute`` of a ``coordinate``, to a job.

    :param where: the name of ``meta``, for complaints
    :raises InvalidRequest: names the field
    """
    command = words(meta, "cmd", default="")
    if find(meta, "container") is None:
        raise InvalidRequest(
            f"{where}.container",
            "is required: without it pman ran the command in a shell of its own machine, which this server never does",
        )
    image = words(meta, "container", "target", "image", default="")
    if not image:
        raise InvalidRequest(f"{where}.container.target.image", "is required")
    argv = _argv(command, image, section(meta, "container", "target"), f"{where}.cmd")
    return PluginSpec(
        image=image,
        entrypoint=(argv[0],),
        args=tuple(argv[1:]),
        verbatim=True,
        type=PluginType.DS if INCOMING in argv else PluginType.FS,
        limits=limits(meta, where),
        auid=words(meta, "auid", default=""),
    )


def _argv(command: str, image: str, target: Document, where: str) -> list[str]:
    if len(command) > COMMAND_MAX:
        raise InvalidRequest(where, f"has more than {COMMAND_MAX} characters")
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise InvalidRequest(where, f"cannot be split into words: {error}") from None
    shell, path, program = _templates(image, target)
    argv: list[str] = []
    for part in parts:
        if part == _SHELL:
            argv += shell
        elif part == f"{_PATH}/{_PROGRAM}":
            argv.append(f"{path}/{program}" if path else program)
        else:
            argv.append(part.replace(_PROGRAM, program).replace(_PATH, path).replace(_SHELL, " ".join(shell)))
    if not argv or not argv[0]:
        raise InvalidRequest(where, "is empty")
    return argv


def _templates(image: str, target: Document) -> tuple[list[str], str, str]:
    """What stands for ``$execshell``, ``$selfpath`` and ``$selfexec``.

    pman before 2 ran the image without arguments and read them from what it printed. Here they come from the document, as CUBE
    sends them; without that, the program is the one which ChRIS names its images after (``pl-simpledsapp``: ``simpledsapp``, on
    the PATH).
    """
    program = words(target, "selfexec", default="")
    if not program:
        return [], "", _program_of(image)
    try:
        shell = shlex.split(words(target, "execshell", default=""))
    except ValueError as error:
        raise InvalidRequest("container.target.execshell", f"cannot be split into words: {error}") from None
    return shell, words(target, "selfpath", default="").rstrip("/"), program


def _program_of(image: str) -> str:
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return name.removeprefix("pl-")
