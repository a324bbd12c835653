"""Network denied, in a process and all that it starts: an audit hook that refuses and writes down what asks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Python loads a `sitecustomize` of its path at every start, of children too. Local sockets have no address tuple.
HOOK = """
import os, sys
ASKING = {
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto", "socket.sendmsg"
}

def refuse(event, given):
    if event not in ASKING:
        return
    where = given[0] if event.startswith("socket.get") else given[1]
    if event.startswith("socket.get") or isinstance(where, tuple):
        with open(os.environ["ASKED"], "a", encoding="utf-8") as file:
            file.write(f"{event} {where}\\n")
        raise OSError(101, "the network is denied")

sys.addaudithook(refuse)
"""
# Commands one after another in one process, as the command line has them; their statuses are the output's last line.
CALLS = """
import json, sys, time
from robust_transfer import cli
time.sleep = lambda seconds: None  # between two tries to reach somebody
statuses = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["robust-transfer", *words]
    try:
        cli.main()
    except SystemExit as end:
        statuses.append(end.code or 0)
print(json.dumps(statuses))
"""


def offline(
    commands: Sequence[Sequence[str]], folder: Path, launch: Sequence[str] = ()
) -> tuple[list[int], list[str], str]:
    """Statuses of commands run in ``folder`` with the network denied, what asked for it, and standard error."""
    hook = folder / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(HOOK)
    asked = hook / "asked"
    asked.touch()
    path = os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])])
    unset = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "WANDB_MODE")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    environment = {
        **kept,
        "PYTHONPATH": path,
        "ASKED": str(asked),
        "HOME": str(folder),
        "TORCH_HOME": str(folder / "torch"),
    }
    words = [*launch, sys.executable, "-c", CALLS, json.dumps([[*map(str, each)] for each in commands])]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), asked.read_text().splitlines(), done.stderr
