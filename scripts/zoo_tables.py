"""Table of RobustBench's models, read from the text of an installed robustbench: nothing of it is imported or executed.

    pip install --no-deps --target SITE robustbench==1.1.1
    python scripts/zoo_tables.py SITE --out robust_transfer/foreign/zoos/robustbench.csv

What is in the table are facts about the models: where the file is, which of the zoo's architectures it belongs to with
which settings, the normalisation and preprocessing that the zoo's code applies, and the accuracies that its page states.
"""

from __future__ import annotations

import argparse
import ast
import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COLUMNS = (
    "name",
    "threat",
    "addresses",
    "sha256",
    "architecture",
    "settings",
    "normalisation",
    "preprocessing",
    "member",
    "clean",
    "robust",
    "title",
    "venue",
    "link",
    "page",
)
DATA = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
LISTS = {"linf": "Linf", "l2": "L2", "common_corruptions": "corruptions"}
THREATS = {
    ("cifar10", "Linf"): "linf:8/255",
    ("cifar10", "L2"): "l2:0.5",
    ("cifar100", "Linf"): "linf:8/255",
    ("imagenet", "Linf"): "linf:4/255",
}
ACTIVATIONS = {"Swish": "silu", "SiLU": "silu", "ReLU": "relu"}
PLAIN = {"depth", "width", "widen_factor", "bn_before_fc", "out_shortcut", "cardinality", "base_width", "bias_last"}
LISTED = {"block", "blocks", "channel_configs", "depth_configs"}

CIFAR10 = "0.4914 0.4822 0.4465/0.2471 0.2435 0.2616"
CIFAR100 = "0.5071 0.4865 0.4409/0.2673 0.2564 0.2762"
IMAGENET = "0.485 0.456 0.406/0.229 0.224 0.225"
# Read by eye, where it stands in code that is no constructor's argument: in a ``forward``, in another file, in a comment.
NORMALISATIONS = {
    "Hendrycks2019UsingNet": "0.5 0.5 0.5/0.5 0.5 0.5",  # 2 x - 1
    "Ding2020MMANet": "per image",
    "Modas2021PRIMEResNet18": "stored",  # "mu & sigma are updated from weights"
    "BoostingWideResNet": CIFAR10,
    "RobustWideResNet": "none",
    "ResNest152": "none",
    "pssilu_wrn_28_10": "none",
    "rebuffi_sodef": CIFAR10,
    "ra_wrn70_16": CIFAR10,
    "ra_wrn101_2": IMAGENET,
    "WRN-A4": CIFAR10,
    "build_swin_base": "none",  # none is added in the zoo, whatever its authors say
    "build_swin_large": "none",
    "get_convstem_models": "none",
    "vit_s_cvst": "stored",  # the file's differs from ImageNet's by 4.8e-5
    "cifar-10-Linf": CIFAR10,
    "cifar-10-L2": CIFAR10,
    "cifar-100-Linf": CIFAR100,
    "imagenet-Linf": IMAGENET,
}
# Convolutional networks of the zoo that get raw pixels unless one of their classes says otherwise: their forward is plain.
RAW = {"WideResNet", "PreActResNet", "ResNet", "ResNet18"}
FIXED: dict[str, dict[str, Any]] = {
    "BoostingWideResNet": {"depth": 34, "width": 20, "bias_last": False},
    "ResNet18": {"depth": 18},
}
DEIT = {"s": "deit_small_patch16_224", "b": "deit_base_patch16_224"}
# What the zoo registers with timm: depth 12, and for 32 pixels the strides of a network of patch 16 are reduced to 4.
XCIT = {"_s_": "dim=384 heads=8", "_m_": "dim=512 heads=8", "_l_": "dim=768 heads=16"}


@dataclass
class Model:
    """Statements of one constructor."""

    architecture: str
    settings: dict[str, Any] = field(default_factory=dict)
    normalisation: str = ""

    def text(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.settings.items())


