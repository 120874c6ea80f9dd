"""Each change between opsets: a node of the old one, converted, computes what it computed."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler.importers.adapters import ADAPTERS
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.errors import Code, QCompileError
from tests.compiler.importers.build import parse, random_feeds, run, same, save

X4 = "float[1,4,6,6] x"

CASES = {
    ("BatchNormalization", 9): (
        8,
        """g (float[1,2,3,3] x) => (float[1,2,3,3] y)
        <float[2] s = {1.5, 0.5}, float[2] b = {1, -1}, float[2] m = {0.1, 0.2},
         float[2] v = {1, 2}>
        { y = BatchNormalization<epsilon=0.001, spatial=1>(x, s, b, m, v) }""",
    ),
    ("BatchNormalization", 14): (
        9,
        """g (float[1,2,3,3] x) => (float[1,2,3,3] y)
        <float[2] s = {1.5, 0.5}, float[2] b = {1, -1}, float[2] m = {0.1, 0.2},
         float[2] v = {1, 2}>
        { y = BatchNormalization<epsilon=0.001>(x, s, b, m, v) }""",
    ),
    ("Upsample", 9): (
        7,
        "g (float[1,2,3,3] x) => (y) { y = Upsample<scales=[1.0,1.0,2.0,3.0]>(x) }",
    ),
    ("Upsample", 10): (
        9,
        """g (float[1,2,3,3] x) => (y) <float[4] s = {1, 1, 2.5, 2}>
        { y = Upsample<mode="linear">(x, s) }""",
    ),
    ("Slice", 10): (
        9,
        "g (float[5,6] x) => (y) { y = Slice<starts=[1,-4], ends=[4,100], axes=[0,1]>(x) }",
    ),
    ("TopK", 10): (9, "g (float[3,7] x) => (y, i) { y, i = TopK<axis=1, k=3>(x) }"),
    ("Clip", 11): (10, "g (float[3,7] x) => (y) { y = Clip<max=0.5>(x) }"),
    ("Pad", 11): (
        10,
        "g (float[2,3] x) => (y) { y = Pad<pads=[1,0,0,2], value=1.5>(x) }",
    ),
    ("Resize", 11): (
        10,
        "g (float[1,1,5,7] x) => (y) <float[4] s = {1, 1, 0.6, 0.5}> { y = Resize(x, s) }",
    ),
    ("Scatter", 11): (
        10,
        """g (float[3,3] x, float[1,2] u) => (y) <int64[1,2] i = {2, 0}>
        { y = Scatter<axis=1>(x, i, u) }""",
    ),
    ("Dropout", 12): (11, "g (float[3,3] x) => (y) { y = Dropout<ratio=0.7>(x) }"),
    ("LogSoftmax", 13): (12, "g (float[2,3,4] x) => (y) { y = LogSoftmax(x) }"),
    ("Hardmax", 13): (12, "g (float[2,3,4] x) => (y) { y = Hardmax<axis=1>(x) }"),
    ("ReduceSum", 13): (12, f"g ({X4}) => (y) {{ y = ReduceSum<axes=[2,3], keepdims=0>(x) }}"),
    ("Softmax", 13): (12, f"g ({X4}) => (y) {{ z = Softmax<axis=2>(x) y = Relu(z) }}"),
    ("Split", 13): (12, f"g ({X4}) => (y, z) {{ y, z = Split<axis=1, split=[1,3]>(x) }}"),
    ("Squeeze", 13): (12, "g (float[1,3,1] x) => (y) { y = Squeeze<axes=[2]>(x) }"),
    ("Unsqueeze", 13): (12, "g (float[3] x) => (y) { y = Unsqueeze<axes=[0,2]>(x) }"),
    ("RoiAlign", 16): (
        15,
        f"""g ({X4}) => (y) <float[1,4] r = {{0.5, 0.5, 4, 5}}, int64[1] b = {{0}}>
        {{ y = RoiAlign<output_height=2, output_width=3, sampling_ratio=2>(x, r, b) }}""",
    ),
    ("Split", 18): (17, f"g ({X4}) => (y, z) {{ y, z = Split<axis=2>(x) }}"),
    ("DFT", 20): (17, "g (float[1,8,1] x) => (y) { y = DFT<axis=1>(x) }"),
    ("GridSample", 20): (
        16,
        """g (float[1,1,4,4] x, float[1,3,3,2] c) => (y)
        { y = GridSample<mode="bilinear", padding_mode="border">(x, c) }""",
    ),
    ("GroupNormalization", 21): (
        18,
        f"""g ({X4}) => (y) <float[2] s = {{1.5, 0.5}}, float[2] b = {{1, -1}}>
        {{ y = GroupNormalization<num_groups=2, epsilon=0.001>(x, s, b) }}""",
    ),
    **{
        (op, 18): (
            17,
            f"g ({X4}) => (y) {{ a = Abs(x) y = {op}<axes=[1,-1], keepdims=1>(a) }}",
        )
        for op in (
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSumSquare",
        )
    },
}

REFUSED = {
    ("Scan", 9),  # see test_scan_of_opset_8
}


def test_every_adapter_has_a_case() -> None:
    assert set(CASES) | REFUSED == set(ADAPTERS)


@pytest.mark.parametrize("change", list(CASES), ids=lambda c: f"{c[0]}-{c[1]}")
def test_function_is_kept(change: tuple[str, int], tmp_path: Path) -> None:
    opset, text = CASES[change]
    proto = parse(text, opset=opset)
    for info in proto.graph.output:  # the cases leave the types of outputs out
        if not info.type.tensor_type.elem_type:
            info.type.tensor_type.elem_type = onnx.TensorProto.INT64 if info.name == "i" else 1
    imported = load_onnx(save(proto, tmp_path))
    assert imported.model.opset_imports[""] == 21
    assert [n.message for n in imported.notes] == [f"converted from opset {opset} to 21"]
    onnx.checker.check_model(ir.to_proto(imported.model))
    feeds = random_feeds(proto)
    before, after = run(proto, feeds), run(imported.model, feeds)
    if change[0] == "GroupNormalization":  # a function of other nodes in each opset
        assert np.abs(before[0] - after[0]).max() < 1e-6
    else:
        assert same(before, after)


def test_softmax_of_unknown_rank_keeps_its_flattening(tmp_path: Path) -> None:
    proto = parse(
        """g (float[2,3,4] x, int64[3] s) => (float[a,b,c] y)
        { r = Reshape(x, s) y = Softmax<axis=1>(r) }""",
        opset=12,
    )
    feeds = {**random_feeds(proto), "s": np.asarray([2, 6, 2])}
    imported = load_onnx(save(proto, tmp_path))
    assert same(run(proto, feeds), run(imported.model, feeds))


def test_clip_keeps_the_type_of_half_floats(tmp_path: Path) -> None:
    text = "g (float16[3] x) => (float16[3] y) { z = Relu(x) y = Clip<min=0.1, max=0.5>(z) }"
    proto = parse(text, opset=10)
    imported = load_onnx(save(proto, tmp_path))
    assert same(run(proto, random_feeds(proto)), run(imported.model, random_feeds(proto)))


def test_unused_training_outputs_are_dropped(tmp_path: Path) -> None:
    proto = parse(
        """g (float[1,2,3] x) => (float[1,2,3] y)
        <float[2] s = {1, 2}, float[2] b = {0, 0}, float[2] m = {0, 1}, float[2] v = {1, 2}>
        { y, rm, rv, sm, sv = BatchNormalization(x, s, b, m, v) }""",
        opset=9,
    )
    node = next(iter(load_onnx(save(proto, tmp_path)).model.graph))
    assert len(node.outputs) == 1


@pytest.mark.parametrize(
    ("opset", "text", "words"),
    [
        (
            8,
            """g (float[1,2,3] x) => (float[1,2,3] y)
            <float[6] s = {1,1,1,1,1,1}, float[6] b = {0,0,0,0,0,0}, float[6] m = {0,0,0,0,0,0},
             float[6] v = {1,1,1,1,1,1}>
            { [bn] y = BatchNormalization<spatial=0>(x, s, b, m, v) }""",
            "spatial",
        ),
        (
            9,
            """g (float[1,2,3] x) => (float[1,2,3] y, float[2] m2)
            <float[2] s = {1, 2}, float[2] b = {0, 0}, float[2] m = {0, 1}, float[2] v = {1, 2}>
            { [bn] y, m2 = BatchNormalization(x, s, b, m, v) }""",
            "training outputs",
        ),
        (
            10,
            """g (float[1,1,4,4] x) => (float[1,1,2,8] y) <float[4] s = {1, 1, 0.5, 2}>
            { [bn] y = Resize(x, s) }""",
            "shrinks",
        ),
    ],
    ids=["spatial-0", "training", "resize-both-ways"],
)
def test_what_has_no_equivalent_is_refused(
    opset: int, text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(QCompileError, match=words) as caught:
        load_onnx(save(parse(text, opset=opset), tmp_path))
    assert (caught.value.code, caught.value.node) == (Code.OPSET_UNSUPPORTED, "bn")


def test_scan_of_opset_8_is_refused(tmp_path: Path) -> None:
    proto = parse(
        """g (float[1,2] i, float[1,3,2] x) => (float[1,2] f, float[1,3,2] y)
        { [scan] f, y = Scan<num_scan_inputs=1, body=b (float[2] s, float[2] e)
            => (float[2] t, float[2] o) { t = Add(s, e) o = Identity(t) }>("", i, x) }""",
        opset=8,
    )
    with pytest.raises(QCompileError, match="opset 8") as caught:
        load_onnx(save(proto, tmp_path))
    assert caught.value.node == "scan"
