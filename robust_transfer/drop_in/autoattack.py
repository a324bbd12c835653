"""Drop-in AutoAttack: the reference's signature and log lines (Croce & Hein 2020) in front of our engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robust_transfer.attacks import APGD, Attack, PyAutoAttack, Square, TargetedAPGD
from robust_transfer.attacks.naming import with_parts, without_source
from robust_transfer.drop_in.running import Running
from robust_transfer.errors import ConfigError
from robust_transfer.mixture import mixed_head
from robust_transfer.registry import unknown
from robust_transfer.run import Run
from robust_transfer.threat import Threat

VERSIONS = ("standard", "plus", "rand", "custom")
THROUGH_PARTS = ("standard", "plus")  # versions that also attack a mixture of two networks through each of them
NORMS = {"Linf": "linf", "L2": "l2"}
# What `plus` adds to `standard`: full climbs towards all classes, restarts, and random search at its full length.
PLUS = "apgd-100:restarts=5+apgd-100:loss=dlr,restarts=5+apgd-t-100+square-5000"


# Settings of the reference's attacks by its names. With slots: a setting that does nothing here is refused, not ignored.
@dataclass(slots=True)
class Climbing:
    """Settings of Auto-PGD."""

    n_restarts: int = 5
    n_iter: int = 100
    eot_iter: int = 1


@dataclass(slots=True)
class Targeted:
    """Settings of targeted Auto-PGD."""

    n_restarts: int = 1
    n_iter: int = 100
    eot_iter: int = 1
    n_target_classes: int = 9


@dataclass(slots=True)
class Fab:
    """Settings of FAB."""

    n_restarts: int = 5
    n_iter: int = 100


@dataclass(slots=True)
class Searching:
    """Settings of Square."""

    n_restarts: int = 1
    n_queries: int = 5000


class AutoAttack:
    """Evaluation of a model's robustness, a stand-in for the reference implementation: one changed import.

    ``model``: anything that gives logits ``(B, K)`` for images ``(B, C, H, W)`` in [0, 1]; it stays on its device and is
    attacked in evaluation mode. ``norm`` is Linf or L2 and ``eps`` its budget. ``version``:

    - ``standard`` is the suite ``strong`` (docs/trust.md says what it is worth beside the reference);
    - ``plus`` adds five restarts of Auto-PGD with two losses, full climbs towards nine classes and Square's 5,000 queries;
    - ``rand`` is for models that are random: Auto-PGD with two losses, each gradient the mean of 20;
    - ``custom`` runs ``attacks_to_run``: the reference's names (apgd-ce, apgd-dlr, apgd-t, square; fab and fab-t by the
      reference itself, an extra) with the settings in ``apgd``, ``apgd_targeted``, ``fab`` and ``square``, or ours
      (``pgd-20:loss=margin``).

    A mixture of two networks is attacked through each of them, too, by ``standard`` and ``plus``; what other versions leave
    out there is said.

    ``seed`` None stands for 0: the noise is always a function of the seed and the image, and on the CPU verdicts depend on
    neither ``bs`` nor the other images. ``device``: where the images are attacked; None: where the model is. What
    ``verbose`` prints is also appended to ``log_path``. Beyond the reference: ``time_limit`` (seconds) ends a run in time,
    with a fair word on what is then known; ``precision`` and ``threads`` as in :class:`Run`.
    Raises :class:`ConfigError` for what does not fit, such as norm L1.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Tensor],
        norm: str = "Linf",
        eps: float = 0.3,
        seed: int | None = None,
        verbose: bool = True,
        attacks_to_run: Sequence[str] | None = None,
        version: str = "standard",
        is_tf_model: bool = False,
        device: str | torch.device | None = None,
        log_path: str | os.PathLike[str] | None = None,
        *,
        attacks: Sequence[str] | None = None,
        time_limit: float | None = None,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        threads: int | None = None,
    ) -> None:
        if is_tf_model:
            raise ConfigError("models of TensorFlow are not attacked: give a PyTorch module, or a function of tensors")
        if norm not in NORMS:
            raise ConfigError(unknown("norm", norm, list(NORMS)))
        named = attacks_to_run or attacks or []
        if named and version != "custom":
            raise ConfigError("attacks_to_run is for version='custom': every other version has its own attacks")
        self.model, self.norm, self.epsilon, self.seed = model, norm, float(eps), seed
        self.verbose, self.log_path = verbose, Path(log_path) if log_path is not None else None
        self.device, self.time_limit = device, time_limit
        self.precision, self.threads = precision, threads
        self.apgd, self.apgd_targeted, self.fab, self.square = Climbing(), Targeted(), Fab(), Searching()
        self.attacks_to_run = list(named)
        self.set_version(version)
        self.planned()  # a wrong name is refused before anything is computed

    def set_version(self, version: str = "standard") -> None:
        """Set the attacks of a version; ``custom`` keeps the current ones."""
        if version not in VERSIONS:
            raise ConfigError(unknown("version", version, list(VERSIONS)))
        self.version = version
        if version != "custom":
            self.attacks_to_run = list(_SUITES[version])
            if version in THROUGH_PARTS and self._is_mixture:
                self.attacks_to_run += [str(attack) for attack in with_parts("strong", [])]

    def run_standard_evaluation(
        self,
        x_orig: Tensor,
        y_orig: Tensor,
        bs: int = 250,
        return_labels: bool = False,
        state_path: str | os.PathLike[str] | None = None,
        *,
        batch_size: int | None = None,
    ) -> Any:
        """Attack ``x_orig`` ``(N, C, H, W)`` in [0, 1] with labels ``(N,)``, each attack on the earlier ones' survivors.

        Returns the adversarial images, the clean ones where no attack succeeded; with ``return_labels`` also the
        model's predictions for them. ``bs`` (or ``batch_size``): images attacked at a time. With ``state_path`` the
        state is written there at least every minute, and an interrupted call resumes from it; it holds the
        adversarial images, too. Raises :class:`OutputError` for the state of another run.
        """
        names = self._to_run()
        self.log(f"using {self.version} version including {', '.join(names)}.")
        self._say_left_out(names)
        run = self._running(names, x_orig, y_orig, batch_size or bs, self.log)
        known = run.work(Path(state_path) if state_path is not None else None)
        return (known.adversarial, known.predicted) if return_labels else known.adversarial

    def run_standard_evaluation_individual(
        self,
        x_orig: Tensor,
        y_orig: Tensor,
        bs: int = 250,
        return_labels: bool = False,
        *,
        batch_size: int | None = None,
    ) -> dict[str, Any]:
        """Adversarial images of each attack alone, by its name: every attack takes all images."""
        names = self._to_run()
        self.log(f"using {self.version} version including {', '.join(names)}")
        self._say_left_out(names)
        found: dict[str, Any] = {}
        for name in names:
            started = time.perf_counter()
            run = self._running([name], x_orig, y_orig, batch_size or bs, lambda line: None)
            known = run.work()
            found[name] = (known.adversarial, known.predicted) if return_labels else known.adversarial
            took = time.perf_counter() - started
            self.log(f"robust accuracy by {name.upper()} \t {known.share():.2%} \t (time attack: {took:.1f} s)")
        return found

    def clean_accuracy(self, x_orig: Tensor, y_orig: Tensor, bs: int = 250) -> float:
        """Accuracy of the model on the images, which may be adversarial ones."""
        share = self._running([], x_orig, y_orig, bs, lambda line: None).work().share()
        self.log(f"clean accuracy: {share:.2%}")
        return share

    def log(self, line: str) -> None:
        """Print a line, if ``verbose``, and append it to the log."""
        if not self.verbose:
            return
        print(line, flush=True)
        if self.log_path is not None:
            with self.log_path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    @property
    def _is_mixture(self) -> bool:
        return isinstance(self.model, nn.Module) and mixed_head(self.model) is not None

    def _say_left_out(self, names: Sequence[str]) -> None:
        """Log what the attacks on a mixture of two networks lack."""
        if self._is_mixture and not any(attack.needs_parts for attack in self._attacks(names)):
            self.log("not attacked through each of the mixture's two networks: add through-parts to attacks_to_run")

    def _to_run(self) -> list[str]:
        if not self.attacks_to_run:  # without one, the clean accuracy would pass for the robust one
            raise ConfigError("there are no attacks: give attacks_to_run, such as ['apgd-ce', 'apgd-t']")
        return list(self.attacks_to_run)

    def planned(self) -> list[Attack]:
        """Attacks in ``attacks_to_run``, with the current settings. Raises :class:`ConfigError`."""
        return self._attacks(self.attacks_to_run)

    def _attacks(self, names: Sequence[str]) -> list[Attack]:
        return [attack for name in names for attack in self._named(name)]

    def _running(self, names: Sequence[str], x: Tensor, y: Tensor, bs: int, log: Callable[[str], None]) -> Running:
        device = self.device if self.device is not None else _where(self.model, x)
        return Running(
            model=self.model if isinstance(self.model, nn.Module) else _Called(self.model),
            attacks=self._attacks(names),
            threat=Threat(norm=NORMS[self.norm], eps=self.epsilon),
            run=Run(
                seed=self.seed or 0, device=str(device), precision=self.precision, threads=self.threads, quiet=True
            ),
            clean=x,
            labels=y,
            batch_size=bs,
            random=self.version == "rand",
            seconds=self.time_limit,
            log=log,
        )

    def _named(self, name: str) -> list[Attack]:
        """Attacks of one entry of ``attacks_to_run``."""
        if name in ("apgd-ce", "apgd-dlr"):
            how, loss = self.apgd, name.removeprefix("apgd-")
            return [APGD(steps=how.n_iter, restarts=how.n_restarts, loss=loss, eot=how.eot_iter)]
        if name == "apgd-t":
            aimed = self.apgd_targeted
            return [
                TargetedAPGD(
                    steps=aimed.n_iter, targets=aimed.n_target_classes, restarts=aimed.n_restarts, eot=aimed.eot_iter
                )
            ]
        if name == "square":
            return [Square(queries=self.square.n_queries, restarts=self.square.n_restarts)]
        if name in ("fab", "fab-t"):
            return [PyAutoAttack(only=name, steps=self.fab.n_iter, restarts=self.fab.n_restarts)]
        attacks = without_source(name)
        return with_parts(name, attacks) if self._is_mixture else attacks


_SUITES: dict[str, list[str]] = {
    "standard": [str(attack) for attack in without_source("strong")],
    "plus": [str(attack) for attack in without_source(f"strong+{PLUS}")],
    "rand": ["apgd-100:eot=20", "apgd-100:loss=dlr,eot=20"],
}


class _Called(nn.Module):
    """Module around a function of images."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Output of the function."""
        return self.function(x)


def _where(model: nn.Module | Callable[[Tensor], Tensor], x: Tensor) -> torch.device:
    """Device of a module's weights; of the images, if it has none."""
    parts = (*model.parameters(), *model.buffers()) if isinstance(model, nn.Module) else ()
    return next((tensor.device for tensor in parts), x.device)
