"""Bill of materials of the package, CycloneDX 1.6, from the checkout alone: the same bytes on every machine.

python scripts/sbom.py [--out dist]

``check_wheel.py`` puts it into the wheel it builds, at the place that PEP 770 names.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "robust_transfer"
FILE = "robust-transfer.cdx.json"


def bill(root: Path = ROOT) -> dict[str, Any]:
    """Package, licence, required and optional libraries, and packaged weights with their sha256.

    It has neither a date nor a serial number, which would differ at every build.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = version_of(root)
    name = project["name"]
    here = f"pkg:pypi/{name}@{version}"
    extras = {each for what, several in project["optional-dependencies"].items() if what != "dev" for each in several}
    required = [_library(text, "required") for text in sorted(project["dependencies"])]
    optional = [_library(text, "optional") for text in sorted(extras)]
    components = [*required, *optional, *_weights(root)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": here,
                "name": name,
                "version": version,
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": here,
            }
        },
        "components": components,
        "dependencies": [{"ref": here, "dependsOn": [each["bom-ref"] for each in components]}],
    }


def text_of(made: dict[str, Any]) -> str:
    """A bill as the text of its file."""
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def version_of(root: Path) -> str:
    """The version, read without importing the package."""
    found = re.search(r'^__version__ = "([^"]+)"', (root / PACKAGE / "__init__.py").read_text(encoding="utf-8"), re.M)
    assert found is not None
    return found[1]


def add_to(wheel: Path, content: str) -> None:
    """Put a bill into a wheel, and into its list of files; everything else stays as it is."""
    with zipfile.ZipFile(wheel) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    (record,) = (info.filename for info, _ in members if info.filename.endswith(".dist-info/RECORD"))
    place = f"{record.rpartition('/')[0]}/sboms/{FILE}"
    data = content.encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    line = f"{place},sha256={digest},{len(data)}\n".encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, old in members:
            if info.filename != record:
                archive.writestr(info, old)
                continue
            added = zipfile.ZipInfo(place, info.date_time)
            added.external_attr, added.compress_type = info.external_attr, zipfile.ZIP_DEFLATED
            archive.writestr(added, data)
            archive.writestr(info, line + old)


def _library(requirement: str, scope: str) -> dict[str, Any]:
    """Component of a requirement: its name, and its bound as it is written; the version is the environment's to say."""
    name = re.split(r"[<>=!~\[ ]", requirement)[0].lower().replace("_", "-")
    return {
        "type": "library",
        "bom-ref": f"{scope}:{name}",
        "name": name,
        "scope": scope,
        "purl": f"pkg:pypi/{name}",
        "properties": [{"name": "python:requirement", "value": requirement}],
    }


def _weights(root: Path) -> Iterator[dict[str, Any]]:
    for folder in sorted((root / PACKAGE / "weights").iterdir()):
        content = (folder / "model.safetensors").read_bytes()
        yield {
            "type": "machine-learning-model",
            "bom-ref": f"weights:{folder.name}",
            "name": folder.name,
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}],
            "properties": [
                {"name": "robust-transfer:file", "value": f"{PACKAGE}/weights/{folder.name}/model.safetensors"}
            ],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    made = bill()
    (out / FILE).write_text(text_of(made), encoding="utf-8")
    print(f"{out / FILE}: {len(made['components'])} components")


if __name__ == "__main__":
    main()
