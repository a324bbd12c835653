"""Harness of the kills: it kills where it says, sees what is damaged, and goes on with a real command."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from file_events import HOW, Event, kill_at, note_events, read_events
from filelock import FileLock
from kills import drawn, record, tried
from same_results import contents, damaged, differences, held, leftovers
from small_commands import OUT, REPEATED, Command
from uninterrupted import Case, Whole, uninterrupted

from robust_transfer.files import append_line, write_json


def child(folder: Path, prepare: Callable[[], None]) -> int:
    """Write three lines and a file in a process of its own; how it ended."""
    number = os.fork()
    if number == 0:
        prepare()
        for k in range(3):
            append_line(folder / "metrics.jsonl", json.dumps({"step": k}))
        write_json(folder / "card.json", {"a": [1, 2, 3]})
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def test_events_are_those_on_files_of_the_folder(tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "events.txt"
    folder.mkdir()
    assert child(folder, note_events(folder, log)) == 0
    assert [event.label for event in read_events(log)] == [
        *["append metrics.jsonl"] * 3,
        "open .card.json.*",
        "open .card.json.*",
        "os.chmod .card.json.*",
        "open .card.json.*",
        "os.rename card.json",
        "os.remove .card.json.*",
    ]


@pytest.mark.parametrize(
    ("number", "how", "lines", "card", "temporary"),
    [
        (1, "before", 1, False, None),
        (1, "torn", 1.5, False, None),
        (7, "before", 3, False, True),
        (7, "torn", 3, False, False),
        (7, "after", 3, True, None),
    ],
)
def test_it_is_killed_there(
    tmp_path: Path, number: int, how: HOW, lines: float, card: bool, temporary: bool | None
) -> None:
    """``temporary``: whether the file that was about to take its name is whole, None where there is none."""
    assert child(tmp_path, kill_at(tmp_path, number, how, seed=1)) == -signal.SIGKILL
    written = (tmp_path / "metrics.jsonl").read_text()
    whole = written.count("\n") + (0.5 if not written.endswith("\n") else 0)
    assert whole == lines
    assert (tmp_path / "card.json").exists() is card
    found = list(tmp_path.glob(".card.json.*"))
    assert len(found) == (temporary is not None)
    if temporary is not None:
        assert (found[0].read_text().endswith("}\n")) is temporary


def test_an_event_has_one_label_whatever_the_address(tmp_path: Path) -> None:
    assert Event("open", "out/.card.json.0123456789ab").label == "open out/.card.json.*"
    assert Event("os.rename", "out/results/0123456789abcdef/card.json").label == "os.rename out/results/*/card.json"


def test_kills_are_drawn_over_the_life_and_over_all_kinds_of_events() -> None:
    events = [Event("open", "a"), *[Event("append", "b")] * 50]
    kills = list(drawn(Whole({}, 2.0, events), 20, random.Random(0)))
    assert kills == list(drawn(Whole({}, 2.0, events), 20, random.Random(0)))
    moments = [kill.seconds for kill in kills if kill.seconds is not None]
    assert len(moments) == 10
    assert 0 <= min(moments) < max(moments) <= 2.0
    aimed = {(kill.event, kill.how) for kill in kills if kill.seconds is None}
    assert aimed == {
        ("open a", "before"),
        ("open a", "after"),
        *(("append b", how) for how in ("before", "after", "torn")),
    }


def test_what_is_damaged_differs_or_is_left_is_seen(tmp_path: Path) -> None:
    write_json(tmp_path / "card.json", {"seconds": 1.0, "seed": 3})
    append_line(tmp_path / "metrics.jsonl", '{"step": 1, "seconds": 2}')
    wanted = contents(tmp_path)
    write_json(tmp_path / "card.json", {"seconds": 5.0, "seed": 3})
    assert not differences(contents(tmp_path), wanted), "times are no results"
    (tmp_path / "card.json").write_text('{"seconds"')
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.safetensors").write_bytes(b"half")
    (tmp_path / ".card.json.0123456789ab").write_text("half")
    assert damaged(tmp_path, wanted) == ["card.json", "state/state.safetensors"]
    assert differences(contents(tmp_path), wanted) == ["card.json"]
    assert leftovers(tmp_path) == [".card.json.0123456789ab", "state/state.safetensors"]


def test_a_lock_that_is_held_is_seen(tmp_path: Path) -> None:
    with FileLock(tmp_path / "a.lock"):
        assert held(tmp_path) == ["a.lock"]
    assert held(tmp_path) == []


def test_the_record_fails_by_what_was_lost() -> None:
    good = Case("a", "before open", injected=2, same=True)
    assert not record([good], 0).failed
    assert record([good], 0).counts[1].value == 2
    for bad in (
        Case("a", "x", same=False),
        Case("a", "x", same=True, damaged=("card.json",)),
        Case("a", "x", held=("l",)),
    ):
        assert record([good, bad], 0).failed


def test_a_real_command_survives_a_kill(tmp_path: Path) -> None:
    command = Command("import", ("import", "bundled", "--out", OUT, "--quiet"), REPEATED)
    whole = uninterrupted(command, tmp_path)
    assert f"{OUT}/card.json" in whole.made
    (kill,) = drawn(whole, 1, random.Random(1))
    case = tried(command, kill, whole, tmp_path, random.Random(0))
    assert case.survived, case
    assert case.injected
