"""Messages: silent in a program that has not asked for them, on standard error at the command line."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from robust_transfer.messages import HIDDEN, ROOT, TOLD, errors_only, logger, on_standard_error


def test_a_program_sees_nothing_until_it_asks() -> None:
    script = """
import logging, sys
from robust_transfer.messages import logger
from robust_transfer.progress import tell
logger("robust_transfer.data").warning("first")
tell(False, "second")
logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
logger("robust_transfer.data").warning("third")
tell(False, "fourth")
tell(True, "fifth")
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    told = [f"{TOLD} INFO fourth", f"{TOLD} INFO fifth"]
    assert done.stderr.splitlines() == ["robust_transfer.data WARNING third", *told]
    assert done.stdout == ""


def test_the_command_line_shows_what_is_told_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(logging.getLogger(ROOT).handlers), logging.getLogger(ROOT).level
    with on_standard_error():
        logger(TOLD).info("told")
        logger(TOLD).info("told in quiet", extra={HIDDEN: True})
        logger(f"{ROOT}.data").info("for a log")
        logger(f"{ROOT}.data").warning("a %s", "warning")
    logger(TOLD).info("too late")
    assert capsys.readouterr() == ("", "told\na warning\n")
    assert (logging.getLogger(ROOT).handlers, logging.getLogger(ROOT).level) == before


def test_a_library_is_quiet_below_errors_and_as_before_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("somebody.elses")
    log.setLevel(logging.INFO)

    @errors_only("somebody.elses")
    def work() -> None:
        log.warning("a retry")
        log.error("it failed")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert log.level == logging.INFO
    assert [record.getMessage() for record in caplog.records if record.name == log.name] == ["it failed"]


def test_names_in_messages_are_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    with on_standard_error():
        logger(TOLD).info("cannot read %s", "\x1b]0;x\x07.png")
    assert capsys.readouterr().err == "cannot read \\x1b]0;x\\x07.png\n"
