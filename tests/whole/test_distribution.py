"""Checks of a wheel, the lowest versions, and the single place of the version."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

from check_wheel import complaints, contents_of, expected_contents, version_of
from lowest import PYPROJECT, lowest, requirements

import robust_transfer
from robust_transfer.tracking import TRACKERS

METADATA = "robust_transfer-1.2.3.dist-info/METADATA"


def test_a_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    expected = expected_contents(PYPROJECT.parent)
    kinds = ("py.typed", "weights/bundled/model.safetensors", "study/recipes/pairs.yaml", "drawing/demo.html", "run.py")
    assert expected >= {f"robust_transfer/{name}" for name in kinds}
    assert not any("__pycache__" in name or name.startswith("tests/") for name in expected)
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as archive:
        archive.writestr(METADATA, "Metadata-Version: 2.4\nName: robust-transfer\nVersion: 1.2.3\n\nVersion: 9\n")
        for name in {*expected, "tests/test_run.py"} - {"robust_transfer/py.typed"}:
            archive.writestr(name, "")
    assert complaints(contents_of(tmp_path / "some.whl"), expected) == [
        "the wheel lacks robust_transfer/py.typed",
        "the wheel holds tests/test_run.py, which is no part of the package",
    ]
    assert version_of(tmp_path / "some.whl") == "1.2.3"
    assert complaints({METADATA, *expected}, expected) == []


def test_the_lowest_versions_are_the_bounds() -> None:
    assert lowest(["torch>=2.11", "a-b_c>=1.0.2", "ruff==0.1", "any", "x>=1,<2"]) == ["torch==2.11", "a-b_c==1.0.2"]
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    assert len(lowest(project["dependencies"])) == len(project["dependencies"]), "every library has a lower bound"
    constraints = lowest(requirements())
    assert {"scikit-learn==1.6", "mlflow==2.20", "foolbox==3.3", "onnxruntime==1.20"} <= set(constraints)
    names = [constraint.partition("==")[0] for constraint in constraints]
    assert len(set(names)) == len(names), "an extra asks for another version than the rest"


def test_tools_are_pinned_and_libraries_are_not() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    libraries = [
        *project["dependencies"],
        *extras["autoattack"],
        *extras["bench"],
        *extras["clip"],
        *extras["corruptions"],
        *extras["lora"],
        *extras["ray"],
        *extras["export"],
    ]
    libraries += [each for name in TRACKERS for each in extras[name]]
    assert not [each for each in libraries if set("=<~!") & set(each.replace(">=", ""))]
    assert {each for each in extras["dev"] if "==" not in each} == {
        *extras["autoattack"],
        *extras["clip"],
        *extras["corruptions"],
        *extras["lora"],
        *extras["ray"],
        *extras["export"],
        *extras["tensorboard"],
    }
    assert {*extras["docs"]} <= {*extras["dev"]}
    assert all("==" in each for each in extras["docs"])


def test_the_version_has_one_place() -> None:
    settings = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    assert "version" not in settings["project"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "robust_transfer.__version__"}
    lines = Path(robust_transfer.__file__).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("__version__")] == [
        f'__version__ = "{robust_transfer.__version__}"'
    ]
