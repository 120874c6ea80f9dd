"""Weight-only schemes the whole way: built, proven, reported, replayed; what is refused and why."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.api import build_for, inspect
from qcompile.compiler.report.wording import page_of
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small

SIZES = {"table": (48, 64), "w1": (64, 96), "w2": (96, 64)}


def encoder() -> onnx.ModelProto:
    """Rows of a table, two layers, and a head that is the table transposed."""
    constants = {name: small.weights(i, *shape) for i, (name, shape) in enumerate(SIZES.items())}
    constants |= {"b1": small.weights(9, 96), "head": constants["table"].T.copy()}
    return small.text_model(
        """net (int64["N"] i) => (float["N", 48] y) {
            e = Gather (table, i)
            a = MatMul (e, w1)
            b = Add (a, b1)
            c = Tanh (b)
            d = MatMul (c, w2)
            y = MatMul (d, head)
        }""",
        constants,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved(encoder(), tmp_path_factory.mktemp("stored"))


DATA = {"i": np.arange(40, dtype=np.int64) % 48}


@pytest.mark.parametrize("scheme", ["w8", "w4", "w3", "w2"])
@pytest.mark.parametrize("options", [{}, {"granularity": "channel"}, {"symmetry": "symmetric"}])
def test_every_weight_is_stored_and_read_by_its_kernel(model, scheme, options):
    result = small.built(model, scheme=scheme, eval_data=DATA, **options)
    report = result.report
    assert report.coverage.integer == 4
    kernels = {node.op_type for node in onnx.load_from_string(result.artefact).graph.node}
    assert {"MatMulNBits", "GatherBlockQuantized"} <= kernels
    stored = report.stored
    assert stored is not None
    assert [layer.tied for layer in stored.layers] == ["head", "", "", ""]
    assert stored.elements == 64 * (96 + 96 + 48)
    bits = {"w8": 8, "w4": 4, "w3": 4, "w2": 2}[scheme]
    assert bits < stored.bits_per_weight < bits + 1.5
    assert report.accuracy is not None
    least = {"w8": 35, "w4": 15, "w3": 9, "w2": 2}[scheme]
    assert report.accuracy.worst_sqnr_db > least
    assert any("w8a8-dynamic" in text for text in small.warnings(result))


def test_the_report_names_sizes_and_what_stays(model):
    page = page_of(small.built(model, scheme="w4").report)
    weights = dict(page.facts)["weights"]
    assert weights.startswith("5.") and "15,360 numbers of 4 layers" in weights
    titles = {table.title: table for table in page.tables}
    rows = titles["Weights in integers"].rows
    assert [row[0] for row in rows] == ["Gather", "Gemm", "MatMul"]
    assert titles["Left float"].rows[-1][:3] == ("others", "1", "each reads no weight")


def test_a_plan_builds_the_same_bytes(model, tmp_path):
    out = tmp_path / "a.onnx"
    options = {"scheme": "w4", "granularity": "group:16", "symmetry": "asymmetric"}
    first = small.built(model, out=out, **options)
    again = small.built(model, plan=tmp_path / "a.onnx.plan.json")
    assert again.artefact == first.artefact
    text = (tmp_path / "a.onnx.plan.json").read_text()
    plan = json.loads(text)
    product = next(name for name, node in plan["nodes"].items() if node["op"] == "MatMul")
    plan["nodes"][product]["mode"] = "float"
    (tmp_path / "a.onnx.plan.json").write_text(json.dumps(plan))
    edited = small.built(model, plan=tmp_path / "a.onnx.plan.json")
    assert edited.report.coverage.integer == 3


@pytest.mark.parametrize(
    "options", [{"granularity": "group:32"}, {"symmetry": "symmetric"}, {"bits_per_weight": 5.0}]
)
def test_a_plan_has_decided_how_weights_are_stored(model, tmp_path, options):
    small.built(model, out=tmp_path / "a.onnx", scheme="w4")
    with pytest.raises(QCompileError, match="--plan says how every weight is stored") as caught:
        small.built(model, plan=tmp_path / "a.onnx.plan.json", **options)
    assert caught.value.code is Code.BAD_OPTION
    assert caught.value.hint


def test_a_tokenizer_is_for_models_of_tokens(model, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(QCompileError, match="no input of tokens, but i") as caught:
        small.built(model, scheme="w4", tokenizer=tmp_path)
    assert caught.value.code is Code.BAD_OPTION
    assert "input_ids" in (caught.value.hint or "")


def test_inspect_sees_the_kernels(model, tmp_path):
    small.built(model, scheme="w4", out=tmp_path / "a.onnx")
    found = inspect(tmp_path / "a.onnx")
    assert found.coverage is not None
    assert found.coverage.integer == 4


def test_several_targets_have_one_plan(model):
    made = build_for(model, ["ort-arm64", "ort-x86-avx2"], scheme="w4", latency=False)
    assert len({tuple(r.plan.values) for r in made.values()}) == 1
    assert all(r.report.coverage.integer == 4 for r in made.values())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"scheme": "w4", "granularity": "tensor"}, "a scale a column at least"),
        ({"scheme": "w4", "granularity": "group:20"}, "have a scale for"),
        ({"scheme": "w4", "granularity": "group:x"}, "a group has a number of elements"),
        ({"scheme": "w4", "granularity": "group:0"}, "a group has a number of elements"),
        ({"scheme": "w8a8-dynamic", "granularity": "group:32"}, "take a scale a tensor or channel"),
        ({"scheme": "w8a8-dynamic", "symmetry": "symmetric"}, "where its zero points lie"),
        ({"scheme": "w4", "symmetry": "odd"}, "not known"),
        ({"scheme": "w1.58", "bits_per_weight": 3.5}, "no widths to mix"),
        ({"scheme": "float", "granularity": "channel"}, "has no scales"),
        ({"scheme": "fp16", "granularity": "tensor"}, "has no scales"),
        ({"scheme": "w5"}, "not known"),
    ],
)
def test_options_that_cannot_be(model, options, what):
    with pytest.raises(QCompileError, match=what) as caught:
        small.built(model, **options)
    assert caught.value.code is Code.BAD_OPTION
    assert caught.value.hint


@pytest.mark.parametrize(
    "target", ["ort-qnn-htp", "tflite-ethos-u55-128", "tflite-ethos-u85-256", "tflite-micro"]
)
def test_targets_without_such_kernels_say_why(model, target):
    with pytest.raises(QCompileError, match="has no kernels for w4: ") as caught:
        small.built(model, scheme="w4", target=target)
    assert caught.value.code is Code.SCHEME_UNSUPPORTED


def test_convolutions_say_why_they_stay_float(tmp_path):
    result = small.built(small.saved(small.cnn(), tmp_path), scheme="w4")
    reasons = {node.op: node.reason for node in result.report.coverage.float_nodes}
    assert reasons["Conv"] == "ONNX Runtime has no convolution of floats with integers as weights"
    assert "nothing in this model became integer" in small.warnings(result)


@pytest.mark.parametrize(
    "options",
    [{"granularity": "group:32"}, {"symmetry": "asymmetric"}, {"bits_per_weight": 4.5}],
)
def test_options_of_weights_that_nothing_stores(tmp_path, options):
    model = small.saved(small.cnn(), tmp_path)
    data = {"x": small.pictures(8)}
    with pytest.raises(QCompileError, match="no convolution of floats with integers") as caught:
        small.built(model, scheme="w4", data=data, **options)
    assert caught.value.code is Code.BAD_OPTION
    assert caught.value.hint


def test_what_was_rounded_on_noise_is_unfit_to_ship(tmp_path: Path) -> None:
    net = small.saved(
        small.text_model(
            """net (float["N", 64] x) => (float["N", 96] y) { y = MatMul (x, w1) }""",
            {"w1": small.weights(1, *SIZES["w1"])},
        ),
        tmp_path,
    )
    made = small.built(net, scheme="w4", effort="balanced", random_data=True)
    assert made.report.calibration.endswith("samples of noise")
    assert made.report.unfit
    assert not small.built(net, scheme="w4").report.unfit
