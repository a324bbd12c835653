"""Visual towers of CLIP as open_clip names them, by names such as ``open_clip/ViT-L-14``: an optional extra."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from robust_transfer.errors import NetworkError
from robust_transfer.registry import unknown

PREFIX = "open_clip/"


def canonical(name: str) -> str:
    """open_clip's spelling of a name after the prefix. Raises :class:`NetworkError` where there is none, or no open_clip."""
    plain = name[len(PREFIX) :]
    known = sorted(_configurations())
    for candidate in known:
        if candidate.lower().replace("_", "-") == plain.lower().replace("_", "-"):
            return f"{PREFIX}{candidate}"
    raise NetworkError(unknown("network of open_clip", plain, known))


def create(name: str, input_size: int, *, quick_gelu: bool = False, **settings: Any) -> nn.Module:
    """Visual tower from ``(B, 3, H, W)`` to image embeddings ``(B, d)``, in CLIP's joint space.

    ``quick_gelu``: the activation ``x * sigmoid(1.702 x)`` of OpenAI's weights and networks fine-tuned from them,
    which is not in the file. Other ``settings`` replace values of the configuration (``vision_cfg``): layers, width,
    patch_size, embed_dim ...
    """
    configuration = json.loads(_configurations()[name.removeprefix(PREFIX)].read_text(encoding="utf-8"))
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    given = CLIPVisionCfg(**configuration["vision_cfg"])
    embed_dim = settings.pop("embed_dim", configuration["embed_dim"])
    if unfit := sorted(settings.keys() - asdict(given).keys()):
        raise TypeError(f"open_clip's visual towers have no setting {unfit[0]!r}")
    quick = quick_gelu or bool(configuration.get("quick_gelu"))
    made: nn.Module = _build_vision_tower(
        embed_dim, replace(given, **{"image_size": input_size, **settings}), quick_gelu=quick
    )
    return made


def _configurations() -> dict[str, Path]:
    """Configuration files of open_clip by their names."""
    found = find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        raise NetworkError("networks of CLIP need open_clip: pip install 'robust-transfer[clip]'")
    folder = Path(found.submodule_search_locations[0]) / "model_configs"
    return {path.stem: path for path in folder.glob("*.json")}
