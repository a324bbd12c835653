"""Training under noise: the loss is that of the noisy images, and each step has noise of its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import make_classifier
from torch import Tensor

from robust_transfer.errors import ConfigError
from robust_transfer.pretraining import Noise
from robust_transfer.pretraining.noise import NoiseObjective
from robust_transfer.training import Batch


def test_the_network_reads_images_with_noise_of_this_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, seen = make_classifier(0), list[Tensor]()
    objective = NoiseObjective(classifier, 0.5, seed=3)
    ids = torch.arange(200)
    images, labels = torch.rand(200, 3, 8, 8), ids % 10

    def look(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(len(x), 10) + x.mean((1, 2, 3))[:, None] * torch.arange(10)

    monkeypatch.setattr(objective.classifier, "forward", look)
    first = objective(Batch(images, labels, ids, ids, 0))
    objective(Batch(images, labels, ids, ids, 1))
    objective(Batch(images[5:7], labels[5:7], ids[5:7], ids[5:7], 1))
    noise = seen[0] - images
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert abs(float(noise.mean())) < 0.01
    assert float(seen[0].min()) < -0.5  # not clipped
    assert not torch.equal(seen[0], seen[1])
    torch.testing.assert_close(seen[2], seen[1][5:7])
    torch.testing.assert_close(first["loss"], F.cross_entropy(look(images + noise), labels))


def test_without_noise_it_is_another_method() -> None:
    with pytest.raises(ConfigError, match="natural trains without it"):
        Noise(sigma=0)
    assert Noise().sigma == 0.25
