"""The whole way on small models: schemes, targets, ends, ranges, samples, dumps."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler.output import PLAN, PLAN_ARRAYS, REPORT
from qcompile.compiler.pipeline import prepare_passes
from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.affine import quantize
from qcompile.passes.plan.ranges.table import RANGE_METHODS
from qcompile.targets.catalog import load_target, target_names
from qcompile.targets.onnxruntime.lower import lower
from tests.compiler import small
from tests.targets.onnxruntime.running import run_bytes

SCHEMES = ("w8a8", "w8a8-dynamic", "float")
TARGETS = [n for n in target_names() if load_target(n).runtime == "onnxruntime"]


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    return small.saved(small.cnn(), tmp_path)


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    return small.saved(small.mlp(), tmp_path)


# --- schemes and targets ----------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_example_for_every_scheme_and_target(target: str, scheme: str) -> None:
    result = small.digits(target=target, scheme=scheme)
    model = onnx.load_from_string(result.artefact)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (13, 7)
    assert (result.report.target, result.report.scheme) == (target, scheme)
    assert result.report.accuracy is not None
    assert result.report.accuracy.worst_sqnr_db is not None
    assert (
        result.report.accuracy.worst_sqnr_db
        > {"w8a8": 40, "w8a8-dynamic": 30, "float": 100}[scheme]
    )
    integer = {op.op for op in result.report.coverage.ops if op.integer}
    floats = {op.op for op in result.report.coverage.ops if op.float}
    if scheme == "w8a8":
        assert floats == set()
        assert result.report.artefact.bytes < 0.35 * result.report.model.bytes
    elif scheme == "w8a8-dynamic":
        assert integer == {"Gemm"}
        assert "Conv" in floats
    else:
        assert integer == set()
    assert "nothing in this model became integer" not in small.warnings(result)
    assert result.report.unfit == ()


@pytest.mark.parametrize(
    ("target", "scheme", "takes"),
    [
        (
            "ort-x86-vnni",
            "w8a16",
            "w8a8, w8a8-dynamic, w8, w4, w3, w2, w1.58, w1, fp16, float; "
            "--simulate builds w8a16 to be looked at, not to ship",
        ),
        ("ort-qnn-htp", "fp16", "w8a8, w8a16, float"),
        ("tflite-micro", "w8a8-dynamic", "w8a8, float"),
    ],
)
def test_a_scheme_without_kernels_is_refused_before_any_work(
    cnn: Path, target: str, scheme: str, takes: str
) -> None:
    with pytest.raises(QCompileError) as caught:
        small.built(cnn, target=target, scheme=scheme)
    assert caught.value.code is Code.SCHEME_UNSUPPORTED
    assert caught.value.message == f"{target} has no kernels for {scheme}"
    assert caught.value.hint == f"it takes {takes}"


def test_float_nodes_have_their_reason(mlp: Path) -> None:
    result = small.built(mlp, data={"x": small.rows(16)})
    (node,) = result.report.coverage.float_nodes
    assert (node.op, node.reason) == ("Tanh", "ONNX Runtime has no integer Tanh")
    assert small.integer_share(result, "Gemm") == (2, 0)


def test_a_model_in_which_nothing_can_be_integer_is_built_and_warned_of(tmp_path: Path) -> None:
    model = small.text_model(
        'net (float["N", 4] x) => (float["N", 4] y) { a = Tanh (x)\n y = Softplus (a) }', {}
    )
    result = small.built(small.saved(model, tmp_path), data={"x": small.rows(16)[:, :4]})
    assert "nothing in this model became integer" in small.warnings(result)
    assert result.report.accuracy is not None
    assert result.report.accuracy.outputs[0].sqnr_db > 100  # type: ignore[operator]
    assert [n.reason for n in result.report.coverage.float_nodes] == [
        "ONNX Runtime has no integer Tanh",
        "ONNX Runtime has no integer Softplus",
    ]


def test_external_weights_are_built_to_the_same_bytes(cnn: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    onnx.save(
        small.cnn(), str(beside / "model.onnx"), save_as_external_data=True,
        location="w.bin", size_threshold=0,
    )  # fmt: skip
    for scheme in SCHEMES:
        one, two = (
            small.built(path, data={"x": small.pictures(16)}, scheme=scheme)
            for path in (cnn, beside / "model.onnx")
        )
        assert one.artefact == two.artefact
        assert two.report.model.bytes > one.report.model.bytes, "the data file counts"


# --- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_integer_ends_exchange_the_integers_of_the_float_ends(cnn: Path, target: str) -> None:
    data = {"x": small.pictures(16)}
    floats = small.built(cnn, data=data, target=target)
    result = small.built(cnn, data=data, target=target, ends="uint8")
    x, y = (result.plan.values[name].params for name in ("x", "y"))
    assert x is not None
    assert y is not None
    proto = onnx.load_from_string(result.artefact)
    kinds = [e.type.tensor_type.elem_type for e in (*proto.graph.input, *proto.graph.output)]
    assert kinds == [onnx.TensorProto.UINT8] * 2
    batch = small.pictures(5, seed=3)
    (integers,) = run_bytes(
        result.artefact, {"x": quantize(batch, x.scale, x.zero_point, "uint8")}, optimize=True
    )
    assert integers.dtype == np.uint8
    (wanted,) = run_bytes(floats.artefact, {"x": batch}, optimize=True)
    rounded = quantize(wanted, y.scale, y.zero_point, "uint8")
    steps = np.abs(integers.astype(int) - rounded.astype(int))
    assert steps.max() <= 1, "the float ends give what these integers are rounded from"
    assert np.count_nonzero(steps) <= 1
    assert dict(result.report.options) == {"io": "uint8"}
    assert result.report.accuracy is not None
    assert result.report.accuracy.outputs[0].sqnr_db > 25  # type: ignore[operator]


def test_integer_ends_behind_a_float_node_stay_float(mlp: Path) -> None:
    """Only an end that has parameters can be integer."""
    model = onnx.load(str(mlp))
    model.graph.node.append(onnx.helper.make_node("Tanh", ["y"], ["t"], "last"))
    model.graph.output[0].name = "t"
    onnx.save(model, str(mlp))
    result = small.built(mlp, data={"x": small.rows(16)}, ends="uint8")
    signature = result.report.artefact
    assert [i.dtype for i in signature.inputs] == ["uint8"]
    assert [o.dtype for o in signature.outputs] == ["float32"]


def test_ends_that_the_kernels_do_not_have_are_refused(cnn: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        small.built(cnn, data={"x": small.pictures(16)}, ends="int16")
    assert caught.value.code is Code.BAD_OPTION
    assert caught.value.hint == "--io uint8 or --io int8 or --io float"


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_granularity(cnn: Path, granularity: str) -> None:
    result = small.built(cnn, data={"x": small.pictures(16)}, granularity=granularity)
    kept = {v.granularity for v in result.plan.values.values() if v.role == "weight"}
    assert kept == {granularity}
    assert ("granularity", granularity) in result.report.options


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_every_way_to_choose_a_range(cnn: Path, method: str) -> None:
    data = {"x": small.pictures(64)}
    result = small.built(cnn, data=data, ranges=method)
    rules = {v.rule for v in result.plan.values.values() if v.role == "activation"}
    assert rules == {method, "shared"}
    assert result.report.ranges == method
    assert result.report.accuracy is not None
    assert result.report.accuracy.outputs[0].sqnr_db > 18  # type: ignore[operator]
    x, widest = (
        r.plan.values["x"].params for r in (result, small.built(cnn, data=data, ranges="minmax"))
    )
    assert x is not None
    assert widest is not None
    assert float(x.scale) <= float(widest.scale) * (1 + 1e-6)


def test_shapes_are_fixed(tmp_path: Path) -> None:
    model = small.text_model(
        """net (float["N", 3, "H", "W"] x) => (float["N", 2, "H", "W"] y) {
            y = Conv <pads = [1, 1, 1, 1]> (x, w)
        }""",
        {"w": small.weights(0, 2, 3, 3, 3)},
    )
    path = small.saved(model, tmp_path)
    result = small.built(path, data={"x": small.pictures(16)}, shapes={"x": (1, 3, 8, 8)})
    assert result.report.artefact.inputs[0].shape == (1, 3, 8, 8)
    assert ("shape x", "1x3x8x8") in result.report.options
    with pytest.raises(QCompileError) as caught:
        small.built(path, data={"x": small.pictures(16)}, shapes={"x": (1, 4, 8, 8)})
    assert caught.value.code in {Code.SHAPE_CONFLICT, Code.MODEL_INVALID}


@pytest.mark.parametrize(
    ("options", "word"),
    [({"seed": -1}, "--seed"), ({"threads": 0}, "--threads"), ({"effort": "x"}, "--effort")],
)
def test_options_out_of_range(cnn: Path, options: dict[str, object], word: str) -> None:
    with pytest.raises(QCompileError) as caught:
        small.built(cnn, data={"x": small.pictures(16)}, **options)
    assert caught.value.code is Code.BAD_OPTION
    assert word in caught.value.message


def test_the_result_shows_itself(cnn: Path) -> None:
    result = small.built(cnn, data={"x": small.pictures(16)}, time_passes=True)
    assert "<table" in result._repr_html_()
    assert result.report.artefact.name == "", "nothing was written"
    assert [p.name for p in result.report.measured.passes] == [
        type(p).__name__ for p in prepare_passes()
    ]


# --- samples ----------------------------------------------------------------------------------


def test_several_inputs_and_no_labels(tmp_path: Path) -> None:
    model = small.text_model(
        """net (float["N", 16] a, float["N", 16] b, int64["N"] i) => (float["N", 5] y, int64["N"] j)
        {
            c = MatMul (a, w)
            d = MatMul (b, w)
            y = Add (c, d)
            j = Identity (i)
        }""",
        {"w": small.weights(1, 16, 5)},
    )
    path = small.saved(model, tmp_path)
    data = {"a": small.rows(12), "b": 5 * small.rows(12, 3), "i": np.arange(12)}
    result = small.built(path, data=data)
    assert small.integer_share(result, "MatMul") == (2, 0)
    assert result.report.accuracy is not None
    quality = {o.name: o for o in result.report.accuracy.outputs}
    assert quality["y"].sqnr_db > 25  # type: ignore[operator]
    assert quality["j"].equal == 1.0
    a, b = (result.plan.values[name].params for name in "ab")
    assert a is not None
    assert b is not None
    assert 3 < float(b.scale) / float(a.scale) < 8, "each input has its own scale"


def test_few_samples_are_all_used_and_none_is_held_out(cnn: Path) -> None:
    result = small.built(cnn, data={"x": small.pictures(5)})
    assert result.report.accuracy is None
    assert result.report.calibration.startswith("5 of 5 samples")
    assert "too few to hold some out" in result.report.no_accuracy
    assert result.report.worst_layers, "the layers are still compared"


def test_samples_to_judge_on_are_kept_apart(cnn: Path) -> None:
    judged = {"x": small.pictures(7, seed=2)}
    result = small.built(cnn, data={"x": small.pictures(16)}, eval_data=judged)
    assert result.report.accuracy is not None
    assert result.report.accuracy.samples == 7
    assert result.report.calibration.startswith("16 samples")


def test_no_samples(cnn: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        small.built(cnn)
    assert caught.value.code is Code.NO_DATA
    for way in ("-d FOLDER", "qcompile.toml", "w8a8-dynamic", "--random-data"):
        assert way in (caught.value.hint or "")
    for scheme in SCHEMES[1:]:
        result = small.built(cnn, scheme=scheme)
        assert result.report.accuracy is None
        assert result.report.unfit == ()


def test_noise_is_unfit_to_ship_and_so_is_all_that_its_plan_builds(
    cnn: Path, tmp_path: Path
) -> None:
    result = small.built(cnn, random_data=True, out=tmp_path / "out.onnx")
    assert result.report.unfit == ("it is built on noise, not on data",)
    assert result.report.calibration == "32 samples of noise"
    again = small.built(cnn, plan=tmp_path / "out.onnx.plan.json", data={"x": small.pictures(16)})
    assert again.artefact == result.artefact
    assert again.report.unfit == result.report.unfit


def test_noise_that_gives_no_ranges_does_no_harm(cnn: Path) -> None:
    result = small.built(cnn, random_data=True, scheme="w8a8-dynamic")
    assert result.report.unfit == ()


def test_real_samples_win_over_noise(cnn: Path) -> None:
    result = small.built(cnn, random_data=True, data={"x": small.pictures(16)})
    assert result.report.unfit == ()


# --- dumps ------------------------------------------------------------------------------------


def test_dumps_end_in_the_qdq_graph_from_which_alone_the_artefact_is_lowered(
    cnn: Path, tmp_path: Path
) -> None:
    dumps = tmp_path / "new folder" / "dumps"
    result = small.built(cnn, data={"x": small.pictures(16)}, dump_dir=dumps)
    names = sorted(p.name for p in dumps.iterdir())
    last = f"{len(prepare_passes()):02d}_InsertQDQ"
    assert names[-2:] == [f"{last}.onnx", f"{last}.txt"]
    for name in names:
        if name.endswith(".onnx"):
            onnx.checker.check_model(onnx.load(str(dumps / name)))
    qdq = ir.load(dumps / f"{last}.onnx")
    assert lower(qdq, load_target(small.TARGET)) == result.artefact


def test_a_build_of_a_dump_gives_the_same_artefact(tmp_path: Path) -> None:
    """Passes find nothing left to do in the graph that they made."""
    result = small.digits(dump_dir=tmp_path / "dumps")
    canonical = sorted((tmp_path / "dumps").glob("*.onnx"))[-2]
    again = small.built(
        canonical,
        data=small.DIGITS / "calibration.npz",
        config=small.DIGITS / "qcompile.toml",
        dump_dir=tmp_path / "again",
    )
    assert sorted(p.name for p in (tmp_path / "again").glob("*.onnx")) == [
        f"{len(prepare_passes()):02d}_InsertQDQ.onnx"
    ]
    assert again.plan.fingerprint == result.plan.fingerprint
    assert again.artefact == result.artefact


@pytest.mark.parametrize("where", [".", "data", "data/deeper"])
def test_dumps_do_not_go_where_inputs_lie(
    cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "0.npy", small.pictures(1)[0])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(QCompileError) as caught:
        small.built(cnn, data="data", dump_dir=where)
    assert caught.value.code is Code.OUTPUT_IS_INPUT
    assert sorted(tmp_path.rglob("*")) == before


def test_dumps_that_cannot_be_written(cnn: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(QCompileError) as caught:
        small.built(cnn, data={"x": small.pictures(16)}, dump_dir=tmp_path / "file" / "dumps")
    assert caught.value.code is Code.OUTPUT_UNWRITABLE


# --- what is written, and what never is -------------------------------------------------------


def test_what_is_written_is_what_is_returned(cnn: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = small.built(cnn, data={"x": small.pictures(16)}, out=out)
    assert out.read_bytes() == result.artefact
    report = json.loads((tmp_path / f"out.onnx{REPORT}").read_text())
    assert report["artefact"]["name"] == "out.onnx"
    assert report["artefact"]["bytes"] == len(result.artefact)
    plan = json.loads((tmp_path / f"out.onnx{PLAN}").read_text())
    assert plan["fingerprint"] == result.plan.fingerprint
    assert (tmp_path / f"out.onnx{PLAN_ARRAYS}").is_file()


INPUTS = ("model.onnx", "data.npz", "eval.npz", "labels.txt", "qcompile.toml", "mine.toml")


@pytest.mark.parametrize("victim", [*INPUTS, "saved.plan.json", "saved.plan.npz"])
def test_no_input_is_ever_an_output(
    cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=small.pictures(12))
    np.savez("eval.npz", x=small.pictures(6))
    Path("labels.txt").write_text("0\n1\n2\n3\n0\n1\n")
    Path("qcompile.toml").write_text('[data]\ncalibration = "data.npz"\neval = "eval.npz"\n')
    Path("mine.toml").write_text(f'base = "{small.TARGET}"\nname = "mine"\n')
    options = {"target": "mine.toml", "labels": "labels.txt"}
    small.built(cnn, out="saved", **options)
    Path("saved").unlink()
    if victim.startswith("saved"):
        options["plan"] = "saved.plan.json"
    before = {p: p.read_bytes() for p in sorted(tmp_path.iterdir())}
    with pytest.raises(QCompileError) as caught:
        small.built(cnn, out=victim, **options)
    assert caught.value.code is Code.OUTPUT_IS_INPUT
    assert before == {p: p.read_bytes() for p in sorted(tmp_path.iterdir())}
