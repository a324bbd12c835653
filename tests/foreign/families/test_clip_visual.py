"""Visual towers of CLIP: a reference written in functions, under the names of open_clip and of transformers."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from foreign_helpers import recognised_as, same
from published_clip import SIZE, by_transformers, embeddings, tower, with_text
from torch import Tensor

from robust_transfer import networks
from robust_transfer.errors import CheckpointError, NetworkError
from robust_transfer.foreign.families import FAMILIES, recognised

State = dict[str, Tensor]
needs_open_clip = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="open_clip is missing: pip install 'robust-transfer[clip]'"
)


LAYOUTS: dict[str, tuple[Any, int]] = {
    "tower": (dict, 0),
    "whole": (with_text, 1),
    "transformers": (by_transformers, 3),
}


@needs_open_clip
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("quick", [True, False])
def test_embeddings(layout: str, quick: bool) -> None:
    write, unused = LAYOUTS[layout]
    state = write(tower())
    found = recognised_as(state, "clip")
    assert (found.num_classes, found.head) == (0, "")
    assert found.variants == {"quick_gelu": (True, False)}
    assert len(found.unused) == unused
    assert found.preprocessings[0].size == SIZE
    assert found.preprocessings[0].normalisation.mean[0] == pytest.approx(0.4815, abs=1e-4)
    body = networks.create(found.network, num_classes=0, input_size=SIZE, quick_gelu=quick, **found.settings).eval()
    rules = FAMILIES.get("clip")()
    body.load_state_dict(dict(rules.body(state, found, {})), strict=True)
    assert rules.head(state, found, {}) is None
    x = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        same(body(x), embeddings(tower(), x, quick=quick))


@needs_open_clip
def test_what_is_missing_is_said() -> None:
    state = tower()
    del state["ln_post.bias"]
    with pytest.raises(CheckpointError, match="not all of ViT-B-16 of open_clip"):
        recognised(state)
    del state["proj"]
    with pytest.raises(CheckpointError, match="without its projection"):
        recognised(state)


@needs_open_clip
def test_names() -> None:
    assert networks.canonical("open_clip/vit-l-14") == "open_clip/ViT-L-14"
    with pytest.raises(NetworkError, match="unknown network of open_clip 'ViT-L-15': did you mean"):
        networks.canonical("open_clip/ViT-L-15")
    with pytest.raises(NetworkError, match=r"no setting 'widht'"):
        networks.create("open_clip/ViT-B-16", num_classes=0, input_size=64, widht=3)


def test_without_open_clip_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks.open_clip, "find_spec", lambda name: None)
    with pytest.raises(NetworkError, match=r"pip install 'robust-transfer\[clip\]'"):
        recognised(tower())
