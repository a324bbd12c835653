"""Catalogue of registered names, read from the source files without importing them: ``list`` must not wait for PyTorch.

If other packages add to a registry, their entry points have to run, and the registry itself is asked.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from robust_transfer.errors import UnknownNameError
from robust_transfer.registry import unknown

PACKAGE = Path(__file__).resolve().parents[1]
# kind of the command line -> the package whose files register, and its registry
REGISTRIES = {
    "pretraining": ("pretraining", "PRETRAINING"),
    "strategies": ("strategies", "STRATEGIES"),
    "attacks": ("attacks", "ATTACKS"),
    "data": ("data.formats", "FORMATS"),
}
SPOKEN = {"pretraining": "pretraining method", "strategies": "strategy", "attacks": "attack", "data": "data format"}


def catalogue(kind: str) -> list[tuple[str, str, str]]:
    """``(name, summary, paper)`` of everything registered of a kind of :data:`REGISTRIES`, in registration order."""
    package, registry = REGISTRIES[kind]
    if entry_points(group=f"robust_transfer.{kind}"):
        loaded = getattr(import_module(f"robust_transfer.{package}"), registry)
        return [(entry.name, entry.summary, entry.paper) for entry in loaded]
    return list(read_registrations(PACKAGE.joinpath(*package.split(".")), registry))


def check_name(kind: str, name: str) -> None:
    """Refuse a name that is not registered, before PyTorch is loaded; the registry does where other packages add to it.

    Raises :class:`UnknownNameError`.
    """
    if entry_points(group=f"robust_transfer.{kind}"):
        return
    names = [known for known, _, _ in catalogue(kind)]
    if name not in names:
        raise UnknownNameError(unknown(SPOKEN[kind], name, names))


def read_registrations(package: Path, registry: str) -> Iterator[tuple[str, str, str]]:
    """Registrations by decorators in a package's modules, in the order in which its ``__init__`` imports them."""
    for module in _imported(package):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else []:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"{registry}.register":
                    told = {keyword.arg: ast.literal_eval(keyword.value) for keyword in decorator.keywords}
                    yield ast.literal_eval(decorator.args[0]), told["summary"], told["paper"]


def networks() -> dict[str, str]:
    """Our own networks, with a summary line each."""
    found: dict[str, str] = {}
    for module in _imported(PACKAGE / "networks"):
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NETWORKS":
                found |= ast.literal_eval(node.value)
    return found


def normalisations() -> list[str]:
    """Names of normalisations."""
    for node in ast.parse((PACKAGE / "foreign" / "normalisations.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "NORMALISATIONS":
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError("foreign/normalisations.py names none")


def recipes() -> dict[str, str]:
    """Packaged recipes, with their titles."""
    import yaml

    paths = sorted((PACKAGE / "study" / "recipes").glob("*.yaml"))
    return {path.stem: str(yaml.safe_load(path.read_text(encoding="utf-8"))["title"]) for path in paths}


def _imported(package: Path) -> Iterator[Path]:
    """Package's own modules, each after the modules of the package that it imports."""
    seen: set[Path] = set()

    def visit(path: Path) -> Iterator[Path]:
        seen.add(path)
        for name in _imports(path, package):
            inner = package / f"{name}.py"
            if inner.is_file() and inner not in seen:
                yield from visit(inner)
        yield path

    return visit(package / "__init__.py")


def _imports(path: Path, package: Path) -> Iterator[str]:
    dotted = ".".join(("robust_transfer", *package.relative_to(PACKAGE).parts))
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module == dotted:
                yield from (alias.name for alias in node.names)
            elif node.module.startswith(f"{dotted}."):
                yield node.module.removeprefix(f"{dotted}.")
