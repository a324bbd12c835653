"""Self-test of an installation: the whole pipeline in small, with checks that must hold on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from robust_transfer.checkpoint import Checkpoint, load_checkpoint
from robust_transfer.data import Task, load_task
from robust_transfer.evaluation import Evaluation, evaluate, load_evaluation
from robust_transfer.progress import stage
from robust_transfer.run import Run
from robust_transfer.sources import BUNDLED, load_source
from robust_transfer.strategies import LinearProbe

EXAMPLES = 60
ACCURATE, GUESSING = 0.6, 0.3  # of 10 digits, by 20 images a class: far from both on every machine


@dataclass(frozen=True)
class Check:
    """One condition of the self-test. ``problem`` says what was found instead; "" where it holds."""

    name: str
    problem: str
    seconds: float


def self_test(run: Run) -> list[Check]:
    """All checks, in order; stops after one that raised."""
    with TemporaryDirectory() as folder:
        inside = replace(run, out=None, resume=False, overwrite=False, quiet=True)
        return list(_Checks(inside, Path(folder), hidden=run.quiet).all())


class _Checks:
    def __init__(self, run: Run, folder: Path, *, hidden: bool) -> None:
        self.run, self.folder, self.hidden, self.done = run, folder, hidden, list[Check]()
        self.task: Task
        self.made: Checkpoint

    def all(self) -> list[Check]:
        checks: tuple[tuple[str, Callable[[], str]], ...] = (
            ("a probe of the bundled source learns the digits", self._learns),
            ("what is saved comes back, bit for bit", self._comes_back),
            ("an attack of no size breaks nothing, a large one most", self._breaks),
            ("an evaluation comes out the same twice, whatever the batch", self._repeats),
        )
        with stage("testing", len(checks), self.hidden) as bar:
            for name, check in checks:
                begun = time.perf_counter()
                try:
                    problem = check()
                except Exception as error:  # whatever is wrong with the installation is what is asked for
                    problem = f"{type(error).__name__}: {error}"
                    self.done.append(Check(name, problem, time.perf_counter() - begun))
                    break
                self.done.append(Check(name, problem, time.perf_counter() - begun))
                bar.advance(1)
        return self.done

    def _learns(self) -> str:
        self.task = load_task("builtin:digits", shots=20, seed=0)
        run = replace(self.run, out=self.folder / "probe")
        self.made = LinearProbe(l2=0.1)(load_source(BUNDLED), self.task, run=run)
        clean = self._evaluated("linf:0", "fgsm").clean_accuracy.value
        return "" if clean >= ACCURATE else f"only {100 * clean:.0f} % of {EXAMPLES} test images are right"

    def _comes_back(self) -> str:
        again = load_checkpoint(self.folder / "probe")
        return "" if again.hash == self.made.hash else f"weights {self.made.hash} came back as {again.hash}"

    def _breaks(self) -> str:
        none, large = (self._evaluated(threat, "pgd-10") for threat in ("linf:0", "linf:64/255"))
        if none.robust_accuracy != none.clean_accuracy:
            return f"at eps 0 robust accuracy is {none.robust_accuracy} and clean accuracy {none.clean_accuracy}"
        robust = large.robust_accuracy.value
        return "" if robust <= GUESSING else f"at linf:64/255 {100 * robust:.0f} % stand"

    def _repeats(self) -> str:
        out = self.folder / "evaluated"
        first = self._evaluated("linf:8/255", "pgd-5", out=out)
        second = self._evaluated("linf:8/255", "pgd-5", batch=7)
        columns = ["index", "broken_by", "adversarial_prediction"]
        same = first.outcomes[columns].equals(second.outcomes[columns])
        kept = load_evaluation(out).outcomes[columns].equals(first.outcomes[columns])
        return "" if same and kept else "outcomes differ" if not same else "outcomes were not kept as they were"

    def _evaluated(self, threat: str, attack: str, batch: int | None = None, out: Path | None = None) -> Evaluation:
        return evaluate(
            self.made, self.task.test, threat=threat, attack=attack, examples=EXAMPLES, batch_size=batch,
            run=replace(self.run, out=out), red_flag_examples=0, transfer_attack_examples=0,
        )  # fmt: skip
