"""Evidence: networks whose batch-norm statistics were taken under one reading of a file, and who finds that reading again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign import measuring
from robust_transfer.foreign.evidence import Decision, UndecidedError, decide
from robust_transfer.foreign.measuring import Candidate

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu}
NORMALISERS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar10-2470": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar10-2023": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
APART = [name for name in NORMALISERS if name != "cifar10-2470"]


class Net(nn.Module):
    """Three convolutions with batch norm, before which the image is normalised."""

    def __init__(self, normaliser: str, activation: str, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)  # the same weights in every reading
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) for v in NORMALISERS[normaliser])
        self.activate = ACTIVATIONS[activation]
        self.convs = nn.ModuleList(nn.Conv2d(a, 8, 3, stride=2, padding=1) for a in (3, 8, 8))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8, momentum=None) if norm else nn.Identity() for _ in self.convs)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.activate(norm(conv(x)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def photos(n: int, seed: int, contrast: float = 0.25) -> Tensor:
    """Smooth random colours around the mean of natural images."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 4, 4, generator=g) + torch.randn(n, 1, 1, 1, generator=g)
    smooth = F.interpolate(coarse, size=(32, 32), mode="bicubic") / 1.4
    return (torch.tensor([0.49, 0.48, 0.45]).view(1, 3, 1, 1) + contrast * smooth).clamp(0, 1)


def padded_crops(x: Tensor, seed: int) -> Tensor:
    g, wide = torch.Generator().manual_seed(seed), F.pad(x, (4, 4, 4, 4))
    corners = torch.randint(0, 9, (len(x), 2), generator=g).tolist()
    return torch.stack([one[:, i : i + 32, j : j + 32] for one, (i, j) in zip(wide, corners, strict=True)])


@cache
def _trained(normaliser: str, activation: str, cropped: bool = False) -> dict[str, Tensor]:
    """A state whose statistics are those of training under this reading."""
    net, seen = Net(normaliser, activation).train(), photos(2000, seed=1)
    with torch.no_grad():
        for part in (padded_crops(seen, 2) if cropped else seen).split(250):
            net(part)
    return net.state_dict()


def trained(normaliser: str, activation: str, cropped: bool = False) -> dict[str, Tensor]:
    return dict(_trained(normaliser, activation, cropped))


def candidates(state: dict[str, Tensor], normalisers: list[str], activations: list[str]) -> list[Candidate]:
    def build(normaliser: str, activation: str) -> nn.Module:
        net = Net(normaliser, activation)
        net.load_state_dict(state)
        return net

    return [
        Candidate({"normalisation": n, "activation": a}, partial(build, n, a)) for n in normalisers for a in activations
    ]


def decided(state: dict[str, Tensor], images: Tensor, labels: Tensor | None = None) -> tuple[dict[str, str], Decision]:
    chosen, decision = decide(candidates(state, APART, list(ACTIVATIONS)), images, labels)
    return chosen.what, decision


@pytest.mark.parametrize(
    ("normaliser", "activation", "cropped"),
    [*((name, "relu", False) for name in APART), *(("cifar10", name, True) for name in ACTIVATIONS)],
)
def test_the_reading_of_training_is_found_again(normaliser: str, activation: str, cropped: bool) -> None:
    """Also where training cropped at random, whose black borders move the statistics."""
    what, decision = decided(trained(normaliser, activation, cropped), photos(256, seed=3))
    assert what == {"normalisation": normaliser, "activation": activation}
    assert decision.by == "batch-norm statistics"
    assert len(decision.rows) == len(APART) * len(ACTIVATIONS)
    assert [row.chosen for row in decision.rows] == [True] + [False] * (len(decision.rows) - 1)
    distances = [row.distance for row in decision.rows]
    assert None not in distances
    assert distances == sorted(distances, key=lambda d: d or 0.0)


def test_readings_that_compute_the_same_are_one() -> None:
    state = trained("cifar10-2470", "relu")
    chosen, decision = decide(candidates(state, ["cifar10", "cifar10-2470", "none"], ["relu"]), photos(64, seed=3))
    assert chosen.what["normalisation"] == "cifar10"
    assert "2 of them compute the same" in decision.note


def test_weak_evidence_is_refused() -> None:
    state = trained("imagenet", "relu")
    with pytest.raises(UndecidedError, match="the images are too unlike those of training to tell"):
        decided(state, photos(256, seed=3, contrast=0.02))
    with pytest.raises(UndecidedError, match=r"does not tell normalisation \(none or half"):
        decide(candidates(state, ["none", "half"], ["relu"]), None)
    near = candidates(state, ["cifar10", "imagenet"], ["relu"])
    with pytest.raises(UndecidedError, match="the evidence is weak"):
        decide(near, photos(20, seed=4))
    for few in (1, 4, 15):
        with pytest.raises(
            UndecidedError, match=f"{few} images are too few, 16 are needed: .*or give images like those"
        ):
            decide(candidates(state, ["imagenet", "half"], ["relu"]), photos(few, seed=3))


