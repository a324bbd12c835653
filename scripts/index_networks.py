"""Write the index of timm's and torchvision's networks by which checkpoints are recognised: minutes, on any machine.

python scripts/index_networks.py            # all networks anew
python scripts/index_networks.py --missing  # those that the index lacks
"""

from __future__ import annotations

import argparse
import json
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path

import timm
import torchvision

import robust_transfer
from robust_transfer.foreign.families.signatures import arithmetic, signature
from robust_transfer.foreign.families.weightless import weightless
from robust_transfer.networks import from_torchvision

INDEX = Path(robust_transfer.__file__).parent / "foreign" / "families" / "index.json"


def rows(known: set[str]) -> dict[str, tuple[str, str, str]]:
    """Signature, head and arithmetic of each network that is not ``known``; networks with several heads are left out."""
    found = dict[str, tuple[str, str, str]]()
    for name in timm.list_models():
        config = timm.get_pretrained_cfg(name)
        if name in known or config is None or not isinstance(config.classifier, str):
            continue
        module = weightless(partial(timm.create_model, name, pretrained=False, num_classes=0))
        found[name] = (signature(module.state_dict()), config.classifier, arithmetic(module))
    for plain in from_torchvision.names():
        name = f"{from_torchvision.PREFIX}{plain}"
        if name in known or plain.startswith("squeezenet"):
            continue
        settings = {"aux_logits": False, "init_weights": False} if plain in from_torchvision.AUXILIARY else {}
        whole = weightless(partial(torchvision.models.get_model, plain, weights=None, **settings))
        head = from_torchvision.head_of(whole)
        found[name] = (signature(whole.state_dict(), without=head), head, arithmetic(whole))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--missing", action="store_true")
    known = json.loads(INDEX.read_text())["networks"] if parser.parse_args().missing else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        networks = {**known, **rows(set(known))}
    lines = ",\n".join(f'"{name}": {json.dumps(row)}' for name, row in sorted(networks.items()))
    versions = json.dumps({package: version(package) for package in ("timm", "torchvision")})
    INDEX.write_text(f'{{"versions": {versions}, "networks": {{\n{lines}\n}}}}\n', encoding="utf-8")
    print(f"{len(networks)} networks in {INDEX}")


if __name__ == "__main__":
    main()
