"""``-d none``: what is built without samples, why, and what is never done."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.api import build
from qcompile.compiler.finish import BuildResult
from qcompile.core.errors import Code, QCompileError
from tests.compiler.small import text_model, weights

RANGES = "[data.ranges]\nx = [-3, 3]\n"


def normalized(last: str = "Relu") -> onnx.ModelProto:
    """Three layers; a batch normalization behind the first two that fits their outputs."""
    rng = np.random.default_rng(0)

    def norm(n: str, seed: int) -> dict[str, np.ndarray]:
        g = np.random.default_rng(seed)
        return {
            f"g{n}": g.uniform(0.5, 1.5, 8).astype(np.float32),
            f"b{n}": g.normal(size=8).astype(np.float32),
            f"m{n}": np.zeros(8, np.float32),
            f"v{n}": np.ones(8, np.float32),
        }

    return text_model(
        f"""net (float["N", 8, 6, 6] x) => (float["N", 4] y) {{
            c1 = Conv <pads = [1, 1, 1, 1]> (x, w1)
            n1 = BatchNormalization (c1, g1, b1, m1, v1)
            r1 = Relu (n1)
            c2 = Conv (r1, w2)
            n2 = BatchNormalization (c2, g2, b2, m2, v2)
            r2 = {last} (n2)
            p = GlobalAveragePool (r2)
            f = Flatten (p)
            y = Gemm <transB = 1> (f, w3, c3)
        }}""",
        {
            "w1": weights(1, 8, 8, 3, 3), "w2": weights(2, 8, 8, 1, 1), "w3": weights(3, 4, 8),
            "c3": rng.normal(size=4).astype(np.float32), **norm("1", 4), **norm("2", 5),
        },
    )  # fmt: skip


def plain() -> onnx.ModelProto:
    """Four layers without normalization."""
    return text_model(
        """net (float["N", 16] x) => (float["N", 4] y) {
            a = MatMul (x, w1)
            b = Relu (a)
            c = MatMul (b, w2)
            d = Relu (c)
            e = MatMul (d, w3)
            f = Relu (e)
            y = MatMul (f, w4)
        }""",
        {f"w{i}": weights(i, 16, 16 if i < 4 else 4) for i in (1, 2, 3, 4)},
    )


def run(
    folder: Path,
    model: onnx.ModelProto,
    config: str = "",
    target: str = "ort-x86-avx2",
    **more: str,
) -> BuildResult:
    onnx.save(model, folder / "m.onnx")
    (folder / "q.toml").write_text(config)
    shape = tuple(d.dim_value or 64 for d in model.graph.input[0].type.tensor_type.shape.dim)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return build(
        folder / "m.onnx", target=target, data="none", eval_data={"x": x},
        config=folder / "q.toml", latency=False, **more,
    )  # fmt: skip


def said(result: BuildResult) -> str:
    return " ".join(note.message for note in result.report.notes)


def test_batch_normalization_gives_static_ranges(tmp_path: Path) -> None:
    result = run(tmp_path, normalized(), RANGES)
    report = result.report
    assert (report.scheme, report.ranges) == ("w8a8", "known")
    assert report.calibration == "none: the ranges follow from the model"
    assert report.coverage.macs_share == 1
    assert report.accuracy is not None
    assert report.accuracy.worst_sqnr_db is not None
    assert report.accuracy.worst_sqnr_db > 20
    assert report.fit_to_ship
    assert result.plan.corrections
    assert "-d none: w8a8 with ranges that follow from the model" in said(result)
    assert "would buy measured ranges" in said(result)
    rules = {v.rule for v in result.plan.values.values() if v.role == "activation"}
    assert "known" in rules
    assert "minmax" not in rules


def test_an_unknown_input_leaves_what_reads_it_float(tmp_path: Path) -> None:
    # 1x1 layers do most of the work here, so that enough is left
    model = normalized()
    result = run(tmp_path, model)
    floats = {node.op for node in result.report.coverage.float_nodes}
    assert result.report.scheme in {"w8a8", "w8a8-dynamic"}
    assert "Conv" in floats
    assert "[data.ranges]" in said(result)


def test_without_normalization_it_is_dynamic(tmp_path: Path) -> None:
    result = run(tmp_path, plain(), RANGES)
    assert result.report.scheme == "w8a8-dynamic"
    assert result.report.coverage.macs_share == 1
    assert "-d none: w8a8-dynamic, since" in said(result)
    assert result.report.calibration == "none: nothing here needs samples"


def test_where_a_target_has_no_dynamic_kernels_for_anything_it_is_float(tmp_path: Path) -> None:
    # an Exp in the way, which says nothing and has no integer kernel
    result = run(tmp_path, normalized("Exp"))
    assert result.report.scheme in {"float", "w8a8-dynamic"}


def test_a_scheme_by_name_is_held_to(tmp_path: Path) -> None:
    guessed = run(tmp_path, plain(), RANGES, scheme="w8a8")
    assert guessed.report.scheme == "w8a8"
    assert guessed.report.coverage.macs_share == 1
    assert "are guesses from the weights" in said(guessed)
    assert run(tmp_path, plain(), scheme="w8a8-dynamic").report.scheme == "w8a8-dynamic"
    with pytest.raises(QCompileError, match="nothing in the model says") as caught:
        run(tmp_path, plain(), scheme="w8a8")
    assert caught.value.code is Code.NO_DATA
    assert "[data.ranges]" in (caught.value.hint or "")


def test_pixels_follow_from_the_preprocessing(tmp_path: Path) -> None:
    config = '[preprocess]\nmean = 127.5\nstd = 127.5\narrays = "ready"\n'
    entry = run(tmp_path, normalized(), config).plan.values["x"]
    assert entry.params is not None
    assert float(entry.params.scale) == pytest.approx(2 / 255, rel=0.01)  # zero is on the grid


def test_twice_the_same_bytes_and_a_plan_that_replays(tmp_path: Path) -> None:
    once, again = (run(tmp_path, normalized(), RANGES) for _ in range(2))
    assert once.artefact == again.artefact
    build(
        tmp_path / "m.onnx", target="ort-x86-avx2", data="none", config=tmp_path / "q.toml",
        out=tmp_path / "out.onnx", latency=False,
    )  # fmt: skip
    replayed = build(tmp_path / "m.onnx", plan=tmp_path / "out.onnx.plan.json", latency=False)
    assert replayed.artefact == once.artefact


def test_a_calibration_set_of_the_configuration_is_not_touched(tmp_path: Path) -> None:
    config = '[data]\ncalibration = "nowhere"\n' + RANGES
    assert run(tmp_path, normalized(), config).report.ranges == "known"
    (tmp_path / "q.toml").write_text('[data]\ncalibration = "none"\n' + RANGES)
    onnx.save(normalized(), tmp_path / "m.onnx")
    built = build(
        tmp_path / "m.onnx", target="ort-x86-avx2", config=tmp_path / "q.toml", latency=False
    )
    assert built.report.ranges == "known"
    assert built.report.accuracy is None


def test_ranges_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(QCompileError, match=r"data.ranges.x must be \[low, high\]"):
        run(tmp_path, normalized(), "[data.ranges]\nx = [3, 3]\n")


@pytest.mark.litert
def test_without_dynamic_kernels_weights_are_halved(tmp_path: Path) -> None:
    """Depthwise layers have none on TFLite."""
    text = """net (float[1, 32, 8, 8] x) => (float[] y) {
        a = Conv <group = 32, pads = [3, 3, 3, 3]> (x, w)
        b = Tanh (a)
        y = Conv <group = 32> (b, v)
    }"""
    model = text_model(text, {"w": weights(1, 32, 1, 7, 7), "v": weights(2, 32, 1, 7, 7)})
    made = run(tmp_path, model, target="tflite-x86")
    assert made.report.scheme == "fp16"
    assert made.report.coverage.macs_share == 0
