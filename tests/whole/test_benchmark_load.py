"""Load of other processes on the CPUs, from made-up counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from load import Load, Moment, moment, pooled, taken, told

ROOT = 40


def machine(proc: Path, cpus: list[str], processes: dict[int, tuple[int, tuple[int, int, int, int]]]) -> Path:
    """A folder like /proc: a line a CPU, and processes with parent and (user, system, children's user and system) ticks."""
    proc.mkdir(exist_ok=True)
    lines = [f"cpu{n} {line}" for n, line in enumerate(cpus)]
    (proc / "stat").write_text("\n".join(["cpu  9 9 9 9 9 9 9 9 9 9", *lines, "intr 5 0 0", "ctxt 7"]) + "\n")
    for pid, (parent, ticks) in processes.items():
        (proc / str(pid)).mkdir(exist_ok=True)
        told = " ".join(map(str, ticks))
        (proc / str(pid) / "stat").write_text(f"{pid} (a (b) c 1 2 3) R {parent} 6 7 8 9 0 1 2 3 4 {told} 20 0 5 0 99")
    (proc / "self").mkdir(exist_ok=True)
    (proc / "self" / "stat").write_text("not to be counted")
    return proc


def test_what_others_took_in_closed_form(tmp_path: Path) -> None:
    """Two CPUs, 400 ticks: 100 idle, 300 busy; 190 ours (a child that ended, a grandchild that goes on), so 110 others'."""
    before = {
        1: (0, (500, 500, 0, 0)),
        ROOT: (1, (10, 1, 2, 3)),
        41: (ROOT, (5, 0, 0, 0)),
        50: (1, (7, 7, 7, 7)),
        60: (41, (0, 0, 0, 0)),
    }
    begun = moment(
        machine(tmp_path / "a", ["10 20 30 40 50 60 70 80 900 900", "1 1 1 1 1 1 1 1 0 0"], before), ROOT, {0, 1}
    )
    after = {
        1: (0, (500, 900, 0, 0)),
        ROOT: (1, (60, 11, 12, 8)),  # 75 more; 41 has ended, and 15 of these are its own and those before
        50: (1, (77, 7, 7, 7)),
        70: (ROOT, (100, 10, 0, 0)),
        71: (70, (4, 5, 1, 0)),
    }
    cpus = ["60 20 80 60 60 60 70 150 900 900", "81 1 41 61 11 11 1 1 0 0"]
    ended = moment(machine(tmp_path / "b", cpus, after), ROOT, {0, 1})
    assert begun == Moment(every=360 + 8, busy=360 + 8 - 90 - 2, own=16 + 5)
    assert ended is not None
    assert ended.own == 91 + 110 + 10
    assert ended.every - begun.every == 200 + 200
    assert ended.busy - begun.busy == 170 + 130
    assert taken(begun, ended) == Load(others=300 - 190, every=400)
    assert told(taken(begun, ended)) == "28 %: disturbed by neighbours"


def test_only_the_cpus_that_we_may_use_are_counted(tmp_path: Path) -> None:
    proc = machine(tmp_path, ["5 0 0 7 0 0 0 0 0 0", "100 0 0 200 0 0 0 0 0 0"], {ROOT: (1, (0, 0, 0, 0))})
    assert moment(proc, ROOT, {0}) == Moment(12, 5, 0)
    assert moment(proc, ROOT, {0, 1}) == Moment(312, 105, 0)


def test_a_machine_without_counts_says_so(tmp_path: Path) -> None:
    assert moment(tmp_path / "nowhere", ROOT, {0}) is None
    (tmp_path / "stat").write_text("cpu0 what else\n")
    assert moment(tmp_path, ROOT, {0}) is None
    known = Moment(1000, 500, 500)
    assert taken(None, known) is taken(known, None) is None
    assert told(None) == "unknown"


def test_loads_are_pooled_by_their_ticks() -> None:
    """1 of 10 and 39 of 90 are 40 of 100, not the mean of 10 and 43 %."""
    whole = pooled([Load(1, 10), Load(39, 90)])
    assert whole == Load(40, 100)
    assert whole.share == 0.4
    assert pooled([Load(1, 10), None]) is None


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (Load(0, 100), "0 %"),
        (Load(-3, 100), "0 %"),  # both counts are rounded
        (Load(10, 100), "10 %"),
        (Load(11, 100), "11 %: disturbed by neighbours"),
        (Load(300, 100), "100 %: disturbed by neighbours"),
        (Load(40, 49), "too short to tell"),
        (Load(), "too short to tell"),
    ],
)
def test_loads_in_words(load: Load, words: str) -> None:
    assert told(load) == words
    assert load.disturbed == ("disturbed" in words)


def test_this_machine_counts_our_own_work_as_ours() -> None:
    """Half a second of work: it is in our own ticks, and not all that is busy is others'."""
    import time

    begun, until = moment(), time.process_time() + 0.5
    if begun is None:
        pytest.skip("this machine keeps no counts")
    while time.process_time() < until:
        pass
    ended = moment()
    assert ended is not None
    assert 45 <= ended.own - begun.own <= 70