class Zoo:
    """One file of the zoo's: its dictionaries of models, its classes and constants."""

    def __init__(self, path: Path, constants: dict[str, str]) -> None:
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.classes = {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}
        self.constants = constants | _numbers(self.tree)

    def entries(self) -> list[tuple[str, str, dict[str, Any], ast.expr]]:
        """Kind of threat, name, plain fields, and the constructor of each model, in the file's order."""
        found = []
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in LISTS:
                assert isinstance(node.value, ast.Call)
                pairs = node.value.args[0]
                assert isinstance(pairs, ast.List)
                for pair in pairs.elts:
                    assert isinstance(pair, ast.Tuple)
                    name, fields = pair.elts
                    assert isinstance(fields, ast.Dict)
                    keyed = {
                        ast.literal_eval(key): value
                        for key, value in zip(fields.keys, fields.values, strict=True)
                        if key
                    }
                    plain = {key: ast.literal_eval(value) for key, value in keyed.items() if key != "model"}
                    found.append((LISTS[node.targets[0].id], ast.literal_eval(name), plain, keyed["model"]))
        return found

    def describe(self, node: ast.expr) -> Model:
        """Architecture of a constructor: a class, a call, or a lambda of one."""
        if isinstance(node, ast.Lambda):
            return self.describe(node.body)
        if not isinstance(node, ast.Call):
            return self.of_class(ast.unparse(node), [], {})
        called = ast.unparse(node.func)
        keywords = {each.arg: each.value for each in node.keywords if each.arg}
        if called == "normalize_model":
            inner = self.describe(node.args[0])
            inner.normalisation = self.constants["mu"] + "/" + self.constants["sigma"]
            return inner
        if called == "timm.create_model":
            return Model(f"timm:{ast.literal_eval(node.args[0])}")
        if called.startswith("pt_models."):
            wider = {"width_per_group": "128"} if "width_per_group" in keywords else {}
            return Model(
                "torchvision:" + ("wide_resnet50_2" if wider else called.removeprefix("pt_models.")), {}, "none"
            )
        if called.startswith(("get_", "robust_resnet.get_")):
            inside = node.args[0]
            what = ast.literal_eval(inside) if isinstance(inside, ast.Constant) else self.describe(inside).architecture
            family = called.split(".")[-1]
            sets = [ast.literal_eval(each) for each in keywords.values() if isinstance(each, ast.Constant)]
            known = next((NORMALISATIONS[each] for each in (what, family, *sets) if each in NORMALISATIONS), "")
            kind = {"get_sparse_model": "MeanSparse:", "get_composite_model": "composite:"}.get(family, "")
            kind = "mixed:" if family == "get_nonlin_mixed_classifier" else kind
            return Model(kind + what, {}, known)
        return self.of_class(called, node.args, keywords)

    def of_class(self, name: str, args: list[ast.expr], keywords: dict[str, ast.expr]) -> Model:
        """A class of the zoo's; one that stands in this file is followed to its base."""
        settings = dict(FIXED.get(name, {}))
        normalisation = NORMALISATIONS.get(name, "")
        if name in self.classes:
            base, said, buffers = _reading(self.classes[name])
            if base.endswith("nn.Module"):
                return Model(f"ensemble:{name}", {}, normalisation or buffers)
            inner = self.of_class(base, said.pop("args", []), said)
            inner.normalisation = normalisation or buffers or inner.normalisation
            return inner
        for position, node in enumerate(args):
            key = ("depth", "widen_factor")[position] if name == "WideResNet" else ("block", "blocks")[min(position, 1)]
            keywords = {key: node, **keywords}
        for key, node in sorted(keywords.items()):
            if key in PLAIN and isinstance(node, ast.Constant):
                settings["width" if key == "widen_factor" else key] = node.value
            elif key == "activation_fn":
                settings["activation"] = ACTIVATIONS[ast.unparse(node).split(".")[-1]]
            elif key in LISTED:
                settings[key] = re.sub(r"[][ ]", "", ast.unparse(node))
            elif key == "mean":
                normalisation = self.constants[ast.unparse(node)] + "/" + self.constants[ast.unparse(keywords["std"])]
        if name == "WideResNet":
            settings.setdefault("width", 10)
        if name.startswith("DMPreAct"):
            settings.pop("width", None)  # it is not used
        return Model(name, settings, normalisation or ("none" if name in RAW else ""))


