"""Resize in all its modes, DepthToSpace, SpaceToDepth."""

import itertools
from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.errors import Code, QCompileError
from tests.targets.tflite.enclosing import check_enclosed
from tests.targets.tflite.lowering import Run, check_float, lowered, parse

SAME = {"x": (1 / 32, -10), "y": (1 / 32, -10)}
WAYS = [
    "half_pixel",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "asymmetric",
    "align_corners",
]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
SIZES = [
    ((4, 5), (8, 10)),
    ((6, 8), (3, 4)),
    ((4, 6), (6, 9)),
    ((4, 5), (12, 15)),
    ((5, 7), (8, 3)),
]
"""Sizes before and after: doubled, halved, by a half, tripled, and at odds."""


def text(before: tuple[int, int], **attributes: str) -> str:
    told = ", ".join(f'{name}="{value}"' for name, value in attributes.items())
    h, w = before
    return f"g (float[1,3,{h},{w}] x) => (float y) {{ y = Resize<{told}>(x, , , s) }}"


def sizes(after: tuple[int, int]) -> dict[str, np.ndarray]:
    return {"s": np.asarray((1, 3, *after), np.int64)}


def attempt(model: str, used: dict[str, np.ndarray]) -> Run | None:
    """The checked run, or None where the compiler refuses."""
    try:
        return check_float(model, used, atol=3e-6)
    except QCompileError as error:
        if error.code is not Code.SCHEME_UNSUPPORTED or "placing of pixels" not in error.message:
            raise
        return None


@pytest.mark.parametrize("way", WAYS)
def test_bilinear_is_equal_or_refused(way: str) -> None:
    for before, after in SIZES:
        model = text(before, mode="linear", coordinate_transformation_mode=way)
        run = attempt(model, sizes(after))
        assert run is not None and run.ops == ["RESIZE_BILINEAR"]


def test_computed_scales_are_refused() -> None:
    """They need not be the ratio of the sizes, which places pixels elsewhere."""
    model = parse("""g (float[1,3,4,4] x, float[4] s) => (float y) {
        y = Resize<mode="linear", coordinate_transformation_mode="asymmetric">(x, , s) }""")
    model.graph.outputs[0].shape = ir.Shape([1, 3, 2, 2])  # as a file may declare it
    with pytest.raises(QCompileError, match="scales are computed"):
        lowered(model)


def test_one_row_by_half_pixels() -> None:
    # PyTorch places a single pixel at 0, half_pixel in the middle; TFLite can do the latter only.
    for way, possible in (("half_pixel", True), ("pytorch_half_pixel", False)):
        model = text((3, 4), mode="linear", coordinate_transformation_mode=way)
        assert (attempt(model, sizes((1, 8))) is not None) == possible


@pytest.mark.parametrize(("way", "rounding"), list(itertools.product(WAYS, ROUNDINGS)))
def test_nearest_copies_the_same_pixels(way: str, rounding: str) -> None:
    for before, after in SIZES:
        told = {"coordinate_transformation_mode": way, "nearest_mode": rounding}
        check_float(text(before, mode="nearest", **told), sizes(after), atol=1e-12)


def test_how_nearest_is_written() -> None:
    found: Counter[str] = Counter()
    for way, rounding, (before, after) in itertools.product(WAYS, ROUNDINGS, SIZES):
        told = {"coordinate_transformation_mode": way, "nearest_mode": rounding}
        run = lowered(parse(text(before, mode="nearest", **told), sizes(after)))
        found[run.ops[0]] += 1
    assert found["RESIZE_NEAREST_NEIGHBOR"] >= 40  # of 100; by indices the others
    assert set(found) == {"RESIZE_NEAREST_NEIGHBOR", "GATHER"}


