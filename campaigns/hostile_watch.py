"""Audit hook of a process that reads hostile files: what it executes, writes outside its folder, or connects to."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_case import CANARY

PROCESSES = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
}
CHANGES = {"os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.mkdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
           "os.chmod": 1, "os.chown": 1, "shutil.rmtree": 1}  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OWN_COMMANDS = ("git",)  # by which a run notes its commit
HERE = ("127.0.0.1", "localhost", "::1")
LIBRARIES = tuple(sysconfig.get_paths().values())
MODULES = ("antigravity", "evil", f"{CANARY}_module")


def watch(folder: Path, tell: Callable[[str, str], None]) -> None:
    """Call ``tell(fault, what)`` for each event that no reading of files needs. It ends with the process."""
    allowed = str(folder)

    def outside(path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        real = os.path.realpath(os.fsdecode(path))
        return not real.startswith((allowed, "/dev/", "/proc/self/"))

    def hear(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = given
            writes = any(letter in "wax+" for letter in mode) if isinstance(mode, str) else False
            if (writes or (isinstance(flags, int) and flags & WRITING)) and outside(path):
                tell("file outside", f"opened {path!r} to write")
        elif event in CHANGES:
            for path in given[: CHANGES[event]]:
                if outside(path):
                    tell("file outside", f"{event} {path!r}")
        elif event in PROCESSES:
            words = given[1] if event == "subprocess.Popen" and len(given) > 1 else given
            if not (isinstance(words, list) and words and words[0] in OWN_COMMANDS):
                tell("code executed", f"{event} {words!r:.200}")
        elif event == "exec":
            code = given[0]
            if code.co_filename.startswith(LIBRARIES):  # a module that is imported late
                return
            if any(CANARY in each for each in (*code.co_names, *(c for c in code.co_consts if isinstance(c, str)))):
                tell("code executed", f"exec of {code.co_filename}")
        elif event == "import" and given[0] in MODULES:
            tell("code executed", f"import of {given[0]}")
        elif event == "pickle.find_class":
            tell("code executed", f"a pickle looked up {given[0]}.{given[1]}")
        elif event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
            place = given[1] if event == "socket.connect" else given[0]
            host = place[0] if isinstance(place, tuple) and place else place
            if isinstance(host, str) and host not in HERE:
                tell("address outside", f"{event} {host}")

    sys.addaudithook(hear)
