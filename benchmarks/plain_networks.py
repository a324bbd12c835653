"""Small networks in plain PyTorch, trained adversarially by hand: third-party models to attack.

python benchmarks/plain_networks.py --data D --layout cnn --out foreign.safetensors [--classes 3] [--method trades]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import loops
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import robust_transfer as rt

EPS, LAYOUTS, METHODS = 8 / 255, ("cnn", "residual"), ("fast", "pgd", "trades", "natural")


class Residual(nn.Module):
    """Two convolutions beside a shortcut, normalised after each (He et al. 2015, section 3.3)."""

    def __init__(self, came: int, go: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(came, go, 3, stride, 1, bias=False), nn.BatchNorm2d(go))
        self.second = nn.Sequential(nn.Conv2d(go, go, 3, 1, 1, bias=False), nn.BatchNorm2d(go))
        self.short = nn.Conv2d(came, go, 1, stride) if stride > 1 or came != go else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.short(x))


def build(layout: str, classes: int) -> nn.Module:
    """Network from images of 32 px in [0, 1] to logits."""
    torch.manual_seed(0)
    if layout == "cnn":
        body: list[nn.Module] = []
        for came, go, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 1), (64, 64, 2), (64, 128, 1), (128, 128, 2)):
            body += [nn.Conv2d(came, go, 3, stride, 1), nn.BatchNorm2d(go), nn.ReLU()]
        return nn.Sequential(*body, nn.Flatten(), nn.Linear(128 * 16, classes))
    stem = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    blocks = [Residual(32, 32, 1), Residual(32, 64, 2), Residual(64, 128, 2)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


def load(path: Path) -> tuple[nn.Module, int]:
    """Network that this script has written, and its number of classes."""
    with safe_open(path, "pt") as file:
        about, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = build(about["layout"], int(about["classes"]))
    model.load_state_dict(state)
    return model, int(about["classes"])


def train(model: nn.Module, images: Tensor, labels: Tensor, method: str, epochs: int) -> None:
    """Weights, by one of the hand-written loops at linf 8/255."""
    plan = loops.Plan(epochs=epochs, rate=0.05)
    if method == "natural":
        loops.natural(model, images, labels, plan)
    elif method == "trades":
        loops.trades(model, images, labels, plan, eps=EPS, steps=2, step=EPS * 0.6, beta=6.0)
    else:
        steps, step = (1, 1.25) if method == "fast" else (3, 0.5)
        loops.pgd_at(model, images, labels, plan, eps=EPS, steps=steps, step=EPS * step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--layout", choices=LAYOUTS, default="cnn")
    parser.add_argument("--method", choices=METHODS, default="fast")
    parser.add_argument("--classes", type=int, help="the first so many only")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    # a fifth is cut off as val, by content: it is what suites are chosen on
    kept = rt.load_task(given.data, val=0.2).train
    classes = given.classes or len(kept.class_names)
    kept = kept.subset((kept.labels < classes).nonzero().squeeze(1))
    model = build(given.layout, classes).to(memory_format=torch.channels_last)
    train(model, kept.images(), kept.labels, given.method, given.epochs)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, given.out, metadata={"layout": given.layout, "classes": str(classes)})
    with torch.no_grad():
        images = rt.load_task(given.data, val=0.2).val
        images = images.subset((images.labels < classes).nonzero().squeeze(1))
        right = model.eval()(images.images()[:2000].float() / 255).argmax(1) == images.labels[:2000]
    print(f"{given.out}: {len(kept)} images, {given.epochs} epochs, {100 * float(right.float().mean()):.1f} % on val")


if __name__ == "__main__":
    main()
