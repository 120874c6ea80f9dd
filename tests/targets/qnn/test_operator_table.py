"""Every line of the operator table, planned, written and run under QNN's emulation of the HTP."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from qcompile.core.target import Target
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executor import open_artefact
from qcompile.targets.qnn.backend import QnnBackend
from qcompile.targets.qnn.session import CHILD, EP
from qcompile.targets.worker import Worker
from tests.models.running import sqnr
from tests.passes.planning import EXECUTOR, planned

WHOLE = load_target("ort-qnn-htp")
TARGETS = {scheme: WHOLE.under(scheme) for scheme in ("w8a8", "w8a16")}
QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}
MOST_LOST = 1.0
"""dB below the same QDQ graph's exact integers."""
ENOUGH = 40.0
"""dB above which nothing more is asked: what the HTP computes in 16 bits is not all that fine."""

GONE = {"Relu", "Clip", "Squeeze", "Unsqueeze", "Flatten"}
"""What quantizers do, or becomes a Reshape."""

X, TWO, ROWS = "float[1,8,6,6] x", "float[1,8,6,6] x, float[1,8,6,6] z", "float[4,16] x"
Constants = Mapping[str, Any]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


UP = np.array([1, 1, 2, 2], np.float32)
PADS = ints(0, 0, 1, 1, 0, 0, 1, 1)
CASES: list[tuple[str, str, str, str, Constants]] = [
    ("Conv", "", X, "Conv(x, w, b)", {"w": noise(4, 8, 3, 3), "b": noise(4)}),
    ("Conv", "1-D", "float[1,8,16] x", "Conv(x, w)", {"w": noise(4, 8, 3)}),
    ("Conv", "3-D", "float[1,4,5,5,5] x", "Conv(x, w)", {"w": noise(4, 4, 3, 3, 3)}),
    ("Conv", "grouped", X, "Conv<group=2>(x, w)", {"w": noise(4, 4, 3, 3)}),
    ("Conv", "depthwise", X, "Conv<group=8>(x, w, b)", {"w": noise(8, 1, 3, 3), "b": noise(8)}),
    ("ConvTranspose", "", X, "ConvTranspose<strides=[2,2]>(x, w)", {"w": noise(8, 4, 2, 2)}),
    ("Gemm", "", ROWS, "Gemm<transB=1>(x, w, b)", {"w": noise(8, 16), "b": noise(8)}),
    ("MatMul", "", "float[1,4,16] x", "MatMul(x, w)", {"w": noise(16, 8)}),
    ("MatMul", "stack", "float[1,2,4,16] x", "MatMul(x, w)", {"w": noise(1, 2, 16, 8)}),
    ("MatMul", "activations", "float[1,2,4,5] x, float[1,2,5,3] z", "MatMul(x, z)", {}),
    *((op, "", TWO, f"{op}(x, z)", {}) for op in ("Add", "Sub", "Mul", "Max", "Min")),
    *((op, "constant", X, f"{op}(x, c)", {"c": noise(1, 8, 1, 1)}) for op in ("Add", "Sub", "Mul")),
    ("Div", "", X, "Div(x, c)", {"c": np.abs(noise(1, 8, 1, 1)) + np.float32(0.5)}),
    ("Where", "", TWO, "Where(c, x, z)", {"c": noise(1, 8, 6, 6) > 0}),
    *((op, "", X, f"{op}(x)", {}) for op in ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish")),
    *((op, "", X, f"{op}(x)", {}) for op in ("HardSigmoid", "Elu", "Gelu", "Exp", "Neg", "Abs")),
    *((op, "", X, f"{op}(x)", {}) for op in ("Sin", "Cos", "Softplus", "Flatten")),
    *((op, "", X, f"{op}(x)", {}) for op in ("GlobalAveragePool", "GlobalMaxPool", "Softmax")),
    ("Gelu", "tanh", X, 'Gelu<approximate="tanh">(x)', {}),
    ("Clip", "", X, "Clip(x, l, h)", {"l": np.float32(-0.5), "h": np.float32(1)}),
    ("Sqrt", "", "float[1,8] v", "Sqrt(x)", {}),
    ("Log", "", "float[1,8] v", "Log(x)", {}),
    ("LogSoftmax", "", ROWS, "LogSoftmax(x)", {}),
    ("Softmax", "axis 1", X, "Softmax<axis=1>(x)", {}),
    ("AveragePool", "", X, "AveragePool<kernel_shape=[2,2]>(x)", {}),
    ("AveragePool", "1-D", "float[1,8,16] x", "AveragePool<kernel_shape=[2]>(x)", {}),
    ("MaxPool", "", X, "MaxPool<kernel_shape=[2,2],strides=[2,2]>(x)", {}),
    *(
        (op, "", X, f"{op}<keepdims=1>(x, a)", {"a": ints(2, 3)})
        for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
    ),
    *((op, "", X, f"{op}<axis=1,keepdims=0>(x)", {}) for op in ("ArgMax", "ArgMin")),
    ("Concat", "", TWO, "Concat<axis=1>(x, z)", {}),
    ("Reshape", "", X, "Reshape(x, s)", {"s": ints(1, 48, 6)}),
    ("Squeeze", "", "float[1,8,1,6] x", "Squeeze(x, a)", {"a": ints(2)}),
    ("Unsqueeze", "", ROWS, "Unsqueeze(x, a)", {"a": ints(1)}),
    ("Transpose", "", X, "Transpose<perm=[0,2,3,1]>(x)", {}),
    ("Slice", "", X, "Slice(x, a, b, c)", {"a": ints(1), "b": ints(5), "c": ints(2)}),
    ("Expand", "", "float[1,8,1,6] x", "Expand(x, s)", {"s": ints(1, 8, 6, 6)}),
    ("Tile", "", X, "Tile(x, r)", {"r": ints(1, 2, 1, 1)}),
    ("Pad", "constant", X, "Pad(x, p)", {"p": PADS}),
    ("Pad", "reflect", X, 'Pad<mode="reflect">(x, p)', {"p": PADS}),
    ("DepthToSpace", "", X, "DepthToSpace<blocksize=2>(x)", {}),
    ("SpaceToDepth", "", X, "SpaceToDepth<blocksize=2>(x)", {}),
    ("Resize", "nearest", X, 'Resize<mode="nearest">(x,,u)', {"u": UP}),
    ("Resize", "linear", X, 'Resize<mode="linear">(x,,u)', {"u": UP}),
    ("Split", "", X, "Split<axis=1,num_outputs=2>(x)", {}),
]


@pytest.fixture(scope="module")
def qnn() -> Iterator[Worker]:
    with Worker(CHILD, timeout=120) as worker:
        yield worker


def model_of(op: str, inputs: str, call: str, constants: Constants) -> ir.Model:
    """``v`` is an input that only has positive values behind it."""
    kind = "int64" if op.startswith("Arg") else "float"
    body = f"y = {call}" if op != "Split" else f"y, y2 = {call}"
    ends = f"{kind} y" if op != "Split" else "float y, float y2"
    if " v" in inputs:
        body = f"e = Sigmoid(v) x = Add(e, half) {body}"
        constants = {"half": np.full((1, 8), 0.5, np.float32), **constants}
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    proto = onnx.parser.parse_model(f"{header}\ng ({inputs}) => ({ends}) {{ {body} }}")
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))
    for number, node in enumerate(model.graph):
        node.name = f"n{number}_{node.op_type}"
    return model


