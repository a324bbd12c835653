"""Names on the Hub, and which of a repository's files holds the weights."""

from __future__ import annotations

import pytest

from robust_transfer.download.hub_files import HubName, choose, read_hub_name, within
from robust_transfer.errors import CheckpointError, ConfigError

NAME = HubName("acme/nets", None, None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:acme/nets", NAME),
        ("hf:acme/nets@v1.0", HubName("acme/nets", "v1.0", None)),
        ("hf:acme/nets@refs%2Fpr%2F1/a/b.pt", HubName("acme/nets", "refs/pr/1", "a/b.pt")),
        ("hf:acme/nets/resnet50_linf_eps4.0.ckpt", HubName("acme/nets", None, "resnet50_linf_eps4.0.ckpt")),
        ("hf:acme/nets@main/sub/x.safetensors", HubName("acme/nets", "main", "sub/x.safetensors")),
    ],
)
def test_names(text: str, name: HubName) -> None:
    assert read_hub_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:acme",
        "hf:/nets",
        "hf:acme/nets@",
        "hf:acme/nets/",
        "hf:acme/nets/../x",
        "hf:acme/nets/a@b",
        "hf:a b/c",
    ],
)
def test_no_names(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"names nothing on the Hub: write hf:OWNER/REPO, hf:OWNER/REPO@REVISION/FILE"
    ):
        read_hub_name(text)


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["a.pt", "pytorch_model.bin", "model.safetensors", "config.json"], "model.safetensors"),
        (["open_clip_pytorch_model.bin", "open_clip_model.safetensors"], "open_clip_model.safetensors"),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
            "model.safetensors.index.json",
        ),
        (["net.safetensors", "net.pt", "README.md"], "net.safetensors"),
        (
            ["w/net-00001-of-00001.safetensors", "w/net.safetensors.index.json", "pytorch_model-00001-of-00002.bin"],
            "w/net.safetensors.index.json",
        ),
        (["training_args.bin", "optimizer.pt", "rng_state_0.pth", "best.pth.tar"], "best.pth.tar"),
        (["flax_model.msgpack", "pytorch_model.bin", "other.bin"], "pytorch_model.bin"),
        (["weights/net.npz"], "weights/net.npz"),
    ],
)
def test_the_file_that_is_chosen(files: list[str], chosen: str) -> None:
    assert choose(NAME, files) == chosen
    assert choose(NAME, reversed(files)) == chosen


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["b.ckpt", "a.ckpt", "README.md"],
            r"^hf:acme/nets has 2 files of weights \(a\.ckpt, b\.ckpt\): say which, hf:acme/nets/FILE$",
        ),
        (["a.safetensors", "b.safetensors", "c.pt"], r"has 2 files of weights \(a\.safetensors, b\.safetensors\)"),
        ([f"{i:02}.pt" for i in range(15)], r"has 15 files of weights \(00\.pt, .*, 11\.pt and 3 more\)"),
        (
            ["tf_model.h5", "README.md"],
            r"has no weights that are read \(\.safetensors, \.pt, .*\): it has README\.md, tf_model\.h5$",
        ),
        ([], "it has no files at all$"),
        (["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"], "has no weights that are read"),
    ],
)
def test_what_cannot_be_chosen(files: list[str], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        choose(NAME, files)


def test_a_file_that_was_asked_for() -> None:
    files = ["resnet50_linf_eps4.0.ckpt", "resnet50_linf_eps8.0.ckpt"]
    assert choose(HubName("acme/nets", None, files[1]), files) == files[1]
    with pytest.raises(
        CheckpointError, match=r"has no file 'resnet50_linf_eps4\.ckpt': did you mean resnet50_linf_eps4\.0\.ckpt"
    ):
        choose(HubName("acme/nets", None, "resnet50_linf_eps4.ckpt"), files)
    with pytest.raises(CheckpointError, match=r"has no file 'x': it has resnet50"):
        choose(HubName("acme/nets", None, "x"), files)


def test_shards_lie_beside_their_index() -> None:
    assert (
        within("a/model.safetensors.index.json", "model-00001-of-00002.safetensors")
        == "a/model-00001-of-00002.safetensors"
    )
    for shard in ("../x.safetensors", "/etc/passwd", "x.bin", 3, None):
        with pytest.raises(CheckpointError, match="which is no safetensors file beside it"):
            within("model.safetensors.index.json", shard)
