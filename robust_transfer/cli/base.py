"""Command line: its name, version and exit status."""

from __future__ import annotations

import errno
import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

ROAD = (
    "list",
    "data",
    "inspect",
    "import",
    "rank",
    "choose",
    "pretrain",
    "transfer",
    "evaluate",
    "predict",
    "export",
    "push",
    "verify",
    "compare",
    "report",
    "study",
    "demo",
    "doctor",
)  # as --help shows them


class _Group(TyperGroup):
    """Commands in the order of the pipeline; others come last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: ROAD.index(name) if name in ROAD else len(ROAD))


app = typer.Typer(
    name="robust-transfer",
    cls=_Group,
    help="Adversarially robust transfer learning: robust features in, an accurate and robust classifier out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130
MENDABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)  # what is wrong with a path, not with us
# Wrong options and the like. Some versions of typer carry a click of their own, so that click's name is not this class.
USAGE: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _show_version(wanted: bool) -> None:
    if wanted:
        from robust_transfer import __version__

        print(f"robust-transfer {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point. Exit status: 0; 2 for user errors; 3 where training diverged; 1 for our own bugs."""
    from robust_transfer.errors import RobustTransferError
    from robust_transfer.messages import on_standard_error

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal's encoding lacks is shown as \\u732b
            stream.reconfigure(errors="backslashreplace")
    try:
        with on_standard_error():
            status = app(standalone_mode=False)
        if status == INTERRUPTED:  # typer's own word for Ctrl-C
            raise KeyboardInterrupt
    except RobustTransferError as error:
        status = _fail(str(error), error.exit_status)
    except USAGE as error:
        error.show()
        status = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        status = _fail("interrupted; the same command goes on, with --resume where it has that option", INTERRUPTED)
    except (MemoryError, RuntimeError) as error:
        from robust_transfer.halving import ran_out

        if not ran_out(error):
            raise
        status = _fail(
            "memory does not suffice: give smaller images, a smaller network or --batch-size, or free some", 2
        )
    except OSError as error:
        if error.errno == errno.ENOSPC:
            status = _fail("the disk is full: free some space, then go on with --resume", 2)
        elif error.errno in MENDABLE:
            status = _fail(f"{error.filename or 'a file'}: {error.strerror}", 2)
        else:
            raise
    sys.exit(status if isinstance(status, int) else 0)


def printable(text: str) -> str:
    """Text with terminal escape sequences and direction changes made visible: names come from files."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode("ascii") for each in text
    )


def _fail(message: str, status: int) -> int:
    print(f"robust-transfer: {printable(message)}", file=sys.stderr)
    return status
