"""Calls that could run code from data: none stands in the package, but for those that are named here with their reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import robust_transfer

PACKAGE = Path(robust_transfer.__file__).parent
BUILTINS = {"eval", "exec", "compile", "__import__"}
# Calls by module and name. `yaml.load` takes a loader, and may make anything without one.
FORBIDDEN = {
    "pickle": {"load", "loads", "Unpickler"},
    "torch": {"load"},
    "joblib": {"load"},
    "yaml": {"load", "load_all", "unsafe_load", "full_load", "unsafe_load_all", "full_load_all"},
    "os": {"system", "popen", "execv", "execve"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "importlib": {"import_module"},
}
# Keywords that turn the same on elsewhere, and their harmless value.
KEYWORDS = {"trust_remote_code": False, "allow_pickle": False, "shell": False, "weights_only": True}
ALLOWED = {
    "__init__.py": {"importlib.import_module"},  # of the package's own modules, which a table there names
    "study/dispatch.py": {"pickle.loads"},  # of what this process has just packed: whether an error can be sent
    "data/class_map.py": {"yaml.load"},  # by BaseLoader, which makes text only
}


def dangerous(source: str) -> Iterator[str]:
    """Dangerous calls in a source text."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in BUILTINS:
            yield called.id
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            module, name = called.value.id, called.attr
            constant = all(isinstance(each, ast.Constant) for each in node.args)
            if name in FORBIDDEN.get(module, ()) and not (module == "importlib" and constant):
                yield f"{module}.{name}"
        for keyword in node.keywords:
            if keyword.arg in KEYWORDS:
                value = keyword.value
                if not (isinstance(value, ast.Constant) and value.value is KEYWORDS[keyword.arg]):
                    yield f"{keyword.arg}="


def test_no_file_of_the_package_can_run_code_from_data() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if said := set(dangerous(path.read_text(encoding="utf-8"))) - ALLOWED.get(name, set()):
            found[name] = said
    assert found == {}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("eval(x)", {"eval"}),
        ("model.eval()", set()),
        ("torch.load(p, weights_only=True)", {"torch.load"}),
        ("np.load(p, allow_pickle=True)", {"allow_pickle="}),
        ("np.load(p, allow_pickle=False)", set()),
        ("yaml.load(text, yaml.Loader)", {"yaml.load"}),
        ("yaml.safe_load(text)", set()),
        ("load_dataset(x, trust_remote_code=flag)", {"trust_remote_code="}),
        ("importlib.import_module(name)", {"importlib.import_module"}),
        ("importlib.import_module('timm')", set()),
    ],
)
def test_a_dangerous_call_would_be_found(source: str, told: set[str]) -> None:
    assert set(dangerous(source)) == told
