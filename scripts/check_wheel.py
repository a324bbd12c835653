"""Build the distributions, check what the wheel holds, install it into a clean environment, and use it from there.

python scripts/check_wheel.py [--out dist] [--libraries PATH/TO/site-packages]

The clean environment takes all libraries from pip, PyTorch among them: minutes, and gigabytes of a temporary folder. With
``--libraries`` only the wheel itself is installed, and the libraries are those of another environment: seconds, and no
proof that the wheel asks for all that it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import sbom

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = "robust_transfer"


def build(out: Path) -> Path:
    """Make the source distribution and, from that, the wheel, which gets its bill of materials; returns the wheel's path."""
    with tempfile.TemporaryDirectory() as folder:
        call(sys.executable, "-m", "build", "--outdir", folder, CHECKOUT)
        out.mkdir(parents=True, exist_ok=True)
        made = [Path(shutil.move(path, out / path.name)) for path in sorted(Path(folder).iterdir())]
    (wheel,) = (path for path in made if path.suffix == ".whl")
    sbom.add_to(wheel, sbom.text_of(sbom.bill(CHECKOUT)))
    return wheel


def contents_of(wheel: Path) -> set[str]:
    """The names of a wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def expected_contents(root: Path) -> set[str]:
    """Every file of the package in a checkout, but for what Python caches."""
    files = (path for path in (root / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in files}


def complaints(found: set[str], expected: set[str]) -> list[str]:
    """The differences between a wheel's files and those of the checkout, one sentence each."""
    metadata = {name for name in found if name.split("/")[0].endswith(".dist-info")}
    lacking = [f"the wheel lacks {name}" for name in sorted(expected - found)]
    extra = sorted(found - metadata - expected)
    return lacking + [f"the wheel holds {name}, which is no part of the package" for name in extra]


def version_of(wheel: Path) -> str:
    """The version in a wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return str(HeaderParser().parsestr(archive.read(name).decode())["Version"])


def install(wheel: Path, folder: Path, libraries: Path | None) -> Path:
    """Make an environment that holds the wheel; returns its folder of executables."""
    venv.create(folder, with_pip=True)
    bin = folder / ("Scripts" if os.name == "nt" else "bin")
    call(bin / "python", "-m", "pip", "install", "--quiet", *(["--no-deps"] if libraries else []), wheel)
    if libraries:
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = Path(call(bin / "python", "-c", code).strip())
        # A path in a .pth file is searched last, and the .pth files inside it (editable installs) are not read.
        (own / "libraries.pth").write_text(f"{libraries.resolve()}\n")
    return bin


def use(bin: Path, folder: Path, version: str) -> None:
    """Call the installed command from outside the checkout: its version, `list`, a transfer and its evaluation."""
    command = bin / "robust-transfer"
    home = call(bin / "python", "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", cwd=folder).strip()
    require(CHECKOUT not in Path(home).parents, f"{home} is the checkout's, not the wheel's")
    said = call(command, "--version", cwd=folder).strip()
    require(said == f"robust-transfer {version}", f"--version says {said!r}, the wheel's metadata {version!r}")
    listed = call(command, "list", cwd=folder)
    recipes = sorted(path.stem for path in (CHECKOUT / PACKAGE / "study" / "recipes").glob("*.yaml"))
    for name in ("bundled", "builtin:digits", "linear-probe", *recipes):
        require(name in listed, f"`list` does not name {name}")
    data = ("--data", "builtin:digits", "--quiet")
    call(command, "transfer", "--source", "bundled", "--strategy", "linear-probe", "--shots", "20", *data,
         "--out", "probe", cwd=folder)  # fmt: skip
    how = (
        "--threat",
        "linf:2/255",
        "--attack",
        "pgd-5",
        "--examples",
        "50",
        "--red-flag-examples",
        "0",
        "--transfer-attack-examples",
        "0",
    )
    call(command, "evaluate", "probe", *data, *how, "--out", "evaluated", cwd=folder)
    figures = json.loads((folder / "evaluated" / "evaluation.json").read_text())
    clean, robust = (figures[f"{name}_accuracy"]["value"] for name in ("clean", "robust"))
    print(f"linear probe on digits: {clean:.0%} clean, {robust:.0%} under PGD-5 at linf 2/255, of 50 images")
    require(0.5 < clean <= 1, "a linear probe on the bundled source tells most digits apart; this one does not")
    require(0.1 < robust <= clean, "the bundled source is robust; this result is not")


def require(holds: bool, complaint: str) -> None:
    """End with a complaint unless a condition holds."""
    if not holds:
        sys.exit(f"wheel: {complaint}")


def call(*words: str | Path, cwd: Path | None = None) -> str:
    """Run a command without any search path of ours; returns what it printed, or ends with what went wrong."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    child = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)
    require(child.returncode == 0, f"{' '.join(map(str, words))}\n{child.stdout[-3000:]}{child.stderr[-3000:]}")
    return child.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "dist")
    parser.add_argument("--libraries", type=Path, help="site-packages of another environment, instead of pip's")
    given = parser.parse_args()
    begun = time.monotonic()
    wheel = build(given.out)
    differences = complaints(contents_of(wheel), expected_contents(CHECKOUT))
    require(not differences, "\n".join(differences))
    print(f"{wheel}: {len(contents_of(wheel))} files, {time.monotonic() - begun:.0f} s")
    with tempfile.TemporaryDirectory(prefix="robust-transfer-wheel-") as folder:
        bin = install(wheel, Path(folder) / "environment", given.libraries)
        print(f"installed into a clean environment, {time.monotonic() - begun:.0f} s", flush=True)
        work = Path(folder) / "work"
        work.mkdir()
        use(bin, work, version_of(wheel))
    print(f"the wheel works, {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
