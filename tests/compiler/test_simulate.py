"""--simulate: what a target has no kernels for is built to be looked at, and says so everywhere."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.api import BuildResult, check, inspect
from qcompile.compiler.report.wording import page_of
from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.affine import dequantize
from qcompile.targets.onnxruntime.executor import OrtExecutor, is_simulated, open_artefact
from tests.compiler import small

SIMULATED = ("w8a16", "w4a8", "w2a8")


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved(small.cnn(), tmp_path_factory.mktemp("simulate"))


def simulated(cnn: Path, scheme: str, **options: object) -> BuildResult:
    data = {"x": small.pictures(24)}
    return small.built(cnn, scheme=scheme, simulate=True, data=data, effort="fast", **options)


@pytest.mark.parametrize("scheme", SIMULATED)
@pytest.mark.parametrize("target", ["ort-x86-avx2", "ort-arm64", "tflite-micro"])
def test_it_is_refused_unless_asked_for(cnn: Path, scheme: str, target: str) -> None:
    with pytest.raises(QCompileError) as caught:
        small.built(cnn, scheme=scheme, target=target, data={"x": small.pictures(16)})
    assert caught.value.code is Code.SCHEME_UNSUPPORTED
    assert f"--simulate builds {scheme}" in (caught.value.hint or "")


@pytest.mark.parametrize("scheme", SIMULATED)
def test_the_report_says_so_in_its_first_line(cnn: Path, scheme: str) -> None:
    report = simulated(cnn, scheme).report
    assert page_of(report).title == f"SIMULATION of {scheme}, not to ship: model.onnx"
    assert (report.simulated, report.fit_to_ship) == (scheme, False)
    assert report.unfit == (f"{scheme} is simulated in floats: ort-x86-avx2 has no kernels for it",)
    assert report.coverage.integer == 0
    assert {n.reason for n in report.coverage.float_nodes} == {
        "simulated: it computes in floats between its quantizers"
    }
    assert report.measured.latency is None


@pytest.mark.parametrize("scheme", SIMULATED)
def test_so_do_check_and_inspect(cnn: Path, tmp_path: Path, scheme: str) -> None:
    out = tmp_path / "s.onnx"
    result = simulated(cnn, scheme, out=out)
    judged = check(out, reference=cnn, data={"x": small.pictures(8)})
    assert judged.simulated == scheme
    assert page_of(judged).title.startswith(f"SIMULATION of {scheme}, not to ship")
    assert judged.measured.latency is None
    looked_at = inspect(out)
    assert page_of(looked_at).title.startswith(f"SIMULATION of {scheme}, not to ship")
    assert looked_at.coverage is not None and looked_at.coverage.integer == 0
    kinds = dict(looked_at.weight_types)
    assert {"w4a8": "int4", "w2a8": "int2", "w8a16": "int8"}[scheme] in kinds
    assert result.artefact == out.read_bytes()


@pytest.mark.parametrize("scheme", SIMULATED)
def test_it_computes_what_its_graph_says(cnn: Path, scheme: str) -> None:
    """Node by node: the optimizer would merge quantizers with kernels of other arithmetic."""
    result = simulated(cnn, scheme)
    assert is_simulated(result.artefact)
    x = small.pictures(3, seed=5)
    (got,) = open_artefact(result.artefact, exact=True).run({"x": x})
    (want,) = OrtExecutor().load(result.qdq, optimize=False).run({"x": x})
    assert np.array_equal(got, want)


def test_narrow_weights_have_few_values(cnn: Path) -> None:
    for scheme, most in (("w4a8", 15), ("w2a8", 3)):
        plan = simulated(cnn, scheme).plan
        entry = plan.values["w2"]
        assert entry.dtype == f"int{scheme[1]}"
        assert entry.params is not None
        model = simulated(cnn, scheme).qdq
        stored = model.graph.initializers["w2_quantized"].const_value
        assert stored is not None
        integers = stored.numpy().astype(np.int8)
        assert len(np.unique(integers)) <= most
        wanted = onnx.numpy_helper.to_array(
            next(t for t in onnx.load(cnn).graph.initializer if t.name == "w2")
        )
        real = dequantize(integers, entry.params.scale, entry.params.zero_point, entry.axis)
        db = 10 * np.log10(np.square(wanted).sum() / np.square(wanted - real).sum())
        assert db > {"w4a8": 18, "w2a8": 6}[scheme]


def test_an_artefact_of_kernels_does_not_say_so(cnn: Path) -> None:
    result = small.built(cnn, data={"x": small.pictures(16)}, simulate=True, effort="fast")
    assert not is_simulated(result.artefact)
    assert (result.report.simulated, result.report.unfit) == ("", ())


@pytest.mark.litert
def test_of_several_targets_those_with_kernels_get_them(cnn: Path) -> None:
    from qcompile.compiler.api import build_for

    results = build_for(
        cnn,
        ["ort-arm64", "tflite-arm64"],
        scheme="w4a8",
        simulate=True,
        data={"x": small.pictures(16)},
        effort="fast",
        latency=False,
    )
    assert results["ort-arm64"].report.simulated == "w4a8"
    assert results["tflite-arm64"].report.simulated == ""
    assert results["tflite-arm64"].artefact[4:8] == b"TFL3"
