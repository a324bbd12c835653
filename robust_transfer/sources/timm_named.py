"""Networks of timm, with its published weights, preprocessing and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from robust_transfer.errors import CheckpointError, ConfigError, UnknownNameError
from robust_transfer.registry import nearest, unknown
from robust_transfer.sources.base import SOURCES
from robust_transfer.sources.foreign import Got
from robust_transfer.sources.library import LibraryKind, Reading

if TYPE_CHECKING:
    from torch import Tensor

    from robust_transfer.foreign.contents import Contents

PREFIX = "timm:"


@SOURCES.register("timm:NAME", summary="a network as timm publishes it; .TAG or @TAG where several", paper="")
class FromTimm(LibraryKind):
    """``timm:resnet50`` (timm's default weights), ``timm:resnet50.a1_in1k`` and ``timm:resnet50@a1_in1k``.

    Files that timm itself or torch.hub downloaded are reused if the file's name states its hash.
    """

    @override
    def takes(self, name: str) -> bool:
        return name.startswith(PREFIX)

    @override
    def listed(self) -> dict[str, str]:
        return {f"{PREFIX}NAME[@TAG]": "a network as timm publishes it, such as timm:resnet50@a1_in1k"}

    @override
    def canonical(self, name: str) -> str:
        from robust_transfer.foreign import from_timm

        full = _full_name(name)
        from_timm.check(full, _config(full))
        return f"{PREFIX}{full}"

    def get(self, name: str) -> Got:
        """File of timm's address.

        What timm itself or torch.hub has downloaded is taken, where the file's name states its hash.
        """
        from robust_transfer.download import fetch

        own = _config(_full_name(name))
        kept = _beside_torch_hub(own)
        if kept is not None and kept.is_file():
            try:
                got = fetch(own.url)
            except CheckpointError:  # damaged: what the Hub has is taken
                if not own.hf_hub_id:
                    raise
            else:
                return Got(got.path, got.address, got.sha256)
        if not own.hf_hub_id:
            got = fetch(own.url)
            return Got(got.path, got.address, got.sha256)
        file = f"/{own.hf_hub_filename}" if own.hf_hub_filename else ""
        try:
            got = fetch(f"hf:{own.hf_hub_id}{file}")
        except CheckpointError as error:
            also = f"; or get {own.url} and put it at {kept}" if kept is not None else ""
            raise CheckpointError(f"{error}{also}") from None
        return Got(got.path, got.address, got.sha256, got.revision or "")

    @override
    def read(self, name: str, contents: Contents, state: Mapping[str, Tensor], at: str) -> Reading:
        from robust_transfer.foreign import from_timm

        return Reading("timm", *from_timm.reading(_full_name(name), _config(_full_name(name)), contents, state, at))


def _full_name(name: str) -> str:
    """Name with its tag, as timm writes it: ``resnet50.a1_in1k``."""
    from robust_transfer import networks

    timm = networks.add_to_timm()
    text, _, after = name.removeprefix(PREFIX).strip().partition("@")
    plain, _, tag = text.partition(".")
    if after and tag:
        raise ConfigError(f"{name!r} has two tags: write {PREFIX}{plain}.{tag} or {PREFIX}{plain}@{after}")
    tag, plain = (after or tag).lower(), plain.lower().replace("-", "_")
    if not tag:  # timm's own earlier names
        plain, _, tag = timm.models.get_deprecated_models().get(plain, plain).partition(".")
    if not timm.is_model(plain) or plain in networks.available():
        known = timm.list_models()
        raise UnknownNameError(
            unknown("network of timm", plain, [one for one in known if one not in networks.available()])
        )
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{plain}.*")]
    if not tags:
        close = nearest(plain, sorted({full.partition(".")[0] for full in timm.list_pretrained()}))
        like = f"; like it are {', '.join(close)}" if close else ""
        raise ConfigError(f"timm publishes no weights of {plain!r}{like}")
    if tag and tag not in tags:
        raise UnknownNameError(f"timm has no weights {tag!r} of {plain!r}: it has {', '.join(tags)}")
    return f"{plain}.{tag or timm.get_pretrained_cfg(plain).tag}"


def _config(full: str) -> Any:
    from robust_transfer import networks

    return networks.add_to_timm().get_pretrained_cfg(full)


def _beside_torch_hub(own: Any) -> Any:
    """Path of torch.hub's file for timm's address; None where its name states no hash, or timm converts it."""
    from robust_transfer.download.addresses import read_address
    from robust_transfer.download.cache import cache_folder

    if not own.url or own.custom_load:
        return None
    address = read_address(own.url)
    return cache_folder() / address.name if address.stated else None
