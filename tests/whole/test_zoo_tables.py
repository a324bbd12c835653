"""The script that reads a zoo's table from the text of its code, on a small zoo: nothing of it can be imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo_tables import table

CIFAR10 = """
raise SystemExit("imported")
class Halved(WideResNet):
    def __init__(self, depth=28, widen_factor=10):
        super().__init__(depth=depth, widen_factor=widen_factor, sub_block1=False)
        self.register_buffer('mu', torch.tensor([0.5] * 3).view(1, 3, 1, 1))
        self.register_buffer('sigma', torch.tensor([0.25, 0.5, 1]).view(1, 3, 1, 1))
class Deck(nn.Module):
    def __init__(self):
        super(Deck, self).__init__()
linf = OrderedDict([
    ('Plain2020', {'model': lambda: WideResNet(34, 20, sub_block1=True), 'gdrive_id': 'plain'}),
    ('Halved2020', {'model': Halved, 'gdrive_id': 'halved'}),
    ('Deck2020', {'model': Deck, 'gdrive_id': ['one', 'two']}),
    ('Kireev2021Effectiveness_x', {
        'model': lambda: PreActResNet(PreActBlock, [2, 2, 2, 2], bn_before_fc=True), 'gdrive_id': 'pre'}),
    ('Standard', {'model': lambda: DMWideResNet(num_classes=10, depth=28, width=10, activation_fn=nn.SiLU,
                                                mean=CIFAR10_MEAN, std=CIFAR10_STD), 'gdrive_id': 'std'}),
    ('Light2022_XCiT-S12', {'model': (lambda: timm.create_model('debenedetti2020light_xcit_s_cifar10_linf',
                                                               pretrained=True)), 'gdrive_id': None}),
])
"""
IMAGENET = """
mu = (0.1, 0.2, 0.3)
sigma = (0.4, 0.5, 0.6)
linf = OrderedDict([
    ('Normal2020', {'model': lambda: normalize_model(pt_models.resnet50(), mu, sigma), 'gdrive_id': 'a',
                    'preprocessing': 'Res256Crop224'}),
    ('Bare2020', {'model': lambda: pt_models.resnet50(width_per_group=64 * 2), 'gdrive_id': 'b'}),
])
"""
XCIT = """
M = (0.7, 0.8, 0.9)
default_cfgs = {'debenedetti2022light_xcit_s12_cifar10_linf': xcit._cfg(
    url="https://a.org/debenedetti2022light-xcit-s-cifar10-linf.pth.tar", mean=M, std=M)}
"""
PAGE = """Version: 9.9
### CIFAR-10
#### Linf, eps=8/255
| <sub>**1**</sub> | <sub><sup>**Plain2020**</sup></sub> | <sub>*[ A title](https://b.org)*</sub> | <sub>90.10%</sub> | <sub>50.00%</sub> | <sub>WRN</sub> | <sub>GitHub,<br>Oct 2019</sub> |
#### Common Corruptions
| <sub>**1**</sub> | <sub><sup>**Halved2020**</sup></sub> | <sub>*[Other](https://c.org)*</sub> | <sub>1%</sub> | <sub>1%</sub> | <sub>WRN</sub> | <sub>N/A</sub> |
"""  # noqa: E501


@pytest.fixture
def site(tmp_path: Path) -> Path:
    zoo = tmp_path / "robustbench" / "model_zoo"
    files = {
        zoo / "cifar10.py": CIFAR10,
        zoo / "cifar100.py": "",
        zoo / "imagenet.py": IMAGENET,
        zoo / "architectures" / "dm_wide_resnet.py": "CIFAR10_MEAN = (1, 2, 3)\nCIFAR10_STD = (4, 5, 6)",
        zoo / "architectures" / "xcit.py": XCIT,
        zoo / "architectures" / "deit.py": "",
        zoo / "architectures" / "alexnet.py": "",
        tmp_path / "robustbench-9.9.dist-info" / "METADATA": PAGE,
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_small_zoo(site: Path) -> None:
    version, rows = table(site)
    assert version == "9.9"
    by_name = {row["name"].split("/")[-1]: row for row in rows}
    columns = ("threat", "addresses", "architecture", "settings", "normalisation", "member")
    xcit = "https://a.org/debenedetti2022light-xcit-s-cifar10-linf.pth.tar"
    linf = "linf:8/255"
    assert {name: tuple(row[key] for key in columns) for name, row in by_name.items()} == {
        "Plain2020": (linf, "gdrive:plain", "WideResNet", "depth=34 width=20", "none", ""),
        "Halved2020": (linf, "gdrive:halved", "WideResNet", "depth=28 width=10", "0.5 0.5 0.5/0.25 0.5 1", ""),
        "Deck2020": (linf, "gdrive:one gdrive:two", "ensemble:Deck", "", "", ""),
        "Kireev2021Effectiveness_x": (
            linf,
            "gdrive:pre",
            "PreActResNet",
            "block=PreActBlock blocks=2,2,2,2 bn_before_fc=True",
            "none",
            "last",
        ),
        "Standard": ("", "gdrive:std", "DMWideResNet", "activation=silu depth=28 width=10", "1 2 3/4 5 6", ""),
        "Light2022_XCiT-S12": (linf, xcit, "XCiT", "depth=12 dim=384 heads=8 patch=4", "0.7 0.8 0.9/0.7 0.8 0.9", ""),
        "Normal2020": ("linf:4/255", "gdrive:a", "torchvision:resnet50", "", "0.1 0.2 0.3/0.4 0.5 0.6", ""),
        "Bare2020": ("linf:4/255", "gdrive:b", "torchvision:wide_resnet50_2", "", "none", ""),
    }
    assert by_name["Normal2020"]["preprocessing"] == "Res256Crop224"
    stated = {key: by_name["Plain2020"][key] for key in ("title", "link", "clean", "robust", "venue")}
    assert stated == {
        "title": "A title",
        "link": "https://b.org",
        "clean": "90.10",
        "robust": "50.00",
        "venue": "GitHub, Oct 2019",
    }
    assert "clean" not in by_name["Halved2020"], "that row is of another table"
