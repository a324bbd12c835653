"""Command line: its name, version and exit status."""

from __future__ import annotations

import errno
import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from robust_transfer.cli.ending import ended_by_signals

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
FULL = "the memory is full: end other programs, or take smaller images, a smaller network or a smaller --batch-size"
LONGEST = 1000  # characters of an error: of a longer one, which holds a value of a file, the middle is left out
# what is wrong with a path or a disk, not with us: a network's disk may be away, or have no locks
MENDABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.EIO,
    errno.ESTALE,
    errno.ENOLCK,
    errno.EFBIG,
)
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
    """Entry point. Exit status: 0; 2 for user errors; 3 where training diverged; 130, 143 for signals; 1 for our own bugs."""
    with ended_by_signals() as ending:
        try:
            status = _run()
        except (typer.Abort, KeyboardInterrupt):
            status = _fail(str(ending), ending.status)
    sys.exit(status)


def _run() -> int:
    """Run the command line; its exit status. Raises ``KeyboardInterrupt``."""
    from robust_transfer.errors import RobustTransferError
    from robust_transfer.messages import on_standard_error
    from robust_transfer.shown import printable

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
        error.message = printable(error.message)
        error.show()
        status = error.exit_code
    except MemoryError:
        status = _fail(FULL, 2)
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # PyTorch's word for it
            raise
        status = _fail(FULL, 2)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            status = _fail("the disk is full: free some space, then go on with --resume", 2)
        elif error.errno in MENDABLE:
            status = _fail(f"{error.filename or 'a file'}: {error.strerror}", 2)
        else:
            raise
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int) -> int:
    from robust_transfer.shown import one_line

    text = one_line(message)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST * 2 // 3]} ... {text[-LONGEST // 3 :]}"
    print(f"robust-transfer: {text}", file=sys.stderr)
    return status
