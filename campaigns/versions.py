"""Version matrix in docs/survival.md: golden figures and the core of the tests in several Pythons and PyTorches.

python campaigns/versions.py [python3.13:newest ...] [--environments FOLDER] [--only golden|tests]

Each environment is PYTHON:LIBRARIES; LIBRARIES is oldest (the lowest version of all that is required), newest (what pip
gives), a version of PyTorch, or installed (PYTHON's own). Environments that are not named keep their rows. Without a
name all of ENVIRONMENTS are tried.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from environments import Wanted
from page import PAGE, with_table
from record import FOLDER, ROOT, Count, Record, read
from table import markdown

NAME = "versions"
ENVIRONMENTS = ("python3.11:oldest", "python3.11:newest", "python3.12:newest", "python3.13:newest", "python3.14:newest")
BEGIN, END = "<!-- matrix: campaigns/versions.py -->", "<!-- end of matrix -->"
# Starts of a Python: processes, the instructions that kernels may use, and cases (threads, precision of attack steps).
STARTS = (
    (1, "all", ("1:float32", "2:float32", "1:bfloat16")),
    (2, "all", ("1:float32",)),
    (1, "AVX2", ("1:float32",)),
)
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
CORE = [
    "test_checkpoint",
    "test_classifier",
    "test_config",
    "test_randomness",
    "test_threat",
    "test_weights_file",
    "attacks/test_pgd",
    "data/test_loading",
    "data/test_split",
    "evaluation/test_loop",
    "strategies/test_softmax",
    "training/test_state",
    "whole/test_earlier_release",
    "whole/test_golden",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("environments", nargs="*", type=Wanted.parse, default=[*map(Wanted.parse, ENVIRONMENTS)])
    parser.add_argument(
        "--environments", dest="folder", type=Path, default=Path.home() / ".cache" / "robust-transfer-versions"
    )
    parser.add_argument("--only", choices=("golden", "tests"))
    asked = parser.parse_args()
    for wanted in asked.environments:
        python = wanted.made_in(asked.folder.expanduser().resolve())
        if asked.only != "tests":
            for start in STARTS:
                keep(rows_of(wanted, python, *start))
        if asked.only != "golden":
            keep([tests_of(wanted, python)])


def keep(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to the record, in place of earlier ones of the same case, and both tables to the page."""
    record = merged(read(FOLDER), rows)
    sys.argv[1:] = dict.fromkeys(row["environment"] for row in record.cases)  # the command that makes the whole record
    record.write()
    page = with_table(PAGE.read_text(encoding="utf-8"), read(FOLDER))
    PAGE.write_text(with_matrix(page, record), encoding="utf-8")
    print(matrix(record), flush=True)