def _numbers(tree: ast.Module) -> dict[str, str]:
    """Constants that are tuples of numbers."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Tuple):
            found[node.targets[0].id] = _spaced(node.value)
    return found


def _spaced(node: ast.expr) -> str:
    value = ast.literal_eval(node)
    return " ".join(str(each) for each in value)


def _reading(node: ast.ClassDef) -> tuple[str, dict[str, Any], str]:
    """Base of a class, what it hands to the base's constructor, and the ``mu`` and ``sigma`` that it registers."""
    start = next(each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__")
    names = [each.arg for each in start.args.args][-len(start.args.defaults) :] if start.args.defaults else []
    defaults = dict(zip(names, start.args.defaults, strict=True))
    said: dict[str, Any] = {}
    buffers: dict[str, str] = {}
    for call in ast.walk(start):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        if call.func.attr == "__init__":
            said = {each.arg: _default(each.value, defaults) for each in call.keywords if each.arg}
            said["args"] = [_default(each, defaults) for each in call.args]
        elif call.func.attr == "register_buffer":
            numbers = next(each for each in ast.walk(call.args[1]) if isinstance(each, (ast.List, ast.BinOp)))
            value = ast.literal_eval(numbers) if isinstance(numbers, ast.List) else ast.literal_eval(numbers.left) * 3
            buffers[ast.literal_eval(call.args[0])] = " ".join(str(each) for each in value)
    both = f"{buffers['mu']}/{buffers['sigma']}" if buffers else ""
    return ast.unparse(node.bases[0]), said, both


def _default(node: ast.expr, defaults: dict[str, ast.expr]) -> ast.expr:
    return defaults.get(node.id, node) if isinstance(node, ast.Name) else node


def addresses_of_timm(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Address and normalisation of each model that the zoo registers with timm, by the beginning of its name."""
    addresses, normalisations = {}, {}
    for file in ("xcit.py", "deit.py", "alexnet.py"):
        tree = ast.parse((folder / file).read_text(encoding="utf-8"))
        constants = _numbers(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("_cfg"):
                said = {each.arg: each.value for each in node.keywords}
                if "url" in said:
                    address = ast.literal_eval(said["url"])
                    addresses[re.sub(r"\W", "", address.rsplit("/", 1)[1].split(".pth")[0])] = address
                    if "mean" in said:
                        both = (constants.get(ast.unparse(said[key]), "") for key in ("mean", "std"))
                        normalisations[address] = "/".join(both)
    return addresses, normalisations


def published(page: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """Rows of the page's tables: by data set, kind of threat and name."""
    found, data, kind = {}, "", ""
    for line in page.splitlines():
        if line.startswith("### "):
            data = line[4:].strip().lower().replace("-", "")
        elif line.startswith("#### "):
            kind = "corruptions" if "orruptions" in line else line[5:].split(",")[0].strip()
        elif line.startswith("|") and "**" in line:
            cells = [
                re.sub(r"</?su[bp]>|<br\s*/?>", " ", cell).strip(" *\t") for cell in line.strip().strip("|").split("|")
            ]
            cells = [" ".join(cell.split()) for cell in cells]
            if len(cells) >= 7 and data in DATA:
                title = re.fullmatch(r"\[(.*)\]\((.*)\)", cells[2])
                found[data, kind, cells[1].strip("* ")] = {
                    "title": (title[1] if title else cells[2]).strip(),
                    "link": title[2] if title else "",
                    "clean": cells[3].rstrip("%"),
                    "robust": cells[4].rstrip("%"),
                    "venue": "" if cells[6] == "N/A" else cells[6],
                }
    return found


def table(site: Path) -> tuple[str, list[dict[str, str]]]:
    """Version of the robustbench below ``site``, and the rows of its table."""
    metadata = next(site.glob("robustbench-*.dist-info/METADATA")).read_text(encoding="utf-8")
    version = re.search(r"^Version: (.*)$", metadata, re.MULTILINE)
    assert version is not None
    folder = site / "robustbench" / "model_zoo"
    constants = _numbers(ast.parse((folder / "architectures" / "dm_wide_resnet.py").read_text(encoding="utf-8")))
    timm, normalisations = addresses_of_timm(folder / "architectures")
    stated = published(metadata)
    rows = []
    for data in DATA:
        zoo = Zoo(folder / f"{data}.py", constants)
        for kind, name, plain, constructor in zoo.entries():
            model = zoo.describe(constructor)
            ids = plain["gdrive_id"]
            ids = ids if isinstance(ids, list) else [ids] if ids else []
            where = [f"gdrive:{each}" for each in ids]
            if model.architecture.startswith("timm:") and not where:
                # debenedetti2020light_xcit_s_cifar10_linf, debenedetti2022light-xcit-s-cifar10-linf.pth.tar
                key = re.sub(r"\W|_", "", model.architecture[5:].replace("2020light", "2022light"))
                key = key.removesuffix("imagenetcorruptions")
                address = next((value for begun, value in timm.items() if begun == key or begun.startswith(key)), "")
                where = [address] if address else []
                if "xcit" in model.architecture:
                    sizes = next(value for key, value in XCIT.items() if key in model.architecture)
                    patch = 16 if data == "imagenet" else 4
                    model = Model("XCiT", dict(each.split("=") for each in f"depth=12 {sizes} patch={patch}".split()))
                    # Only those for CIFAR are wrapped in a normaliser: at 224 pixels the zoo gives them raw pixels.
                    model.normalisation = "none" if data == "imagenet" else normalisations[address]
                else:
                    model.normalisation = IMAGENET
                    model.architecture = model.architecture.replace(
                        "tian2022deeper_deit_s_imagenet_corruptions", DEIT["s"]
                    )
                    model.architecture = model.architecture.replace(
                        "tian2022deeper_deit_b_imagenet_corruptions", DEIT["b"]
                    )
            if "Standard" in name and data == "imagenet":
                model.architecture = "torchvision:resnet50"  # with torchvision's own weights
            # Kireev2021Effectiveness_* and Andriushchenko2020Understanding: checkpoint["last"]
            last = name.startswith("Kireev2021Effectiveness") or name == "Andriushchenko2020Understanding"
            rows.append(
                {
                    "name": f"{data}/{kind}/{name}",
                    "threat": "" if name.startswith("Standard") else THREATS.get((data, kind), ""),
                    "addresses": " ".join(where),
                    "sha256": "",
                    "architecture": model.architecture,
                    "settings": model.text(),
                    "normalisation": model.normalisation,
                    "preprocessing": plain.get("preprocessing", ""),
                    "member": "last" if last else "",
                    **stated.get((data, kind, name), {}),
                }
            )
    return version[1], rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, help="the folder that robustbench is installed in")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    version, rows = table(arguments.site)
    with arguments.out.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# read from robustbench {version}: its model_zoo and its page\n")
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} models of robustbench {version}")


if __name__ == "__main__":
    main()
