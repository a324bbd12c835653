"""Predictions, on a linear model whose distances are known, and on a small network that an attack confirms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import QUIET, make_source
from images import picture
from PIL import Image
from torch import Tensor, nn

from robust_transfer.attacks import PGD
from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import to_pixels
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.prediction import Prediction, predict, predictor
from robust_transfer.preprocessing import Normalisation, Preprocessing
from robust_transfer.threat import Threat

SIZE, CLASSES = 8, 5
BIASES = [3.0, 0.2, 0.1, 0.0, -2.5]
STRONG = f"apgd-t-20:targets={CLASSES - 1}"
PLAIN = Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)


def linear() -> Checkpoint:
    """Linear in the pixels; class 4 is last, but so steep that its boundary is the nearest."""
    draws = torch.Generator().manual_seed(1)
    layer = nn.Linear(3 * SIZE * SIZE, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(0.05 * torch.randn(CLASSES, 3 * SIZE * SIZE, generator=draws))
        layer.weight[4] *= 4
        layer.bias.copy_(torch.tensor(BIASES))
    made = Classifier.from_module(nn.Sequential(nn.Flatten(), layer), Preprocessing(size=SIZE, normalisation=PLAIN))
    return Checkpoint(
        made, Card(network=made.spec, class_names=tuple("abcde"), method="made", threat=Threat.parse("linf:4/255"))
    )


def greys(count: int) -> list[np.ndarray]:
    """Pictures far from black and white: nothing that a test does comes to an end there."""
    return [96 + picture(3, index, SIZE) // 4 for index in range(count)]


def stacked(pictures: list[np.ndarray]) -> Tensor:
    return to_pixels(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))


def exact(model: Checkpoint, x: Tensor, norm: str, classes: int) -> tuple[Tensor, list[float]]:
    """Predicted classes, and the distances to the nearest boundary of the next classes, by their definition."""
    head = model.classifier.head
    assert isinstance(head, nn.Linear)
    weight = head.weight.detach() / 0.25
    with torch.no_grad():
        logits = model.classifier(x)
    distances = []
    for row in logits:
        own, *others = row.argsort(descending=True).tolist()
        each = []
        for other in others[:classes]:
            apart = weight[own] - weight[other]
            dual = apart.abs().sum() if norm == "linf" else apart.norm()
            each.append(float((row[own] - row[other]) / dual))
        distances.append(min(each))
    return logits, distances


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [1, 4])
def test_what_a_linear_model_takes_to_flip_is_exact(norm: str, classes: int) -> None:
    model, pictures = linear(), greys(6)
    logits, distances = exact(model, stacked(pictures), norm, classes)
    found = list(predict(model, pictures, top=3, threat=f"{norm}:0.1", classes=classes, run=QUIET))
    shares, numbers = logits.softmax(1).topk(3, dim=1)
    assert [one.classes for one in found] == [tuple("abcde"[i] for i in row) for row in numbers.tolist()]
    assert [one.probabilities for one in found] == [pytest.approx(row) for row in shares.tolist()]
    assert [one.linear_eps for one in found] == [pytest.approx(distance, rel=1e-4) for distance in distances]
    assert {one.norm for one in found} == {norm}
    if classes == 4:  # the class that is far behind is nearest all the same
        assert exact(model, stacked(pictures), norm, 3)[1] != pytest.approx(distances)


@pytest.mark.parametrize("threat", ["linf:4/255", "linf:0.001", "l2:0.3"])
def test_an_attack_brackets_it(threat: str) -> None:
    """Also where the threat's own eps is far too small: it is doubled until every image is broken."""
    model, pictures, norm = linear(), greys(5), threat.partition(":")[0]
    _, distances = exact(model, stacked(pictures), norm, 4)
    own = Threat.parse(threat).eps
    for one, distance in zip(predict(model, pictures, threat=threat, attack=STRONG, run=QUIET), distances, strict=True):
        assert one.attack == STRONG
        assert one.stood_at is not None
        assert one.broken_at is not None
        assert one.stood_at < distance * (1 + 1e-3)
        assert one.broken_at > distance
        grown = own
        while grown < one.broken_at:
            grown *= 2
        assert one.broken_at - one.stood_at <= max(grown / 2, own) / 64 * 1.001 + 1e-9


def test_a_break_is_confirmed_by_the_model_itself(tmp_path: Path) -> None:
    model, pictures = make_source(threat="linf:8/255"), [picture(0, index) for index in range(6)]
    attack = PGD(steps=10)
    for one, pixels in zip(predict(model, pictures, attack=attack, run=QUIET), pictures, strict=True):
        assert one.broken_at is not None
        assert one.stood_at is not None
        x = stacked([pixels])
        label = model.classifier(x).argmax(1)
        assert model.card.class_names[int(label)] == one.classes[0]
        ids = predictor._ids(torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous())
        broken, stood = (
            attack(model.classifier, x, label, ids, Threat(norm="linf", eps=eps)).broken
            for eps in (one.broken_at, one.stood_at)
        )
        assert broken.item()
        assert not stood.item()


