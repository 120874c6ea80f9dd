"""Models that another tool quantized: their scales stay to the bit, what is missing is added."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from qcompile.compiler.api import BuildResult, build
from qcompile.compiler.export import export_build
from qcompile.compiler.importers.options import ImportOptions
from qcompile.core.errors import Code, QCompileError
from tests.compiler.small import cnn

VNNI, TFLITE = "ort-x86-vnni", "tflite-x86"
X = np.random.default_rng(5).normal(size=(16, 3, 8, 8)).astype(np.float32)


class _Reader:
    """Calibration samples as ONNX Runtime's tool takes them."""

    def __init__(self) -> None:
        self._left = iter([{"x": X}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


def by_tool(folder: Path, form: str = "QDQ", **options: object) -> Path:
    """The CNN, quantized by ``quantize_static`` of ONNX Runtime."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    source, made = folder / "float.onnx", folder / f"{form}.onnx"
    source.write_bytes(cnn().SerializeToString())
    options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, **options}
    quantize_static(source, made, _Reader(), quant_format=QuantFormat[form], **options)
    return made


def run(model: bytes | Path) -> np.ndarray:
    raw = model if isinstance(model, bytes) else model.read_bytes()
    return np.asarray(ort.InferenceSession(raw).run(None, {"x": X})[0])


def scales(path: Path) -> set[float]:
    """Every scale of a model file but those of biases, which follow."""
    model = onnx.load(str(path))
    named = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {
        float(s) for name, a in named.items() if name.endswith("_scale") and a.dtype == np.float32
        for s in a.reshape(-1) if name[:2] not in ("b1", "b2", "b3")
    }  # fmt: skip


def planned(made: BuildResult) -> set[float]:
    entries = [e for e in made.plan.values.values() if e.params is not None and e.role != "bias"]
    return {float(s) for e in entries for s in e.params.scale.reshape(-1)}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "target", [VNNI, "ort-x86-avx2", pytest.param(TFLITE, marks=pytest.mark.litert)]
)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_every_scale_of_a_tool_stays_and_every_layer_fuses(
    tmp_path: Path, form: str, per_channel: bool, target: str
) -> None:
    path = by_tool(tmp_path, form, per_channel=per_channel)
    made = build(path, target=target, latency=False)
    assert planned(made) <= scales(path)
    assert {
        row.op: row.float for row in made.report.coverage.ops if row.op in ("Conv", "Gemm")
    } == {
        "Conv": 0,
        "Gemm": 0,
    }
    if target == VNNI:
        before, after = run(path), run(made.artefact)
        assert np.abs(before - after).max() <= 0.02 * np.abs(before).max()


@pytest.mark.litert
def test_u8_and_s8_have_the_same_scales_and_zero_points_128_apart(tmp_path: Path) -> None:
    path = by_tool(tmp_path)
    ours, theirs = (
        build(path, target=VNNI, latency=False),
        build(path, target=TFLITE, latency=False),
    )
    for name in ("x", "b", "d"):
        u8, s8 = ours.plan.values[name], theirs.plan.values[name]
        assert u8.params is not None and s8.params is not None
        assert (u8.dtype, s8.dtype) == ("uint8", "int8")
        assert u8.params.scale == s8.params.scale
        assert u8.params.zero_point == s8.params.zero_point + 128


def without_quantizer_of(path: Path, value: str) -> None:
    """Take a pair out of a QDQ model."""
    model = onnx.load(str(path))
    quantizer = next(n for n in model.graph.node if n.op_type[0] == "Q" and n.input[0] == value)
    pair = next(n for n in model.graph.node if quantizer.output[0] in n.input)
    for node in model.graph.node:
        node.input[:] = [value if name == pair.output[0] else name for name in node.input]
    model.graph.node.remove(quantizer)
    model.graph.node.remove(pair)
    onnx.save(model, str(path))


def test_a_missing_range_asks_for_samples_and_takes_them(tmp_path: Path) -> None:
    path = by_tool(tmp_path)
    without_quantizer_of(path, "b")
    with pytest.raises(QCompileError, match="says no scale for b") as caught:
        build(path, target=VNNI, latency=False)
    assert caught.value.code is Code.NO_DATA
    made = build(path, target=VNNI, data={"x": X}, eval_data={"x": X}, latency=False)
    assert all(not row.float for row in made.report.coverage.ops if row.op == "Conv")
    assert any("added" in note.message and "b" in note.message for note in made.report.notes)
    others = {n: e for n, e in made.plan.values.items() if e.role == "activation" and n != "b"}
    assert {e.rule for e in others.values()} <= {"imported", "shared"}
    before, after = run(path), run(made.artefact)
    after = np.clip(after, before.min(), before.max())  # the float end is no longer cut off
    assert np.abs(before - after).max() <= 0.05 * np.abs(before).max()


def test_ranges_are_measured_behind_quantizers_that_do_the_work_of_a_relu(tmp_path: Path) -> None:
    """The tool took out the Relus: zero point 0 cuts off what is negative."""
    path = by_tool(tmp_path)
    without_quantizer_of(path, "d")
    made = build(path, target=VNNI, data={"x": X}, eval_data={"x": X}, latency=False)
    graph = onnx.load(str(path))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("d", 1, None))
    d = ort.InferenceSession(graph.SerializeToString()).run(["d"], {"x": X})[0]
    params = made.plan.values["d"].params
    assert params is not None
    width = float(max(d.max(), 0) - min(d.min(), 0))
    assert abs(float(params.scale) * 255 - width) <= 0.02 * width


def test_a_float_bias_is_rounded_to_the_scales_of_the_model(tmp_path: Path) -> None:
    path = by_tool(tmp_path, extra_options={"QuantizeBias": False})
    names = [t.name for t in onnx.load(str(path)).graph.initializer]
    assert "b1" in names and "b1_quantized" not in names
    made = build(path, target=VNNI, latency=False)
    assert planned(made) <= scales(path)
    assert all(not row.float for row in made.report.coverage.ops if row.op == "Conv")


def test_the_grid_in_front_of_a_relu_serves_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
        <float s = {0.05}, uint8 z = {128}, float t = {0.04}, uint8 u = {100}> {
            xq = QuantizeLinear(x, s, z) xd = DequantizeLinear(xq, s, z)
            a = Conv(xd, w)
            aq = QuantizeLinear(a, t, u) ad = DequantizeLinear(aq, t, u)
            b = Relu(ad)
            c = Conv(b, w)
            yq = QuantizeLinear(c, t, u) y = DequantizeLinear(yq, t, u)
        }"""
    )
    w = np.random.default_rng(0).normal(size=(2, 2, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    onnx.save(model, str(path))
    made = build(path, target=VNNI, latency=False)
    entry = made.plan.values["b"]
    assert entry.params is not None and entry.rule == "derived from the imported"
    assert (entry.params.scale, entry.params.zero_point) == (np.float32(0.04), 0)


def test_integers_of_a_bias_that_float32_does_not_hold_stay(tmp_path: Path) -> None:
    path = by_tool(tmp_path)
    model = onnx.load(str(path))
    bias = next(t for t in model.graph.initializer if t.name == "b1_quantized")
    wanted = numpy_helper.to_array(bias).copy()
    wanted[:3] = 2**24 + 1, -(2**26) - 3, 2**30 - 1
    bias.CopyFrom(numpy_helper.from_array(wanted, "b1_quantized"))
    onnx.save(model, str(path))
    made = build(path, target=VNNI, latency=False)
    stored = [v.const_value.numpy() for n, v in made.qdq.graph.initializers.items() if "b1" in n]
    assert any(a.dtype == np.int32 and np.array_equal(a, wanted) for a in stored)


def test_requantize_drops_every_scale(tmp_path: Path) -> None:
    path = by_tool(tmp_path)
    given = {"data": {"x": X}, "eval_data": {"x": X}, "effort": "fast", "latency": False}
    made = build(path, target=VNNI, requantize=True, **given)  # type: ignore[arg-type]
    assert "imported" not in {entry.rule for entry in made.plan.values.values()}
    before, after = run(path), run(made.artefact)
    assert np.abs(before - after).max() <= 0.05 * np.abs(before).max()  # its Relus are there
    with pytest.raises(QCompileError) as caught:
        build(path, target=VNNI, requantize=True, latency=False)
    assert caught.value.code is Code.NO_DATA


@pytest.mark.parametrize("scheme", ["w4", "w8a8-dynamic"])
def test_a_scheme_that_keeps_no_scale_says_so(tmp_path: Path, scheme: str) -> None:
    path = by_tool(tmp_path)
    said = f"{scheme} keeps none of its scales"
    made = build(path, target=VNNI, scheme=scheme, latency=False)
    assert [n.level for n in made.report.notes if said in n.message] == ["warning"]
    asked = build(path, target=VNNI, scheme=scheme, requantize=True, latency=False)
    assert not [n for n in asked.report.notes if said in n.message]


@pytest.mark.parametrize("requantize", [False, True])
def test_the_scales_of_a_build_can_be_exported(tmp_path: Path, requantize: bool) -> None:
    path, out = by_tool(tmp_path), tmp_path / "o.onnx"
    given = {"data": {"x": X}, "effort": "fast", "latency": False}
    made = build(path, target=VNNI, out=out, requantize=requantize, **given)  # type: ignore[arg-type]
    found = export_build(
        out, path, tmp_path / "e.json", "aimet", ImportOptions(), prepared=True
    ).exported
    activations = [v for v in made.plan.values.values() if v.role == "activation" and v.params]
    assert sum(not e.is_parameter for e in found.encodings) == len(activations)


@pytest.mark.parametrize(
    "asked", [{"max_drop": 1.0}, {"sensitivity": True}, {"never_slower": True}]
)
def test_what_needs_plans_of_our_own_is_refused(tmp_path: Path, asked: dict[str, object]) -> None:
    with pytest.raises(QCompileError, match="quantized already") as caught:
        build(by_tool(tmp_path), target=VNNI, data={"x": X}, latency=False, **asked)
    assert caught.value.code is Code.BAD_OPTION


def test_a_plan_of_it_builds_the_same_bytes(tmp_path: Path) -> None:
    path, out = by_tool(tmp_path), tmp_path / "o.onnx"
    first = build(path, target=VNNI, out=out, latency=False)
    again = build(path, plan=tmp_path / "o.onnx.plan.json", latency=False)
    assert first.artefact == again.artefact


def test_as_floats_it_has_the_relus_that_its_quantizers_did(tmp_path: Path) -> None:
    path = by_tool(tmp_path)
    made = build(path, target=VNNI, scheme="float", latency=False)
    before, after = run(path), run(made.artefact)
    assert np.abs(before - after).max() <= 0.05 * np.abs(before).max()
