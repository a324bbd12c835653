"""Photos at their real size: decoding, loading, features and a step of an attack, beside plain loops; with the memory.

    python benchmarks/real_size.py --data ../shared/data/imagenette --size 224

Seconds are medians of interleaved repeats. "plain" is what one writes by hand: Pillow in a DataLoader with a worker a
core, the network under no_grad, one gradient with the sign step. Each part runs in a process of its own, whose peak of
resident memory is printed; that of an import alone is printed first.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import resource
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import header, interleaved, timed
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

import robust_transfer as rt
from robust_transfer import losses
from robust_transfer.attacks.victim import attacking
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data.encoded import EncodedReader, Images
from robust_transfer.data.formats import open_dataset
from robust_transfer.data.formats.base import ColumnNames
from robust_transfer.engine import Engine
from robust_transfer.strategies import features_of


class Plain(TorchDataset[Tensor]):
    """Pictures, decoded and cropped as torchvision's evaluation does it."""

    def __init__(self, images: Images, count: int, how: rt.Preprocessing) -> None:
        self.files, self.how = [_bytes(images, place) for place in range(count)], how

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Tensor:
        from torchvision.transforms.v2 import functional as V

        image = Image.open(io.BytesIO(self.files[place])).convert("RGB")
        image = V.center_crop(V.resize(image, [self.how.geometry.resized], antialias=True), [self.how.size] * 2)
        return torch.from_numpy(np.array(image).transpose(2, 0, 1))


def _bytes(images: Images, place: int) -> bytes:
    with images.open(place) as image:
        stored: io.BytesIO = vars(image)["fp"]
        stored.seek(0)
        return stored.read()


def decoding(given: argparse.Namespace) -> None:
    """Images a second, on one core and on all."""
    how, images = _how(given), _train(given)
    count = min(given.images, len(images))
    reader, plain, every = EncodedReader(images, torch.arange(count)), Plain(images, count, how), torch.arange(count)

    def ours(threads: int) -> float:
        torch.set_num_threads(threads)
        return timed(lambda: reader.read(every, how.geometry))

    def loop(workers: int) -> float:
        several: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": "fork"} if workers > 1 else {}
        loader = DataLoader(plain, 50, **several)
        return timed(lambda: [batch.sum() for batch in loader])

    assert torch.equal(reader.read(every[:8], how.geometry), torch.stack([plain[i] for i in range(min(8, count))]))
    cores = os.cpu_count() or 1
    tasks: dict[str, Callable[[], float]] = {}
    for n in dict.fromkeys((1, cores)):
        tasks |= {f"ours, {n} cores": lambda n=n: ours(n), f"plain, {n} cores": lambda n=n: loop(n)}  # type: ignore[misc]
    _print("decode", tasks, count, given.repeats)


def loading(given: argparse.Namespace) -> None:
    """From the stored images to hashed pixels in memory, with splits, fingerprints and copies looked for."""
    how = _how(given)

    def ours() -> None:
        task = rt.load_task(given.data, val=0, prepare=how)
        assert task.prepared(how).train.hash

    def decoded_only() -> None:
        images = _train(given), _test(given)
        for some in images:
            EncodedReader(some, torch.arange(len(some))).read(torch.arange(len(some)), how.geometry)

    count = len(_train(given)) + len(_test(given))
    tasks = {"load, prepare, hash": lambda: timed(ours), "decoding alone": lambda: timed(decoded_only)}
    _print("load", tasks, count, given.repeats)


def features(given: argparse.Namespace) -> None:
    """Features of a network."""
    model, split, run = _network(given), _split(given), rt.Run(precision="float32", quiet=True)

    def plain() -> None:
        with torch.no_grad():
            for images, _, _ in split.batches(32):
                model.body(model.normalise(images.float() / 255))

    tasks = {"ours": lambda: timed(lambda: features_of(model, split, run)), "plain": lambda: timed(plain)}
    _print("features", tasks, len(split), given.repeats)


def step(given: argparse.Namespace) -> None:
    """One step of PGD: a gradient, and the ball."""
    model, split, threat = _network(given), _split(given), rt.Threat.parse("linf:4/255")
    x, y, _ = split.on("cpu")

    def ours() -> None:
        with attacking(model, x.device, Engine(torch.float32)) as target:
            gradient = target.gradient(x, y, losses.cross_entropy)[1]
            threat.project(x + threat.eps / 4 * threat.steepest(gradient), x)

    def plain() -> None:
        for images, labels in zip(x.split(32), y.split(32), strict=True):
            moved = images.clone().requires_grad_(True)
            [gradient] = torch.autograd.grad(F.cross_entropy(model(moved), labels), moved)
            (images + threat.eps / 4 * gradient.sign()).clamp(images - threat.eps, images + threat.eps).clamp(0, 1)

    tasks = {"ours": lambda: timed(ours), "plain": lambda: timed(plain)}
    _print("PGD step", tasks, len(split), given.repeats)


def streaming(given: argparse.Namespace) -> None:
    """All training images read on demand, twice over: memory must not grow with them."""
    from robust_transfer.data import split as limits

    limits.MEMORY_LIMIT = 2**20
    task = rt.load_task(given.data, val=0).prepared(_how(given))
    assert task.train.streamed
    tasks = {"streamed": lambda: timed(lambda: [images.sum() for images, _, _ in task.train.batches(50)])}
    _print("stream", tasks, len(task.train), 2)


def _print(what: str, tasks: dict[str, Callable[[], float]], count: int, repeats: int) -> None:
    seconds = interleaved(tasks, repeats)
    told = "; ".join(f"{name} {count / each:.0f}/s" for name, each in seconds.items())
    print(f"  {what} ({count} images, {repeats} repeats): {told}; peak {_peak():.0f} MB", flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _how(given: argparse.Namespace) -> rt.Preprocessing:
    return rt.Preprocessing(size=given.size, resize="crop", short=given.short, interpolation="bilinear")


def _train(given: argparse.Namespace) -> Images:
    return open_dataset(given.data, ColumnNames()).splits["train"].images


def _test(given: argparse.Namespace) -> Images:
    return open_dataset(given.data, ColumnNames()).splits["test"].images


def _split(given: argparse.Namespace) -> rt.Split:
    test = rt.load_task(given.data, val=0).test
    return test.sample(given.attacked, seed=0, purpose="bench").prepared(_how(given))


def _network(given: argparse.Namespace) -> Classifier:
    torch.manual_seed(0)
    return Classifier.build(NetworkSpec(name=given.network, num_classes=1000, preprocessing=_how(given))).eval()


def nothing(given: argparse.Namespace) -> None:
    """Imports alone."""
    print(f"  imports: peak {_peak():.0f} MB", flush=True)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "imports": nothing,
    "decoding": decoding,
    "loading": loading,
    "streaming": streaming,
    "features": features,
    "step": step,
}


def part(name: str, given: Any) -> None:
    warnings.simplefilter("ignore")
    PARTS[name](given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/imagenette")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--short", type=int, default=None, help="Shorter side before the crop. [default: the size]")
    parser.add_argument("--network", default="resnet18", help="Untrained; by timm.")
    parser.add_argument("--images", type=int, default=600, help="To decode.")
    parser.add_argument("--attacked", type=int, default=64, help="For features and steps.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", default=",".join(PARTS))
    given = parser.parse_args()
    header(
        "real size", data=given.data, size=given.size, short=given.short, network=given.network, cores=os.cpu_count()
    )
    for name in given.parts.split(","):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(part, name, given).result()


if __name__ == "__main__":
    main()