@pytest.mark.parametrize(
    ("told", "op"),
    [
        ({"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, "RESIZE"),
        ({"coordinate_transformation_mode": "half_pixel", "nearest_mode": "ceil"}, "GATHER"),
    ],
)
def test_nearest_in_integers(told: dict[str, str], op: str) -> None:
    run = check_enclosed(text((4, 5), mode="nearest", **told), sizes((8, 10)), params=SAME)
    assert run.ops[0].startswith(op)
    other = {**SAME, "y": (1 / 20, 3)}
    run = check_enclosed(
        text((4, 5), mode="nearest", **told), sizes((8, 10)), params=other, lsb=1, share=0.1
    )
    assert run.ops[0] == "QUANTIZE"


@pytest.mark.parametrize("way", ["half_pixel", "asymmetric", "align_corners"])
def test_bilinear_in_integers(way: str) -> None:
    model = text((6, 7), mode="linear", coordinate_transformation_mode=way)
    run = check_enclosed(model, sizes((12, 14)), params=SAME, lsb=2, share=0.3)
    assert run.ops == ["RESIZE_BILINEAR"]
    run = check_enclosed(
        model, sizes((12, 14)), params={**SAME, "y": (1 / 20, 3)}, lsb=2, share=0.35
    )
    assert run.ops == ["QUANTIZE", "RESIZE_BILINEAR"]  # XNNPACK would not load it otherwise


def test_scales_that_do_not_come_out_even() -> None:
    scales = {"s": np.asarray([1, 1, 1.7, 1.3], np.float32)}
    for mode, ways in (("nearest", WAYS), ("linear", WAYS)):
        for way in ways:
            told = f'mode="{mode}", coordinate_transformation_mode="{way}"'
            model = f"g (float[1,3,5,7] x) => (float y) {{ y = Resize<{told}>(x, , s) }}"
            run = attempt(model, scales)
            # ONNX samples with the scale 1.7, TFLite with 8 / 5.
            assert (run is not None) == (mode == "nearest" or way == "align_corners")


def test_resizing_the_axes_of_a_picture_that_is_channels_last_in_onnx() -> None:
    told = 'mode="linear", coordinate_transformation_mode="half_pixel"'
    model = f"g (float[1,5,7,3] x) => (float y) {{ y = Resize<{told}>(x, , s) }}"
    run = check_float(model, {"s": np.asarray([1, 2, 2, 1], np.float32)})
    assert run.ops[-1] == "RESIZE_BILINEAR"


@pytest.mark.parametrize(
    ("told", "size", "why"),
    [
        ('mode="cubic"', (1, 3, 8, 10), "cubic"),
        ('mode="linear", antialias=1', (1, 3, 2, 2), "antialiasing"),
        ('mode="linear"', (2, 3, 8, 5), "two neighbouring axes"),
    ],
)
def test_refusals(told: str, size: tuple[int, ...], why: str) -> None:
    model = f"g (float[1,3,4,5] x) => (float y) {{ y = Resize<{told}>(x, , , s) }}"
    with pytest.raises(QCompileError, match=why) as error:
        lowered(parse(model, {"s": np.asarray(size, np.int64)}))
    assert error.value.code is Code.SCHEME_UNSUPPORTED and error.value.node == "Resize_0"


def test_same_size_is_nothing() -> None:
    model = "g (float[1,3,4,5] x) => (float y) { a = Neg(x) y = Resize(a, , , s) }"
    assert check_float(model, sizes((4, 5))).ops == ["NEG"]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("channels", [4, 12])
def test_depth_to_space(mode: str, channels: int) -> None:
    model = f"""g (float[2,{channels},3,5] x) => (float y)
        {{ y = DepthToSpace<blocksize=2, mode="{mode}">(x) }}"""
    turned = mode == "CRD" and channels > 4
    ops = ["RESHAPE", "TRANSPOSE", "RESHAPE", "DEPTH_TO_SPACE"] if turned else ["DEPTH_TO_SPACE"]
    assert check_float(model).ops == ops
    # The reference kernels do not know the version that has int8.
    run = check_enclosed(model, params=SAME, runtimes=("builtin", "xnnpack"))
    assert run.ops == ops and len(run.lowered.notes) == turned


def test_space_to_depth() -> None:
    model = "g (float[2,3,4,6] x) => (float y) { y = SpaceToDepth<blocksize=2>(x) }"
    assert check_float(model).ops == ["SPACE_TO_DEPTH"]
    check_enclosed(model, params=SAME, runtimes=("builtin", "xnnpack"))
    run = check_enclosed(
        model, params={**SAME, "y": (1 / 20, 3)}, lsb=1, share=0.1, runtimes=("builtin", "xnnpack")
    )
    assert run.ops == ["QUANTIZE", "SPACE_TO_DEPTH"]
