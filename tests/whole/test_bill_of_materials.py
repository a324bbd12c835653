"""Bill of materials: what it names is there, nothing in it depends on a machine, and a wheel that holds it is still whole."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from sbom import FILE, ROOT, add_to, bill, text_of

RECORD = "robust_transfer-1.2.3.dist-info/RECORD"
PLACE = f"robust_transfer-1.2.3.dist-info/sboms/{FILE}"


def test_it_names_all_that_is_required_and_the_weights_by_their_content() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    components = bill()["components"]
    required = {each["properties"][0]["value"] for each in components if each.get("scope") == "required"}
    assert required == {*project["dependencies"]}
    optional = {each["name"] for each in components if each.get("scope") == "optional"}
    assert {"onnx", "peft", "ray", "wandb"} <= optional
    assert not {"pytest", "ruff"} & optional, "tools of developers are no part of the package"
    weights = {each["name"]: each for each in components if each["type"] == "machine-learning-model"}
    assert weights.keys() == {"bundled", "bundled-64", "natural"}
    for each in weights.values():
        content = (ROOT / each["properties"][0]["value"]).read_bytes()
        assert each["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]
    references = [each["bom-ref"] for each in components]
    assert len({*references}) == len(references)


def test_it_is_the_same_everywhere() -> None:
    text = text_of(bill())
    assert text == text_of(bill())
    assert not re.search(r"/(home|root|work|tmp|usr)/|https?:|timestamp|serialNumber|file:", text)


def test_a_wheel_that_holds_it_is_whole(tmp_path: Path) -> None:
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("robust_transfer/__init__.py", "x = 1\n")
        archive.writestr(RECORD, f"robust_transfer/__init__.py,sha256=x,6\n{RECORD},,\n")
    add_to(wheel, "{}\n")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        assert archive.read("robust_transfer/__init__.py") == b"x = 1\n"
        content, lines = archive.read(PLACE), archive.read(RECORD).decode().splitlines()
    assert content == b"{}\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    assert lines == [f"{PLACE},sha256={digest},3", "robust_transfer/__init__.py,sha256=x,6", f"{RECORD},,"]


@pytest.mark.slow
def test_it_is_valid_by_the_schema_of_its_format() -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(text_of(bill())) is None
    broken = bill()
    broken["components"][0]["type"] = "no such thing"
    assert validator.validate_str(json.dumps(broken)) is not None