def test_without_batch_norm_labels_are_needed() -> None:
    def build(activation: str) -> nn.Module:
        torch.manual_seed(len(activation))
        return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))

    two = [Candidate({"activation": a}, partial(build, a)) for a in ("relu", "hard-silu")]
    images = photos(200, seed=5)
    with pytest.raises(UndecidedError, match="without batch norm there is no other"):
        decide(two, images)
    with torch.no_grad():
        labels = build("hard-silu").eval()(images).argmax(1)
    chosen, decision = decide(two, images, labels)
    assert (chosen.what["activation"], decision.by) == ("hard-silu", "clean accuracy")
    assert decision.rows[0].accuracy is not None
    assert decision.rows[0].accuracy.value == 1.0


def test_labels_of_other_classes_are_noticed() -> None:
    state, images = trained("cifar10", "relu"), photos(256, seed=3)
    [net] = [each.build().eval() for each in candidates(state, ["cifar10"], ["relu"])]
    with torch.no_grad():
        labels = net(images).argmax(1)
    what, decision = decided(state, images, labels)
    assert what == {"normalisation": "cifar10", "activation": "relu"}
    assert decision.by == "batch-norm statistics and clean accuracy"
    with pytest.raises(UndecidedError, match="right on these images more often than chance"):
        decided(state, images, (labels + 1) % 10)


def test_statistics_and_accuracy_that_disagree_are_refused() -> None:
    state, images = trained("cifar10", "relu"), photos(256, seed=3)
    [other] = [each.build().eval() for each in candidates(state, ["none"], ["silu"])]
    with torch.no_grad():
        labels = other(images).argmax(1)
    with pytest.raises(UndecidedError, match="disagree"):
        decided(state, images, labels)


def test_one_reading_needs_no_evidence_and_is_held_to_it_where_there_is_some() -> None:
    state, images = trained("cifar10", "relu"), photos(64, seed=3)
    [only], [wrong] = (candidates(state, [name], ["relu"]) for name in ("cifar10", "half"))
    assert decide([only], None)[1].by == "the only one"
    fine, far = (decide([each], images)[1] for each in (only, wrong))
    assert (fine.by, fine.note) == ("the only one", "")
    assert "the images' statistics are far from those stored" in far.note
    with torch.no_grad():
        labels = only.build().eval()(images).argmax(1)
    assert decide([only], images, labels)[1].rows[0].accuracy is not None
    with pytest.raises(UndecidedError, match="more often than chance"):
        decide([only], images, (labels + 1) % 10)


def test_images_of_another_contrast_do_not_decide_a_normaliser() -> None:
    """The network reads CIFAR-10's normaliser; images of lower contrast fit one of lower deviations better."""
    seen = photos(256, seed=3)
    two = candidates(trained("cifar10", "relu"), ["cifar10", "cifar10-2023"], ["relu"])
    assert decide(two, seen)[0] is two[0]
    mean = seen.mean((0, 2, 3), keepdim=True)
    with pytest.raises(UndecidedError, match=r"contrast or brightness is none of the known data sets', and .*cifar10 "):
        decide(two, mean + 0.8 * (seen - mean))


def test_a_head_of_zeros_does_not_make_all_readings_one() -> None:
    state = trained("cifar10", "relu")
    state |= {"head.weight": torch.zeros(10, 8), "head.bias": torch.zeros(10)}
    what, decision = decided(state, photos(256, seed=3))
    assert (what["normalisation"], decision.by) == ("cifar10", "batch-norm statistics")
    assert "compute the same" not in decision.note


def test_dead_layers_and_outputs_that_are_not_finite() -> None:
    state = trained("cifar10", "relu")
    dead = {key: torch.zeros_like(value) if key.endswith("running_var") else value for key, value in state.items()}
    with pytest.raises(UndecidedError, match="without batch norm there is no other"):
        decided(dead, photos(64, seed=3))  # not a perfect match
    state["convs.0.weight"] = state["convs.0.weight"] * 1e38
    with pytest.raises(CheckpointError, match=r"outputs are not finite \(with normalisation none"):
        decided(state, photos(64, seed=3))


def test_passes_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of groups that took several passes, of different sizes, and of inputs whose sums cancel out in float32."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)
    )
    net.eval()
    x = torch.rand(40, 3, 8, 8)
    x[:, 2] = 0.5 + 1e-4 * x[:, 2]  # its mean is 17,000 times its deviation
    found = []
    for at_once in (10**6, 3 * 8**2):
        monkeypatch.setattr(measuring, "AT_ONCE", at_once)
        with torch.no_grad():
            found.append(measuring._look(net, x))
    torch.testing.assert_close(found[0], found[1])
    with torch.no_grad():
        inputs = (x.double(), net[1].double()(net[0].double()(x.double())))
    groups = [torch.arange(40)] + [
        torch.tensor([i for i in range(40) if i not in set(out.tolist())]) for out in torch.arange(40).tensor_split(8)
    ]
    for distance, rows in zip(found[1][1], groups, strict=True):
        layers = []
        for given in inputs:
            mean, var = given[rows].mean((0, 2, 3)), given[rows].var((0, 2, 3), correction=0)
            layers.append(torch.log1p((var + 1e-5 - 1 - torch.log(var + 1e-5) + mean**2) / 2).mean())
        assert distance == pytest.approx(float(torch.stack(layers).mean()), rel=1e-5)
