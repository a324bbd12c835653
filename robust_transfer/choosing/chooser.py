"""``choose``: from data and a time limit to a recommended network, with a record of its competitors."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from robust_transfer import run_folder
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.choosing.choice import CHOICE, NO_TIME, Choice, Judged, Rule, front, load_choice
from robust_transfer.choosing.clock import Clock
from robust_transfer.choosing.contenders import LEFT_OUT, Contender, closer_look, first_look
from robust_transfer.choosing.gathering import gathered, says_no_threat
from robust_transfer.choosing.judging import ATTACK, ATTACKING, FINAL, Judge
from robust_transfer.config import expect
from robust_transfer.data import Task
from robust_transfer.defaults import DEFAULT_THREAT
from robust_transfer.errors import CheckpointError, ConfigError, DivergedError, NetworkError
from robust_transfer.evaluation import Evaluation, evaluate, load_evaluation
from robust_transfer.launch import is_main_process
from robust_transfer.progress import tell
from robust_transfer.run import Run
from robust_transfer.sources import load_source
from robust_transfer.threat import Threat

VAL_IMAGES, FEWEST = 200, 20  # val images that contenders are judged on, and of which a final judgement needs as many
FOR_FINALISTS, FOR_TEST = 0.15, 0.3  # shares of the time that are kept for them
FINALISTS, NEAR = 4, 0.8  # as many, of those that keep such a share of what the rule asks for
TRIED = "tried"


@dataclass(frozen=True)
class Chosen:
    """Recommended network, record of its choice, and its evaluation on test (None without a test split)."""

    checkpoint: Checkpoint
    choice: Choice
    evaluation: Evaluation | None

    def __str__(self) -> str:
        after, found = list[str](), self.evaluation
        if found is not None:
            after = [f"on test: {found.headline()}"]
            if self.choice.on_classes() is not None and found.balanced_clean_accuracy is not None:
                clean, robust = found.balanced_clean_accuracy, found.balanced_robust_accuracy
                after.append(f"on test, balanced accuracy: clean {clean}, robust {robust}")
        return "\n".join([*self.choice.lines(), *after])


def choose(
    task: Task,
    *,
    sources: Sequence[str | Checkpoint] = (),
    seconds: float = 600.0,
    rule: Rule | None = None,
    threat: Threat | str | None = None,
    run: Run | None = None,
) -> Chosen:
    """Try sources and strategies on ``task`` for ``seconds``, and return the point selected by ``rule`` on their front.

    ``sources``: names or checkpoints; by default the robust ones of the package, the one that fits the images' size
    first. Every source gets a probe; the best of them gets probes of other strengths and LwF, as many as there is time
    for. All are judged on the same val images (at most 200) by ``quick`` at ``threat`` (default: that of the first source,
    else linf:8/255), the finalists by ``strong``; by balanced accuracy where ``task`` is :meth:`Task.balanced`. Of other
    people's networks that do not say what they were trained for, it is taken to be ``threat``.
    Nothing but the last evaluation, of what was chosen, sees the test split.
    With ``run.out`` the network, ``choice.json`` and that evaluation are saved there.
    Raises :class:`ConfigError` without val images, and what the first source raises if no source can be used.
    """
    expect("task", task, Task, hint="such as load_task('builtin:digits')")
    if not 0 < seconds < math.inf:
        raise ConfigError(f"a time limit is a positive number of seconds, not {seconds}")
    if not len(task.val):
        raise ConfigError("choose selects on val, and val is empty: give --val, or more shots")
    run, rule, clock = run or Run(), rule or Rule(), Clock(seconds)
    with run.at_work():
        if (done := _finished(run)) is not None:
            return done
        run.check_out()
        with _workplace(run) as folder:
            return _Choosing(task, rule, threat, run, clock, folder).run_through(sources)


@contextmanager
def _workplace(run: Run) -> Iterator[Path]:
    """Folder for candidates: inside ``run.out``, so that an interrupted choice resumes; else a temporary one."""
    if run.out is not None:
        yield run.out / TRIED
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def _finished(run: Run) -> Chosen | None:
    """Finished choice in ``run.out``, if it may be resumed."""
    if run.out is None or not run.resume or not (run.out / CHOICE).is_file():
        return None
    evaluated = (run.out / "evaluation.json").is_file()
    return Chosen(load_source(str(run.out)), load_choice(run.out), load_evaluation(run.out) if evaluated else None)


class _Choosing:
    """State of one call of :func:`choose`."""

    def __init__(
        self, task: Task, rule: Rule, threat: Threat | str | None, run: Run, clock: Clock, folder: Path
    ) -> None:
        self.task, self.rule, self.threat, self.run, self.clock, self.folder = task, rule, threat, run, clock, folder
        self.found, self.untried, self.sources = list[Judged](), dict[str, str](), dict[str, Checkpoint]()
        self.reserve = FOR_FINALISTS + (FOR_TEST if len(task.test) else 0.0)
        self.judge: Judge | None = None

    def run_through(self, sources: Sequence[str | Checkpoint]) -> Chosen:
        """All of it, from the first look at every source to the evaluation of what was chosen."""
        given = None if self.threat is None else Threat.parse(self.threat)
        self.sources, self.untried = gathered(sources, self.task.train, given)
        judge = self.judge = self._judge()
        self.run.prepare_out()
        run_folder.begin(self.run.out)  # what an earlier choice has tried is not gone on with
        for name in self.sources:
            self._try(first_look(name))
        if not self.found:
            raise DivergedError("; ".join(f"{name}: {why}" for name, why in self.untried.items()))
        for name in self._by_promise():
            for contender in closer_look(name):
                self._try(contender)
        self.untried |= LEFT_OUT
        final = self._finals(judge)
        pool = [one for one in self.found if one.final_robust is not None] if final else self.found
        best, why = self.rule.choose(pool)
        made = judge.made(best)
        choice = self._record(best, why, final, pool)
        card = replace(
            made.card,
            criterion=f"{made.card.criterion}; chosen of {len(self.found)} contenders: {why}",
            cost=judge.cost,
            metrics={
                **made.card.metrics,
                "choice": {"n": best.robust.n, "tried": len(self.found), "threat": choice.threat},
            },
        )
        chosen = replace(made, card=card)
        if self.run.out is not None and is_main_process():
            chosen = chosen.save(self.run.out)
        measured = self._test(chosen)
        if self.run.out is not None and is_main_process():
            choice = replace(choice, seconds=round(self.clock.spent, 1))
            choice.save(self.run.out)
            shutil.rmtree(self.folder, ignore_errors=True)
        return Chosen(chosen, choice, measured)

    # ---------------------------------------------------------------- before

    def _judge(self) -> Judge:
        own = next((c.card.threat for c in self.sources.values() if c.card.threat is not None), None)
        threat = Threat.parse(self.threat if self.threat is not None else own or DEFAULT_THREAT)
        run = replace(self.run, cache=self.run.cache or self.folder / "shared")
        return Judge(self.task, threat, min(VAL_IMAGES, len(self.task.val)), self.folder, run, self.clock)

    # ---------------------------------------------------------------- trying

    def _try(self, contender: Contender) -> None:
        """Train and judge a contender, if it fits into the time; the first one is always trained."""
        judge = self.judge
        assert judge is not None
        takes, has = judge.seconds(contender), self.clock.left - self.reserve * self.clock.seconds
        if self.found and takes > has:
            self.untried[contender.name] = (
                f"{NO_TIME}: about {takes:.0f} s, and {max(has, 0):.0f} s were left for trying"
            )
            return
        tell(self.run.quiet, f"{contender.name} ...")
        try:
            one = judge(contender, self.sources[contender.source])
        except (ConfigError, DivergedError, CheckpointError, NetworkError) as error:
            self.untried[contender.name] = str(error)
            return
        self.found.append(one)
        tell(
            self.run.quiet,
            f"  clean {one.shares[0]}, robust {one.shares[1]} on val ({ATTACK}); {self.clock.left:.0f} s left",
        )

    def _by_promise(self) -> list[str]:
        """Probed sources, the rule's preferred one first."""
        left, order = list(self.found), list[str]()
        while left:
            best, _ = self.rule.choose(left)
            order.append(best.source)
            left.remove(best)
        return order

    # ---------------------------------------------------------------- finals

    def _finals(self, judge: Judge) -> bool:
        """Run the final attack on candidates for the rule, on as many val images as fit into the time.

        False where the time is over: the first attack's figures then count.
        """
        chosen, _ = self.rule.choose(self.found)
        if self.rule.clean is None:
            near = [one for one in front(self.found) if one.point[1] >= NEAR * self.rule.keep * self._most()]
        else:
            near = [one for one in front(self.found) if one.point[0] >= NEAR * self.rule.clean]
        # the most robust one is what shares are taken of
        finalists = list({one.name: one for one in (chosen, *near[-1:], *near)}.values())[:FINALISTS]
        has = self.clock.left - (FOR_TEST if len(self.task.test) else 0.0) * self.clock.seconds
        each = sum(self.clock.forecast(ATTACKING, one.source, judge.final_passes(one)) for one in finalists)
        examples = min(judge.examples, int(has / each) if each else judge.examples)
        if examples < min(FEWEST, judge.examples):
            return False
        for one in finalists:
            tell(self.run.quiet, f"{one.name}: {FINAL} on {examples} val images ...")
            self.found[self.found.index(one)] = judge.final(one, examples)
        return True

    def _most(self) -> float:
        return max(one.point[1] for one in self.found)

    # ---------------------------------------------------------------- after

    def _record(self, best: Judged, why: str, final: bool, pool: Sequence[Judged]) -> Choice:
        judge = self.judge
        assert judge is not None
        notes = []
        shown = best.shares[1]
        rivals = [
            one.name for one in pool
            if one is not best and one.shares[1].high >= shown.low and one.point[0] > best.point[0]
        ]  # fmt: skip
        if rivals:
            notes.append(f"on {shown.n} val images the intervals overlap: {rivals[0]}, more accurate, may be as robust")
        if not final:
            notes.append(
                f"there was no time for {FINAL} on val: the choice rests on {ATTACK}, which leaves too much standing"
            )
        if judge.examples < 100:
            notes.append(f"val has {judge.examples} images: another draw of them could lead to another choice")
        if not len(self.task.test):
            notes.append("there is no test split: figures on val, which the choice was made on, are too good")
        if unsaid := [name for name, c in self.sources.items() if says_no_threat(c)]:
            notes.append(
                f"judged at {judge.threat}; not known is what {', '.join(unsaid)} was trained for (--threat says it)"
            )
        others = {
            f"{name} ({c.card.threat})" for name, c in self.sources.items()
            if c.card.threat is not None and c.card.threat != judge.threat
        }  # fmt: skip
        if others:
            notes.append(f"judged at {judge.threat}; trained for another threat: {', '.join(sorted(others))}")
        return Choice(
            chosen=best.name, why=why, threat=str(judge.threat), rule=self.rule, attack=ATTACK,
            final_attack=FINAL if final else None, tried=tuple(self.found), untried=self.untried, data=self.task.name,
            limit=self.clock.seconds, seconds=round(self.clock.spent, 1), notes=tuple(notes),
            imbalance=self.task.imbalance, weighting=self.task.weighting,
        )  # fmt: skip

    def _test(self, chosen: Checkpoint) -> Evaluation | None:
        """Evaluation on test, in the remaining time: at least the time reserved for it."""
        if not len(self.task.test):
            return None
        judge = self.judge
        assert judge is not None
        limit = max(self.clock.left, FOR_TEST * self.clock.seconds)
        tell(self.run.quiet, f"evaluating the choice on test, for at most {limit:.0f} s ...")
        run = replace(self.run, overwrite=False)
        return evaluate(
            chosen, self.task.test, threat=judge.threat, attack=FINAL, run=run, per_class=True, time_limit=limit,
            keep_deltas=run.out is not None,
        )  # fmt: skip