def feeds_of(model: ir.Model) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    inputs = {v.name or "": tuple(map(int, v.shape or ())) for v in model.graph.inputs}
    return [
        {name: rng.standard_normal(shape).astype(np.float32) for name, shape in inputs.items()}
        for _ in range(8)
    ]


def run(qnn: Worker, target: Target, case: tuple[str, str, Constants], op: str) -> float:
    """How many dB QNN is below the exact integers, 0 where it is good enough; all of it on HTP."""
    model = model_of(op, *case)
    feeds = feeds_of(model)
    made = planned(model, feeds, target=target)
    assert any(node.mode != "float" for node in made.plan.nodes.values()), made.plan.nodes
    data = QnnBackend().lower(made.qdq(), target).data
    assert target.accelerator is not None
    placed = qnn.call("open", data, dict(target.accelerator.options), True, False, "")
    assert {(who, name) for _, who, name, kind in placed if who != EP} == set()
    assert op in {kind for *_, kind in placed} or op in GONE
    exact, real = open_artefact(data, exact=True), EXECUTOR.load(model)
    runs = [(real.run(feed), exact.run(feed), qnn.call("run", feed)) for feed in feeds]
    if op.startswith("Arg"):
        assert all(np.array_equal(ours, theirs) for _, ours, theirs in runs)
        return 0.0
    wanted, ours, theirs = (
        np.concatenate([x.reshape(-1) for one in side for x in one])
        for side in zip(*runs, strict=True)
    )
    return min(sqnr(wanted, ours), ENOUGH) - sqnr(wanted, theirs)


@pytest.mark.qnn
@pytest.mark.parametrize("scheme", TARGETS)
@pytest.mark.parametrize(
    ("op", "what", "inputs", "call", "constants"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES]
)
def test_every_line_runs_on_the_htp(
    qnn: Worker, scheme: str, op: str, what: str, inputs: str, call: str, constants: Constants
) -> None:
    target = TARGETS[scheme]
    if target.rule(op) is None:
        assert target.why_float(op)
        return
    lost = run(qnn, target, (inputs, call, constants), op)
    assert lost <= MOST_LOST, (op, what, lost)


def test_every_line_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(WHOLE.ops)
