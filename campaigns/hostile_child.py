"""One hostile case in a process of its own: forked with everything imported, limited, watched and judged."""

from __future__ import annotations

import json
import math
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from hostile_case import CANARY, READ, REFUSED, Case, Outcome
from hostile_watch import watch

MEMORY = 1 << 30  # bytes beyond what the process holds before the case
SECONDS = (
    20.0  # of the processor, beyond what the process used before; a case that waits instead has three times as long
)
LONGEST = 1200  # characters of a refusal, beside its files' names
PAGE = resource.getpagesize()


def tried(cases: Sequence[Case], top: Path, *, memory: int = MEMORY, seconds: float = SECONDS) -> Iterator[Outcome]:
    """Outcome of each case, run in a folder of its own under ``top``, which is removed afterwards."""
    for number, case in enumerate(cases):
        home = top / f"{number:05d}"
        (home / "files").mkdir(parents=True)
        beside = set(os.listdir(top))
        outcome = attempt(case, home, memory, case.seconds or seconds)
        if set(os.listdir(top)) != beside:
            outcome = Outcome(
                case, "file outside", f"{set(os.listdir(top)) ^ beside}", outcome.megabytes, outcome.seconds
            )
        shutil.rmtree(home, ignore_errors=True)
        yield outcome


def attempt(case: Case, home: Path, memory: int, seconds: float) -> Outcome:
    """Outcome of one case in ``home/files``."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run(case, home, memory, seconds, writing)
    os.close(writing)
    ended = _wait(child, time.monotonic() + 3 * seconds)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as file:
        told = [json.loads(line) for line in file.read().splitlines()]
    faults = [(kind, what) for kind, what in told if kind not in ("megabytes", "seconds", "ready")]
    grown, took = (next((float(what) for kind, what in told if kind == name), 0.0) for name in ("megabytes", "seconds"))
    out, err = (_text(home / name) for name in ("out", "err"))
    if not any(kind == "ready" for kind, _ in told):
        raise RuntimeError(f"{case.family}: {case.name} could not be made: {err[-2000:]}")
    kind, said = _judged(case, home, ended, faults, out, err)
    return Outcome(case, kind, said, grown, took)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""


# ---------------------------------------------------------------- in the child


def _run(case: Case, home: Path, memory: int, seconds: float, tell_to: int) -> NoReturn:
    """Make the files, then run the command under limits. Never returns."""

    def tell(kind: str, what: str) -> None:
        os.write(tell_to, (json.dumps([kind, what]) + "\n").encode())

    status = 1
    try:
        os.setsid()
        for name, stream in (("out", 1), ("err", 2)):
            os.dup2(os.open(home / name, os.O_WRONLY | os.O_CREAT), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))  # noqa: SIM115
        os.chdir(home / "files")
        os.environ |= {
            "HOME": str(home),
            "TMPDIR": str(home),
            "XDG_CACHE_HOME": str(home),
            "TORCH_HOME": str(home / "hub"),
        }
        words = [str(word) for word in case.make(home / "files")]
        before = _held()
        tell("ready", "")
        _limit(memory, time.process_time() + seconds)
        begun = time.process_time()
        watch(home, tell)
        status = _command(words) if case.run is None else _call(case)
        tell("seconds", f"{time.process_time() - begun:.2f}")
        tell("megabytes", f"{max(0, _held() - before) / 2**20:.1f}")
    except BaseException:
        traceback.print_exc()
    finally:
        for written in (sys.stdout, sys.stderr):
            try:
                written.flush()
            except OSError:
                status = 1
        os._exit(status)


def _command(words: Sequence[str]) -> int:
    from robust_transfer.cli import main

    sys.argv = ["robust-transfer", *words]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def _call(case: Case) -> int:
    from robust_transfer.errors import RobustTransferError

    assert case.run is not None
    try:
        case.run()
    except RobustTransferError as error:
        print(f"robust-transfer: {str(error).encode('unicode_escape').decode()}", file=sys.stderr)
        return error.exit_status
    return 0


def _limit(memory: int, seconds: float) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))


def _held() -> int:
    """Most bytes that this process has held."""
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


# ---------------------------------------------------------------- in the parent


def _wait(child: int, until: float) -> int | None:
    """Exit status (negative: the signal), or None for a process that had to be ended."""
    handle = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([handle], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            for end in (os.killpg, os.kill):
                try:
                    end(child, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        _, status = os.waitpid(child, 0)
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(status) if ready else None


def _where(err: str) -> str:
    """Last line of a traceback, and the last place in the project."""
    lines = err.strip().splitlines()
    own = [line.strip() for line in lines if "/robust_transfer/" in line]
    return f"{lines[-1][:300] if lines else 'no word'}; {own[-1] if own else ''}"


def _judged(
    case: Case, home: Path, ended: int | None, faults: Sequence[tuple[str, str]], out: str, err: str
) -> tuple[str, str]:
    """Kind of outcome and what was said, the worst first."""
    left = [path.name for path in home.rglob(f"{CANARY}*") if not path.name.startswith(f"{CANARY}_module")]
    if left:
        return "code executed", f"it made {left}"
    if faults:
        return min(faults, key=lambda each: each[0] != "code executed")
    if ended in (None, -signal.SIGXCPU):
        return "hang", f"ended by the harness; {err[-200:]}"
    if "MemoryError" in err or "bad_alloc" in err or "Cannot allocate memory" in err or "can't allocate memory" in err:
        return "memory", err.strip()[-600:]
    if ended < 0:
        return "crash", f"signal {-ended}; {err[-300:]}"
    if "Traceback" in err or ended == 1:
        return "traceback", _where(err)
    if raw := {each for each in out + err if not (each.isprintable() or each in "\n")}:
        return "shown raw", f"{sorted(raw)!r} in {(out + err)[:300]!r}"
    kind = READ if ended == 0 else REFUSED
    last = err.strip().splitlines()[-1] if err.strip() else ""
    if kind == REFUSED and (
        ended != 2 or not last.startswith(("robust-transfer: ", "Error: ", "╰")) or len(last) > LONGEST
    ):
        return "unclear", f"status {ended}: {len(last)} characters: {err.strip()[-400:]}"
    if case.must is not None and kind != case.must:
        return "wrong", f"{kind}: {(err.strip() or out.strip())[-300:]}"
    if case.check is not None and (complaint := case.check(home / "files", out + err)) is not None:
        return "wrong", complaint
    return kind, last[:300]