def test_nothing_flips_a_constant_model() -> None:
    model = linear()
    assert isinstance(model.classifier.head, nn.Linear)
    nn.init.zeros_(model.classifier.head.weight)
    [found] = predict(model, greys(1)[0], threat="l2:0.5", attack="fgsm", run=QUIET)
    assert (found.linear_eps, found.broken_at) == (None, None)
    assert found.stood_at == pytest.approx((3 * SIZE * SIZE) ** 0.5), "no image is further away than that"
    share = pytest.approx(float(torch.tensor(BIASES).softmax(0)[0]))
    flips = {"norm": "l2", "linear_eps": None, "attack": "fgsm", "stood_at": found.stood_at, "broken_at": None}
    assert found.to_dict() == {"file": "image 0", "top": [{"class": "a", "probability": share}], **flips}


def test_neither_names_nor_order_nor_batches_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pictures = make_source(threat="linf:8/255"), [picture(0, index) for index in range(7)]

    def found(images: list[np.ndarray]) -> list[tuple[object, ...]]:
        made = predict(model, images, attack="pgd-3", run=QUIET)
        return [(one.classes, one.stood_at, one.broken_at) for one in made]

    together = found([*pictures, pictures[0]])
    assert together[-1] == together[0]
    assert found(pictures[::-1]) == together[:7][::-1]
    monkeypatch.setattr(predictor, "FIRST", 1)
    assert found(pictures[3:]) == together[3:7]


def test_predictions_come_while_images_are_still_being_listed() -> None:
    listed = list[int]()

    def without_end() -> Iterator[np.ndarray]:
        for index in itertools.count():
            listed.append(index)
            yield picture(0, index % 5)

    made = predict(linear(), without_end(), run=QUIET)
    assert next(made).classes
    assert len(listed) == 4, "the first line waits for four images"
    assert len(list(itertools.islice(made, 199))) == 199
    assert len(listed) <= 300, "no more is read ahead than a pass takes"


def test_pictures_are_decoded_as_data_sets_are(tmp_path: Path) -> None:
    """Turned by EXIF, grey of 16 bits, transparent over white: each predicted as the pixels that it shows."""
    shown = Image.fromarray(picture(1, 0, 16)).resize((16, 10))
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    turned = tmp_path / "turned.png"
    shown.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    deep = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    grey = np.rint(deep / 257).astype(np.uint8)
    clear = np.dstack([picture(1, 1), np.full((8, 8), 0, np.uint8)])
    Image.fromarray(clear, "RGBA").save(tmp_path / "clear.png")
    files = [turned, tmp_path / "deep.png", tmp_path / "clear.png"]
    plain = [np.asarray(shown), grey, np.full((8, 8, 3), 255, np.uint8)]
    found, wanted = (list(predict(linear(), images, top=5, run=QUIET)) for images in (files, plain))
    assert [one.probabilities for one in found] == [one.probabilities for one in wanted]
    assert len({one.probabilities for one in found}) == 3


def test_what_cannot_be_read_stands_in_its_place(tmp_path: Path) -> None:
    for index in range(6):
        Image.fromarray(picture(0, index)).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    missing, files = tmp_path / "none.png", [tmp_path / f"{index}.png" for index in range(6)]
    found = list(predict(linear(), [*files, missing], run=QUIET))
    assert [Path(one.file).name for one in found] == [path.name for path in [*files, missing]]
    assert [index for index, one in enumerate(found) if one.error is not None] == [2, 6]
    assert str(tmp_path / "2.png") in (found[2].error or "")
    assert found[6].to_dict() == {"file": str(missing), "error": f"{missing} does not exist"}
    good = list(predict(linear(), [path for path in files if path.name != "2.png"], run=QUIET))
    assert [one for one in found if one.error is None] == good


def test_logits_that_are_no_numbers_are_an_error_of_their_image() -> None:
    model = linear()
    assert isinstance(model.classifier.head, nn.Linear)
    with torch.no_grad():
        model.classifier.head.weight[0].fill_(torch.finfo(torch.float32).max)
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    found = list(predict(model, [black, grey, greys(1)[0]], attack="fgsm", run=QUIET))
    assert "no numbers" in (found[1].error or "")


def test_what_predicts_nothing_is_refused() -> None:
    source = make_source(origin={"head": "none"})
    with pytest.raises(DataError, match="feature extractor"):
        predict(source, [])
    with pytest.raises(ConfigError, match="model is to be"):
        predict(nn.Flatten(), [])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="top must be at least 1"):
        predict(linear(), [], top=0)
    with pytest.raises(ConfigError, match="above 0"):
        predict(linear(), [], threat="linf:0", attack="fgsm")
    with pytest.raises(ConfigError, match="give --source"):
        predict(linear(), [], attack="source-features")
    assert next(predict(linear().classifier, greys(1), run=QUIET)).classes == ("0",)
    assert list(predict(linear(), [], run=QUIET)) == list[Prediction]()
