"""Resizing stays outside an ONNX file: its antialiased Resize differs from Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize(
    ("mode", "filtering"), [("cubic", Image.Resampling.BICUBIC), ("linear", Image.Resampling.BILINEAR)]
)
def test_the_resize_of_onnx_is_not_pillows(size: int, mode: str, filtering: Image.Resampling) -> None:
    """Where this fails, they agree: resizing may go inside then."""
    onnxruntime, helper = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx.helper")
    uint8, int64, shape = 2, 7, [1, 3, None, None]  # numbers of ONNX's types
    how = {"mode": mode, "antialias": 1, "axes": [2, 3], "coordinate_transformation_mode": "half_pixel"}
    coefficient = {"cubic_coeff_a": -0.5} if mode == "cubic" else {}  # Pillow's
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **how, **coefficient)
    x, y = (helper.make_tensor_value_info(name, uint8, shape) for name in "xy")
    graph = helper.make_graph([node], "g", [x], [y], [helper.make_tensor("sizes", int64, [2], [size, size])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    apart, differ = list[int](), list[float]()
    for photo in load_sample_images().images:
        for part in (photo, photo[:100, :333]):
            pixels = np.ascontiguousarray(part.transpose(2, 0, 1)[None])
            found = session.run(None, {"x": pixels})[0][0].transpose(1, 2, 0).astype(int)
            wanted = np.asarray(Image.fromarray(part).resize((size, size), filtering)).astype(int)
            apart.append(int(np.abs(found - wanted).max()))
            differ.append(float((found != wanted).mean()))
    print(f"{mode} to {size}: differ by up to {max(apart)} of 255, in up to {100 * max(differ):.1f} % of the values")
    assert max(apart) > 1, "one would be a matter of rounding"
