"""Coverage-guided fuzzing of each parser of the project, by Atheris (pip install atheris).

python campaigns/fuzzing.py [--runs N] [--only NAME] [--seconds S]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SEED = 1
RUNS = 20_000
LONGEST = 8192  # bytes of an input
DONE = re.compile(r"Done (\d+) runs in (\d+) second")
COVERED = re.compile(r"cov: (\d+)")
MEMORY, SLOWEST = 2048, 20  # MiB of a process, and seconds of one input, beyond which it has failed
WATCHED = ("robust_transfer", "pickletools", "zipfile", "tarfile", "json", "csv", "yaml", "html", "urllib")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=RUNS, help="inputs for each parser; fewer than the usual ones leave no record"
    )
    parser.add_argument("--seconds", type=int, default=300, help="at most so long for each")
    parser.add_argument("--only", help="this parser; no record is written")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside is not None:
        _inside(asked.inside, asked.runs, asked.seconds)
    from fuzz_parsers import PARSERS
    from record import Count, Record

    rows = [_driven(name, asked.runs, asked.seconds) for name in ([asked.only] if asked.only else PARSERS)]
    for row in rows:
        print(
            f"{row['parser']}: {row['runs']} inputs, {row['covered']} edges{', ' + str(row['fault']) if row['fault'] else ''}"
        )
    counts = [Count("parsers", len(rows)), Count("inputs", sum(int(str(row["runs"])) for row in rows))]
    counts += [Count("fewest for one parser", min(int(str(row["runs"])) for row in rows))]
    counts += [
        Count(
            "tracebacks, hangs, memory beyond the limit, code executed",
            sum(bool(row["fault"]) for row in rows),
            must_be=0,
        )
    ]
    record = Record("fuzzing", "Parsers under a coverage-guided fuzzer", tuple(counts), seed=SEED, cases=tuple(rows))
    if asked.only is None and asked.runs >= RUNS:
        print(f"wrote {record.write()}")
    sys.exit(1 if record.failed else 0)


def _driven(name: str, runs: int, seconds: int) -> dict[str, object]:
    """Outcome of one parser, in a process of its own."""
    command = [sys.executable, __file__, "--inside", name, "--runs", str(runs), "--seconds", str(seconds)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, errors="replace")
        left = [path.name for path in Path(folder).rglob("canary*")]
    found, covered = DONE.search(done.stderr), COVERED.findall(done.stderr)
    fault = "" if done.returncode == 0 and not left else f"{left or done.stderr.strip()[-1500:]}"
    print(f"{name}: {found[0] if found else 'ended early'}", flush=True)
    return {
        "parser": name,
        "runs": int(found[1]) if found else 0,
        "covered": int(covered[-1]) if covered else 0,
        "fault": fault,
    }


def _inside(name: str, runs: int, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=list(WATCHED)):
        import fuzz_parsers

        parser = fuzz_parsers.PARSERS[name]
        seeds = [seed for seed in parser.seeds() if len(seed) <= LONGEST]
        parser.refuses(seeds[0])  # what is imported later is imported by now
    corpus = Path(tempfile.mkdtemp(dir="."))
    for number, seed in enumerate(seeds):
        (corpus / f"{number}").write_bytes(seed)

    def one(content: bytes) -> None:
        parser.refuses(content)

    arguments = [
        f"-runs={runs}",
        f"-max_len={LONGEST}",
        f"-timeout={SLOWEST}",
        f"-rss_limit_mb={MEMORY}",
        f"-seed={SEED}",
    ]
    atheris.Setup(["fuzzing", *arguments, f"-max_total_time={seconds}", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