def rows_of(wanted: Wanted, python: Path, processes: int, kernels: str, cases: Sequence[str]) -> list[dict[str, Any]]:
    """Row of each case: how many golden figures are the same bits, within tolerance, and which differ."""
    launch = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    )
    environment = {**_plain(1), **(AVX2 if kernels != "all" else {})}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "golden.json"
        words = [str(ROOT / "campaigns" / "golden.py"), "--cases", *cases, "--json", str(out)]
        done = subprocess.run([python, *launch, *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{wanted}, {processes} processes: {done.stderr[-2000:]}")
        made = json.loads(out.read_text(encoding="utf-8"))
    versions = dict(each.rsplit(" ", 1) for each in made["conditions"]["versions"].split(", "))
    said = {"environment": str(wanted), **{name: versions[name] for name in ("python", "torch")}}
    said |= {"hardware": made["conditions"]["hardware"], "commit": made["conditions"]["commit"], "processes": processes}
    rows = []
    for case in made["cases"]:
        threads, precision, *_ = case["case"].split(":")
        found = Counter(row["verdict"] for row in case["rows"])
        asked = {"threads": int(threads), "precision": precision, "kernels": kernels}
        others = [row for row in case["rows"] if row["verdict"] != "bit-equal"]
        rows.append({**said, **asked, **{name: found[name] for name in VERDICTS}, "others": others})
    return rows


VERDICTS = ("bit-equal", "within tolerance", "differs")


def tests_of(wanted: Wanted, python: Path) -> dict[str, Any]:
    """Row of the tests of CORE: how many passed, failed and were skipped, with one thread."""
    facts = "import json, platform, torch; print(json.dumps([platform.python_version(), torch.__version__.partition('+')[0]]))"
    version, torch = json.loads(
        subprocess.run([python, "-c", facts], capture_output=True, text=True, check=True).stdout
    )
    words = [
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow and not browser",
        *(f"tests/{name}.py" for name in CORE),
    ]
    done = subprocess.run([python, *words], env=_plain(1), cwd=ROOT, capture_output=True, text=True, check=False)
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout[-300:])
    }
    if not counts:
        raise SystemExit(f"{wanted}: the tests did not run\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    if done.returncode:
        print(done.stdout[-4000:], flush=True)
    found = {"passed": counts.get("passed", 0), "failed": counts.get("failed", 0) + counts.get("error", 0)}
    found["skipped"] = counts.get("skipped", 0)
    return {"environment": str(wanted), "python": version, "torch": torch, "tests": found}


def merged(before: Sequence[Record], rows: Sequence[Mapping[str, Any]]) -> Record:
    """Record of these rows and of all earlier ones of other cases."""
    earlier = [row for record in before if record.name == NAME for row in record.cases]
    known = {_case(row): row for row in (*earlier, *rows)}
    cases = tuple(known[key] for key in sorted(known))
    golden, tests = [row for row in cases if "tests" not in row], [row["tests"] for row in cases if "tests" in row]
    counts = (
        Count("environments", len({row["environment"] for row in cases})),
        Count("golden figures compared", sum(row[name] for row in golden for name in VERDICTS)),
        Count("the same bits as golden", sum(row["bit-equal"] for row in golden)),
        Count("others, within tolerance", sum(row["within tolerance"] for row in golden)),
        Count("outside it", sum(row["differs"] for row in golden), must_be=0),
        Count("tests passed", sum(each["passed"] for each in tests)),
        Count("tests failed", sum(each["failed"] for each in tests), must_be=0),
    )
    return Record(NAME, "Versions", counts, seed=0, cases=cases)


def _case(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Key of a row: its environment, then its settings; tests come last."""
    settings = [row.get(name, 0) for name in ("processes", "threads")] + [
        row.get(name, "") for name in ("precision", "kernels")
    ]
    return (row["environment"], "tests" in row, *settings)


def matrix(record: Record) -> str:
    """Markdown table: a line for each environment and setting."""
    head = (
        "Python",
        "PyTorch",
        "libraries",
        "threads",
        "processes",
        "steps",
        "kernels",
        "same bits",
        "within tolerance",
        "differ",
        "tests",
    )
    lines = []
    for row in record.cases:
        known = (row["python"], row["torch"], row["environment"].rpartition(":")[2])
        if "tests" in row:
            told = "{passed} passed, {failed} failed, {skipped} skipped".format(**row["tests"])
            lines.append((*known, "1", "1", "float32", "all", "", "", "", told))
        else:
            settings = tuple(str(row[name]) for name in ("threads", "processes", "precision", "kernels"))
            lines.append((*known, *settings, *(str(row[name]) for name in VERDICTS), ""))
    return markdown(head, lines)


def with_matrix(page: str, record: Record) -> str:
    """``page`` with the matrix between its two marks drawn anew."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{matrix(record)}\n\n{END}{rest.split(END)[1]}"


def _plain(threads: int) -> dict[str, str]:
    """This environment with the checkout first on the path, and no more threads than asked for."""
    count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {
        **os.environ,
        **count,
        "PYTHONPATH": str(ROOT),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


if __name__ == "__main__":
    main()
