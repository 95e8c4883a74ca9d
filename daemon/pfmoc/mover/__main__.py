"""``python -m pfmoc.mover pull | publish``: see ``pfmoc.mover``.

``publish`` begins when it gets SIGTERM, which Kubernetes sends to a sidecar when the plugin has ended, whatever way. Process 1
never gets a signal that it does not wait for. So the first thing it does is to wait for this one, and the second to say that it
does, by writing the message that stands if it is killed meanwhile: a startup probe that looks for it keeps the plugin back.
The work itself is a child's, and another child's when that one crashes; the signal means nothing to them any more.

Exit status: 0; 1 failed, the message says how; 2 it was not asked rightly.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pfmoc.mover.report import BadTicket, Failed, Report, say

_ENDING = {signal.SIGTERM, signal.SIGINT}
_TICKETS = Path("/run/pfmoc/ticket")
_MARGIN_S = 10.0
"""Kept of the deadline, for the last words."""
_TERMINATED = 128 + signal.SIGTERM


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = _parser().parse_args(argv)
    return _pull(options) if options.command == "pull" else _publish(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pfmoc.mover", description="Move a job's data between its pod and the object store.")
    commands = parser.add_subparsers(dest="command", required=True)
    pull = commands.add_parser("pull", help="fetch the input")
    pull.add_argument("--into", type=Path, default=Path("/share/incoming"), metavar="DIR")
    publish = commands.add_parser("publish", help="on SIGTERM, store the output")
    publish.add_argument("--from", type=Path, default=Path("/share/outgoing"), metavar="DIR", dest="outputs")
    publish.add_argument("--now", action="store_true", help="do not wait for SIGTERM")
    publish.add_argument("--deadline", type=float, metavar="SECONDS", help="for all of it; default: the ticket's")
    publish.add_argument(
        "--index",
        type=int,
        default=int(os.environ.get("JOB_COMPLETION_INDEX") or 0),
        help="of this worker (JOB_COMPLETION_INDEX)",
    )
    for command in (pull, publish):
        command.add_argument("--ticket", type=Path, default=_TICKETS / f"{command.prog.split()[-1]}.json", metavar="FILE")
        command.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"), metavar="FILE")
    return parser


def _pull(options: argparse.Namespace) -> int:
    for number in _ENDING:
        signal.signal(number, lambda *_: os._exit(_TERMINATED))  # its threads may be waiting for the store; nothing is lost

    def work(report: Report) -> None:
        from pfmoc.mover import pull, ticket  # noqa: PLC0415 - it starts fast
        from pfmoc.storage.workers import Stop  # noqa: PLC0415

        pull.pull(ticket.read_pull(options.ticket), options.into, report, stop=Stop())

    return _done(Report(phase="pull"), options.termination_log, work)


def _publish(options: argparse.Namespace) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    Report(phase="publish", error="ended before it published").write(options.termination_log, since=time.monotonic())
    if not options.now:
        signal.sigwait(_ENDING)
    begun = time.monotonic()
    from pfmoc.mover.tended import tended  # noqa: PLC0415 - while it waits it stays small

    return tended(lambda death: _publish_once(options, begun, death))


def _publish_once(options: argparse.Namespace, begun: float, death: str | None) -> int:
    """:param death: how the process died that has tried before"""

    def work(report: Report) -> None:
        from pfmoc.mover import publish, ticket  # noqa: PLC0415
        from pfmoc.storage.workers import Stop  # noqa: PLC0415

        def cancelled() -> None:
            report.write(options.termination_log, since=begun)
            say("info", "the job was cancelled: nothing more is published", files=report.files, bytes=report.bytes)
            os._exit(0)  # its threads may be waiting for the store, and nobody wants what they send

        allowed = ticket.read_publish(options.ticket)
        seconds = allowed.deadline_s if options.deadline is None else options.deadline
        until = begun + seconds - min(_MARGIN_S, seconds / 10)
        if death and time.monotonic() >= until:
            raise Failed(f"it crashed again and again, the last time with {death}")
        publish.publish(allowed, options.outputs, report, index=options.index, until=until, stop=Stop(), cancelled=cancelled)

    return _done(Report(phase="publish"), options.termination_log, work)


def _done(report: Report, message: Path, work: Callable[[Report], None]) -> int:
    begun = time.monotonic()
    status = 1
    try:
        work(report)
        status = 0
    except BadTicket as bad:
        status, report.error = 2, str(bad)
    except Failed as failed:
        report.error = str(failed)
    except OSError as error:
        report.error = f"{error.filename or 'the system'}: {error.strerror}"
    except Exception as error:  # noqa: BLE001 - the last words of the process must be some
        report.error = f"{type(error).__name__}: {error}"
    report.write(message, since=begun)
    say("info" if status == 0 else "error", report.error or f"{report.phase} done", files=report.files, bytes=report.bytes)
    return status


if __name__ == "__main__":
    sys.exit(main())
