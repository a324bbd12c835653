"""``RobustTransferClassifier``: a transfer strategy with scikit-learn's fit, predict and score."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, validate_data

from robust_transfer.attacks import Attack
from robust_transfer.attacks.victim import attacking
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task, to_pixels
from robust_transfer.data.decoded import Decoded
from robust_transfer.data.encoded import ArrayImages
from robust_transfer.data.membership import draw, hold_out
from robust_transfer.data.split import BALANCED
from robust_transfer.errors import ConfigError
from robust_transfer.estimator.pixels import ImageShape, Pictures, PixelRange, Pixels
from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation import evaluate as evaluate_model
from robust_transfer.modes import on_device
from robust_transfer.progress import hushed
from robust_transfer.run import Precision, Run
from robust_transfer.sources import load_source
from robust_transfer.strategies import STRATEGIES, Strategy, transfer
from robust_transfer.threat import Threat

ClassWeight = Mapping[Any, float] | str | None
BLOCK = 1024  # pictures that are made into pixels at a time


class RobustTransferClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier of pictures that hands a robust source's features on (Shafahi et al. 2020), for scikit-learn.

    ``X``: pictures, uint8 ``(n, H, W, 3)`` or grey ``(n, H, W)``, of any size: they are brought to the source's. A 2-D ``X``
    ``(n, features)`` is refused unless ``image_shape`` says what its rows are: the pixels of pictures of a shape ``(H, W)`` or
    ``(H, W, 3)``; or, with ``"square"``, features of any kind, which are drawn line by line into the smallest square that
    holds them. Values that are not uint8 need a ``pixel_range``: ``(low, high)``, the values of black and white, beyond which
    there is none; or ``"fit"``, the least and the largest value of X in fit, to which others are clipped later. A budget
    such as linf:8/255 is a share of that range.

    ``source``: a name that :func:`load_source` takes, or a checkpoint. ``strategy``: a name of ``robust-transfer list
    strategies``, with its ``settings``, or a strategy. ``val``: the share of X, in [0, 0.5], on which hyper-parameters are
    chosen (by its content: copies stay together, a class of one picture is trained on). ``class_weight``: None, ``"balanced"``
    or ``{label: weight}``; with ``sample_weight`` it counts in what training minimises and in what is chosen on ``val``, as if
    pictures were there so many times. ``random_state`` seeds all that is random. ``cache``: a folder for features and solved
    heads that several fits need. ``verbose`` shows bars on standard error.

    After fit: ``classes_``; ``model_``, the :class:`Checkpoint`, which can be saved (``model_.save(folder)``) and transferred
    from again; ``n_features_in_``, for a 2-D X. Raises ValueError for an X or y that cannot be used, and
    :class:`RobustTransferError` for what else the user can mend.
    """

    def __init__(
        self,
        source: str | PathLike[str] | Checkpoint = "bundled",
        strategy: str | Strategy = "linear-probe",
        *,
        settings: Mapping[str, Any] | None = None,
        image_shape: ImageShape = None,
        pixel_range: PixelRange = None,
        val: float = 0.1,
        class_weight: ClassWeight = None,
        random_state: Any = None,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        cache: str | PathLike[str] | None = None,
        verbose: bool = False,
    ) -> None:
        self.source = source
        self.strategy = strategy
        self.settings = settings
        self.image_shape = image_shape
        self.pixel_range = pixel_range
        self.val = val
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.threads = threads
        self.cache = cache
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's: pictures, and tables only where ``image_shape`` says what their rows are."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = self.image_shape is not None
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from pictures and their labels, each counting as often as ``sample_weight (n,)`` says."""
        strategy, seed = self._strategy(), self._seed()
        given, labels = self._checked(X, y, reset=True)
        check_classification_targets(labels)
        classes, numbers = np.unique(labels, return_inverse=True)
        weights = self._weights(sample_weight, classes, numbers)
        there = weights > 0
        if not there.any():
            raise ValueError("every sample has the weight zero: there is nothing to learn from")
        if len(np.unique(numbers[there])) < 2:
            raise ValueError(f"{type(self).__name__} needs two classes or more to tell apart, and X has one class only")
        self.pixels_ = Pixels.of(self.image_shape, self.pixel_range, given)
        decoded = self._decoded(self.pixels_.pictures(given)[there], numbers[there], _named(classes))
        run = self._run(seed)
        with hushed(not self.verbose), run.at_work():
            task = self._task(decoded, weights[there], seed)
            if self.class_weight == BALANCED and sample_weight is None:
                task = dataclasses.replace(task, weighting=BALANCED)
            source = self.source
            if not isinstance(source, Checkpoint):
                source = load_source(str(source), images=task.train if source == "auto" else None)
            self.model_ = transfer(source, task, strategy, run=run)
        self.classes_ = classes
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits ``(n, K)``; of two classes ``(n,)``, the second's less the first's."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities ``(n, K)``, in the order of ``classes_``: the softmax of the logits."""
        found: NDArray[np.float64] = torch.from_numpy(self._logits(X)).softmax(1).numpy()
        return found

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels ``(n,)``."""
        check_is_fitted(self, "model_")
        found: NDArray[Any] = self.classes_[self._logits(X).argmax(1)]
        return found

    def robust_score(
        self, X: ArrayLike, y: ArrayLike, *, threat: Threat | str | None = None, attack: str | Attack = "pgd-20"
    ) -> float:
        """Robust accuracy: the share of images for which ``attack`` finds no misclassified image within ``threat``.

        ``threat``: such as ``"linf:8/255"``; None: the source's. An upper bound: :meth:`evaluate` adds its interval
        and red flags.
        """
        found = self.evaluate(X, y, threat=threat, attack=attack, red_flag_examples=0, transfer_attack_examples=0)
        return found.robust_accuracy.value

    def evaluate(self, X: ArrayLike, y: ArrayLike, **how: Any) -> Evaluation:
        """Clean and robust accuracy on these images by :func:`robust_transfer.evaluate`, which takes ``how``."""
        check_is_fitted(self, "model_")
        given, labels = self._checked(X, y, reset=False)
        if len(unknown := np.setdiff1d(labels, self.classes_)):
            raise ValueError(f"y has labels that were not learned: {unknown.tolist()}")
        numbers = np.searchsorted(self.classes_, labels)
        decoded = self._decoded(self.pixels_.pictures(given), numbers, self.model_.card.class_names)
        run = how.pop("run", None) or self._run(self._seed())
        split = decoded.split(torch.arange(len(numbers)), "test").prepared(self.model_.preprocessing)
        with hushed(not self.verbose):
            return evaluate_model(self.model_, split, run=run, **how)

    def _strategy(self) -> Strategy:
        if not isinstance(self.strategy, Strategy):
            return STRATEGIES.get(self.strategy).from_settings(self.settings or {})
        if self.settings:
            raise ConfigError(
                "settings are those of a strategy that is given by name: give them to the strategy itself"
            )
        return self.strategy

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _run(self, seed: int) -> Run:
        how = {"device": self.device, "precision": self.precision, "threads": self.threads, "cache": self.cache}
        return Run(seed=seed, quiet=not self.verbose, **how)  # type: ignore[arg-type]

    def _checked(self, X: ArrayLike, y: ArrayLike | None, *, reset: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """X as an array of numbers, and y ``(n,)``, None if it is None; ValueError for anything else."""
        shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
        if len(shape) <= 2:  # tables, and what is none, in scikit-learn's words
            found = validate_data(self, X, *([] if y is None and not reset else [y]), reset=reset)
        elif y is None and not reset:
            found = check_array(X, allow_nd=True)
        else:
            found = check_X_y(X, y, allow_nd=True, estimator=self)
        return found if isinstance(found, tuple) else (found, np.empty(0))

    def _weights(
        self, sample_weight: ArrayLike | None, classes: NDArray[Any], numbers: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        weights = np.ones(len(numbers))
        if sample_weight is not None:
            given = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
            weights = np.full(len(numbers), float(given)) if given.ndim == 0 else given
            if weights.shape != (len(numbers),):
                raise ValueError(
                    f"sample_weight has the shape {weights.shape}: give one weight for each of {len(numbers)}"
                )
            if (weights < 0).any():
                raise ValueError("sample_weight has negative values: an image cannot count less than nothing")
        if self.class_weight is not None:
            each = compute_class_weight(self.class_weight, classes=classes, y=classes[numbers])
            weights = weights * each[numbers]
        return weights

    def _decoded(self, pictures: Pictures, numbers: NDArray[np.int64], names: tuple[str, ...]) -> Decoded:
        return Decoded(ArrayImages(pictures), torch.from_numpy(numbers.astype(np.int64)), names)

    def _task(self, decoded: Decoded, weights: NDArray[np.float64], seed: int) -> Task:
        """Train and val splits of these images; membership depends on content and seed alone."""
        if not 0 <= self.val <= 0.5:
            raise ConfigError(f"val is a share of X between 0 and 0.5, not {self.val}")
        out = np.zeros(len(weights), bool)
        if self.val:
            exact = decoded.fingerprints.exact
            u = draw(exact, "data/val", seed)
            out, _ = hold_out(decoded.labels.numpy(), exact, u, self.val, decoded.class_names)
        train, val = (torch.from_numpy(np.flatnonzero(which)) for which in (~out, out))
        learned = decoded.split(train, "train")
        task = Task("arrays", learned, decoded.split(val, "val", like=learned), learned.subset(train[:0]))
        if (weights == 1).all():
            return task
        given = torch.from_numpy(weights)
        return dataclasses.replace(task, train=task.train.weighted(given[train]), val=task.val.weighted(given[val]))

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits by float32 passes of one size, so that they do not depend on other images; ``(n, K)``."""
        check_is_fitted(self, "model_")
        given, _ = self._checked(X, None, reset=False)
        pictures, rows = self.pixels_.pictures(given), list[torch.Tensor]()
        run, model = self._run(0), self.model_
        device = run.torch_device()
        with run.at_work(), on_device(model.classifier, device), attacking(model.classifier, device) as target:
            for start in range(0, len(pictures), BLOCK):
                block = pictures[start : start + BLOCK]
                decoded = self._decoded(block, np.zeros(len(block), np.int64), model.card.class_names)
                split = decoded.split(torch.arange(len(block)), "test").prepared(model.preprocessing)
                rows.append(target.logits(to_pixels(split.images(), device)).cpu())
        found: NDArray[np.float64] = torch.cat(rows).double().numpy()
        return found


def _named(classes: NDArray[Any]) -> tuple[str, ...]:
    """Class names for the card: the labels as text, numbered if two are equal."""
    names = tuple(str(label) for label in classes.tolist())
    return names if len(set(names)) == len(names) else tuple(f"{number}: {name}" for number, name in enumerate(names))
