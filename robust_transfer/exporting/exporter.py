"""Export of a checkpoint: converted, run on real images beside the checkpoint, and written only if both agree."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image
from torch import Tensor

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import as_dict, expect
from robust_transfer.errors import ConfigError, OutputError
from robust_transfer.exporting import checking, onnx_file, timm_folder, torch_file
from robust_transfer.exporting.deployed import Deployed, Input, description
from robust_transfer.files import expanded, os_message, write_atomically, write_bytes
from robust_transfer.progress import tell

Form = Literal["onnx", "torch", "timm"]
Run = Callable[[Tensor], tuple[Tensor, Tensor]]
FILES = {"onnx": "model.onnx", "torch": "model.pt2"}


@dataclass(frozen=True)
class Exported:
    """Export written to ``path``; ``check`` has its differences from PyTorch, and the images used."""

    path: Path
    form: Form
    contract: str
    before: str
    check: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**as_dict(asdict(self)), "path": str(self.path)}

    def __str__(self) -> str:
        by, n, images = self.check["checked_by"], self.check["n"], self.check["images"]
        logits, probabilities = (self.check[f"largest_difference_of_{what}"] for what in ("logits", "probabilities"))
        return (
            f"wrote {self.path}\n"
            f"input   {self.contract}\n"
            f"before  {self.before}\n"
            f"check   {by}: on {n} {images} logits differ from PyTorch's by at most {logits:.1e} (the largest is "
            f"{self.check['largest_logit']:.3g}), probabilities by {probabilities:.1e}; {self.check['same_class']} of {n} "
            "classes are the same"
        )


def export(
    model: Checkpoint,
    to: Form,
    out: Path | str,
    *,
    input: Input = "uint8",
    resize_inside: bool = False,
    images: Any = None,
    overwrite: bool = False,
) -> Exported:
    """Write ``model`` in a format for use without this package.

    ``onnx`` and ``torch`` are files (in a folder: ``model.onnx``, ``model.pt2``) with scaling, normalisation and softmax
    inside; ``input`` is uint8 ``(N, H, W, 3)`` or float32 ``(N, 3, H, W)`` in [0, 1], of the network's size. With
    ``resize_inside``, uint8 images of any size are resized and cropped inside of the file, as Pillow does it. ``timm`` is a
    folder that timm and transformers load, for networks that timm has. ``images`` (paths and the like, as for
    :func:`predict`) are what the export is checked with, by default parts of scikit-learn's photos; logits must be the same
    to 1e-4 of the largest, probabilities to 1e-4. Raises :class:`ConfigError`, :class:`NetworkError` and
    :class:`OutputError`; nothing is written then.
    """
    expect("model", model, Checkpoint, hint="such as load_source(folder)")
    if to not in get_args(Form):
        raise ConfigError(f"there is no export to {to!r}: use {', '.join(get_args(Form))}")
    model.refuse_headless()
    path = _free(to, expanded(out), overwrite)
    found, told = checking.pictures(images)
    if to == "timm":
        if resize_inside:
            raise ConfigError("timm resizes by itself, as its configuration says: leave --resize-inside out")
        return _to_timm(model, path, found, told)
    tell(False, f"writing {to}, and checking it on {len(found)} pictures ...")
    network = Deployed(model, input, resize=resize_inside)
    pixels = checking.as_pixels(found, model)

    def checked(name: str, run: Run) -> dict[str, Any]:
        whole = checking.in_turn(found, partial(checking.each_by_itself, run)) if resize_inside else run
        return checking.check(name, whole, model, pixels, told)

    if to == "onnx":
        proto = onnx_file.to_proto(network)
        record = checked(*onnx_file.runner(proto.SerializeToString(), network))
        for key, text in description(model, record, network).items():
            proto.metadata_props.add(key=key, value=text)
        content = proto.SerializeToString()
    else:
        program = torch_file.traced(network)
        record = checked(*torch_file.runner(torch_file.content(program, {}), network))
        content = torch_file.content(program, description(model, record, network))
    write_bytes(path, content)
    return Exported(path, to, network.contract, network.before, record)


def _free(to: Form, out: Path, overwrite: bool) -> Path:
    """Destination of the export. Raises :class:`OutputError` for an existing one."""
    if to == "timm":
        if out.exists() and not out.is_dir():
            raise OutputError(f"the output path {out} is a file: timm's layout is a folder")
        there = [out / name for name in (timm_folder.WEIGHTS, timm_folder.CONFIG) if (out / name).exists()]
    else:
        out = out / FILES[to] if out.is_dir() else out
        there = [out] if out.exists() else []
    if there and not overwrite:
        raise OutputError(f"{there[0]} exists: give another --out, or --overwrite")
    return out


def _to_timm(model: Checkpoint, folder: Path, images: list[Image.Image], told: str) -> Exported:
    timm_folder.refuse_unknown(model)
    pixels = checking.as_pixels(images, model)
    tell(False, f"writing timm's layout, and checking it on {len(images)} pictures ...")
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "made"
        timm_folder.write(model, made, {})
        name, run = timm_folder.runner(made)
        record = checking.check(name, checking.in_turn(images, run), model, pixels, told)
        timm_folder.write(model, made, {"robust_transfer": description(model, record)})
        try:
            write_atomically(folder / timm_folder.CONFIG, partial(_copy_both, made, folder))
        except OSError as error:
            raise OutputError(os_message(folder, error)) from None
    how = model.preprocessing
    return Exported(folder, "timm", "what timm's own transform makes of a picture", str(how.geometry), record)


def _copy_both(made: Path, folder: Path, config: Path) -> None:
    """Copy the configuration to ``config``, still a temporary file, and the weights to ``folder``.

    An older configuration goes before the weights come: whenever this is cut short, none describes weights of another export.
    """
    shutil.copyfile(made / timm_folder.CONFIG, config)

    def weights(path: Path) -> None:
        shutil.copyfile(made / timm_folder.WEIGHTS, path)
        (folder / timm_folder.CONFIG).unlink(missing_ok=True)

    write_atomically(folder / timm_folder.WEIGHTS, weights)
