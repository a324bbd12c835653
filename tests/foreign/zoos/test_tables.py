"""Tables of the zoos: counted, spot-checked by hand against the zoos' own pages and code, and consistent in themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from robust_transfer.download.addresses import read_address
from robust_transfer.download.hub_files import read_hub_name
from robust_transfer.errors import UnknownNameError
from robust_transfer.foreign.zoos import ZOOS, entries, find, known_file, read_from
from robust_transfer.threat import Threat

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_how_many_there_are() -> None:
    boards = Counter((entry.data, entry.leaderboard) for entry in entries("robustbench"))
    assert boards == {
        ("cifar10", "Linf"): 76,
        ("cifar10", "L2"): 21,
        ("cifar10", "corruptions"): 17,
        ("cifar100", "Linf"): 38,
        ("cifar100", "corruptions"): 12,
        ("imagenet", "Linf"): 30,
        ("imagenet", "corruptions"): 12,
    }
    built = Counter(entry.architecture for entry in entries("robustbench"))
    # those that are so constructed in the zoo's files, and those whose class there is derived from it
    assert (built["WideResNet"], built["DMWideResNet"], built["DMPreActResNet"], built["XCiT"]) == (48 + 13, 40, 8, 9)
    assert [len(entries(zoo)) for zoo in ZOOS] == [206, 28, 12, 3]
    assert len(entries()) == 249


def test_what_they_were_read_from() -> None:
    assert read_from("robustbench") == "robustbench 1.1.1: its model_zoo and its page"
    assert all(re.search(r"\d|page", read_from(zoo)) for zoo in ZOOS)


# By hand, from the page (accuracies, venue) and the code (identifier, architecture, normaliser) of RobustBench 1.1.1.
@pytest.mark.parametrize(
    ("name", "drive", "architecture", "settings", "mean", "clean", "robust", "venue"),
    [
        (
            "cifar10/Linf/Carmon2019Unlabeled",
            "15tUx-gkZMYx7BfEOw1GY5OKC-jECIsPQ",
            "WideResNet",
            {"depth": 28, "width": 10},
            (),
            89.69,
            59.53,
            "NeurIPS 2019",
        ),
        (
            "cifar10/Linf/Rice2020Overfitting",
            "1vC_Twazji7lBjeMQvAD9uEQxi9Nx2oG-",
            "WideResNet",
            {"depth": 34, "width": 20},
            CIFAR_MEAN,
            85.34,
            53.42,
            "ICML 2020",
        ),
        (
            "cifar10/L2/Rice2020Overfitting",
            "1jo-31utiYNBVzLM0NxUEWz0teo3Z0xa7",
            "PreActResNet",
            {"block": "PreActBlockV2", "blocks": (2, 2, 2, 2), "bn_before_fc": True},
            CIFAR_MEAN,
            88.67,
            67.68,
            "ICML 2020",
        ),
        (
            "cifar10/Linf/Addepalli2021Towards_WRN34",
            "1-3vgjTNfSq7LSMKuayEQ-jLflAP196dB",
            "WideResNet",
            {"depth": 34, "width": 10},
            (),
            85.32,
            58.04,
            "ECCV 2022",
        ),
        (
            "cifar100/Linf/Wang2023Better_WRN-70-16",
            "1-yYcT73GP13c0y9HrgtpyB3NAfkGKgjY",
            "DMWideResNet",
            {"activation": "silu", "depth": 70, "width": 16},
            (0.5071, 0.4865, 0.4409),
            75.22,
            42.66,
            "ICML 2023",
        ),
        (
            "imagenet/Linf/Wong2020Fast",
            "1deM2ZNS5tf3S_-eRURJi-IlvUL8WJQ_w",
            "torchvision:resnet50",
            {},
            IMAGENET_MEAN,
            55.62,
            26.24,
            "ICLR 2020",
        ),
        (
            "imagenet/Linf/Liu2023Comprehensive_Swin-B",
            "1-4mtxQCkThJUVdS3wvQ6NnmMZuySqR3c",
            "timm:swin_base_patch4_window7_224",
            {},
            IMAGENET_MEAN,
            76.16,
            56.16,
            "arXiv, Feb 2023",
        ),
    ],
)
def test_some_of_robustbench(
    name: str,
    drive: str,
    architecture: str,
    settings: dict[str, object],
    mean: tuple[float, ...],
    clean: float,
    robust: float,
    venue: str,
) -> None:
    entry = find(name)
    assert entry is find(f"robustbench:{name}")
    assert entry.source == f"robustbench:{name}"
    assert entry.addresses == (f"gdrive:{drive}",)
    assert (entry.architecture, entry.settings) == (architecture, settings)
    assert (entry.normalisation, entry.mean) == ("stated" if mean else "none", mean)
    assert (entry.clean, entry.robust, entry.venue) == (clean, robust, venue)


def test_what_no_file_of_robustbench_tells() -> None:
    def normalised(name: str) -> tuple[str, tuple[float, ...]]:
        return find(name).normalisation, find(name).mean

    assert normalised("cifar10/Linf/Hendrycks2019Using") == ("stated", (0.5, 0.5, 0.5))  # 2 x - 1
    assert normalised("cifar10/Linf/Ding2020MMA") == ("per image", ())
    assert normalised("cifar10/corruptions/Modas2021PRIMEResNet18") == ("stored", ())
    assert normalised("imagenet/Linf/Singh2023Revisiting_ConvNeXt-T-ConvStem") == ("none", ())
    assert normalised("imagenet/Linf/Singh2023Revisiting_ViT-S-ConvStem") == ("stored", ())
    assert normalised("imagenet/Linf/Debenedetti2022Light_XCiT-S12") == ("none", ())
    assert normalised("cifar10/Linf/Debenedetti2022Light_XCiT-S12") == ("stated", CIFAR_MEAN)
    assert find("cifar10/Linf/Engstrom2019Robustness").std == (0.2023, 0.1994, 0.2010)
    assert find("cifar10/Linf/Andriushchenko2020Understanding").member == "last"
    assert [entry.name for entry in entries() if entry.normalisation == "unknown"] == [
        "cifar10/Linf/Bai2023Improving_edm",
        "cifar10/Linf/Bai2024MixedNUTS",
        "cifar100/Linf/Bai2023Improving_edm",
        "cifar100/Linf/Bai2023Improving_trades",
        "cifar100/Linf/Bai2024MixedNUTS",
        "imagenet/Linf/Bai2024MixedNUTS",
    ]
    preprocessed = {find(f"imagenet/Linf/{name}").preprocessing for name in ("Wong2020Fast", "Mo2022When_ViT-B")}
    assert preprocessed == {"Crop288", "Res224"}
    patches = [find(f"{data}/Linf/Debenedetti2022Light_XCiT-L12").settings["patch"] for data in ("cifar10", "imagenet")]
    assert patches == [4, 16]
    address = find("cifar100/Linf/Debenedetti2022Light_XCiT-M12").addresses[0]
    assert address.endswith("/v1.1/debenedetti2022light-xcit-m-cifar100-linf.pth.tar")


def test_the_other_zoos() -> None:
    madry = find("resnet50_linf_eps4.0")
    assert (madry.source, madry.threat) == (
        "hf:madrylab/robust-imagenet-models/resnet50_linf_eps4.0.ckpt",
        "linf:4/255",
    )
    assert (madry.sha256 or "").startswith("9e62216975c111b8")
    assert (madry.clean, madry.robust, madry.normalisation) == (63.86, None, "stored")
    assert find("resnet18_linf_eps0.5").threat == "linf:0.5/255"
    assert find("resnet50_l2_eps3").threat == "l2:3"
    assert find("resnet50_l2_eps0").threat is None, "trained on natural images"
    activations = {entry.name: entry.settings["activation"] for entry in entries("ares") if entry.settings}
    assert activations == {
        "resnet50_at": "relu",
        "resnet101_at": "relu",
        "resnet152_at": "gelu",
        "wresnet50_at": "gelu",
    }
    swin = find("swinl_at")
    assert (swin.clean, swin.robust, swin.mean, swin.std) == (79.7, 62.3, IMAGENET_MEAN, IMAGENET_STD)
    by_hand = [entry for entry in entries() if not entry.addresses]
    assert {entry.zoo for entry in by_hand if entry.page} == {"singh"}
    assert [entry.name for entry in by_hand if not entry.page] == [
        "imagenet/Linf/Standard_R50",
        "imagenet/corruptions/Standard_R50",
    ]


@pytest.mark.parametrize("zoo", ZOOS)
def test_every_entry_is_in_order(zoo: str) -> None:
    names = [entry.name for entry in entries(zoo)]
    assert len(set(names)) == len(names)
    for entry in entries(zoo):
        for address in entry.addresses:
            if address.startswith("hf:"):
                assert read_hub_name(address).file
            else:
                assert read_address(address).text == address
            if address.startswith("gdrive:"):
                assert re.fullmatch(r"gdrive:[\w-]{33}", address, re.ASCII), entry.name
        assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        if entry.threat is not None:
            Threat.parse(entry.threat)
        assert len(entry.mean) == len(entry.std)
        assert len(entry.mean) in ((3,) if entry.normalisation == "stated" else (0,))
        assert entry.normalisation in ("stated", "none", "stored", "per image", "unknown")
        assert entry.clean is not None
        assert 40 < entry.clean < 100
        assert entry.robust is None or 0 <= entry.robust < entry.clean
        assert entry.title == entry.title.strip() != ""
        assert entry.link.startswith("http")
        assert (entry.threat is None) == (
            entry.leaderboard in ("", "corruptions") or entry.name.rpartition("/")[2].startswith("Standard")
        )
        assert entry.num_classes in (10, 100, 1000)


def test_files_that_stand_under_several_names_are_the_same_network() -> None:
    """A file of a leaderboard on attacks may stand on the one on corruptions, too."""
    single = [entry for entry in entries("robustbench") if len(entry.addresses) == 1]
    for entry in single:
        same = [other for other in single if other.addresses == entry.addresses]
        assert len({(other.data, other.architecture, other.normalisation) for other in same}) == 1, entry.name
        assert len({other.leaderboard for other in same}) == len(same), entry.name


def test_names_that_are_not_there() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown network of the zoos .*: did you mean .*'cifar10/Linf/Carmon2019Unlabeled'"
    ):
        find("robustbench:cifar10/Linf/Carmon2019Unlabelled")
    with pytest.raises(UnknownNameError, match="'cifar10/Linf/Carmon2019Unlabeled'"):
        find("Carmon2019Unlabeled")


def test_a_file_is_known_by_its_address_or_content() -> None:
    madry = find("resnet50_linf_eps4.0")
    assert known_file(madry.addresses[0]) is madry
    assert known_file(f"hf:madrylab/robust-imagenet-models@{'a' * 40}/resnet50_linf_eps4.0.ckpt") is madry
    assert known_file(sha256=madry.sha256) is madry
    assert known_file("https://a.org/x.pt", "0" * 64) is None
    assert known_file() is None
    assert known_file("gdrive:15tUx-gkZMYx7BfEOw1GY5OKC-jECIsPQ") is find("cifar10/Linf/Carmon2019Unlabeled")
    assert known_file("gdrive:12Z63xr4bQwdIvR2w8xvpUnXG1fnUpy5B") is None, "a member of an ensemble is not the ensemble"


def test_the_tables_are_read_without_pytorch() -> None:
    program = (
        "import sys; from robust_transfer.foreign.zoos import entries; print(len(entries()), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["249", "False"]
