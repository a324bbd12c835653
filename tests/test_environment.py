"""Record of the environment."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
import torch

from robust_transfer.environment import command_line, environment


def test_the_environment_names_versions_but_no_host_and_no_path() -> None:
    record = environment()
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["versions"]["python"].count(".") == 2
    assert record["hardware"]["threads"] == torch.get_num_threads()
    text = json.dumps(record)
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert str(Path(__file__).parents[1]) not in text


def test_the_command_is_as_it_was_typed_but_for_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/robust-transfer", "transfer", "--data", "my images"])
    assert command_line() == "robust-transfer transfer --data 'my images'"
    monkeypatch.setattr(sys, "argv", [""])
    assert command_line() == "python"
