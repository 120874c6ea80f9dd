"""One quantization by another tool to ONNX, in a process of its own under that tool's Python.

python -m tests.benchmarks.accuracy_child NOTE.json JOB MODEL DATA OUTPUT.onnx

DATA is a folder of .npz, one sample a file, an array an input.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.child import START, peak_mb


def onnxsim(model: Path, data: Path, output: Path) -> None:
    """``onnxsim``: the float model, simplified."""
    import onnx
    import onnxsim

    simplified, right = onnxsim.simplify(onnx.load(model))
    if not right:
        raise RuntimeError("error: the simplified model computes something else")
    onnx.save(simplified, output)


def ort_static(model: Path, data: Path, output: Path) -> None:
    """ONNX Runtime's ``quantize_static``: U8S8, a scale a channel, minimum and maximum."""
    _ort_static(model, data, output, reduce_range=False)


def ort_reduced(model: Path, data: Path, output: Path) -> None:
    """The same with weights of 7 bits, which do not saturate on AVX2."""
    _ort_static(model, data, output, reduce_range=True)


def _ort_static(model: Path, data: Path, output: Path, *, reduce_range: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_static

    quantize_static(
        folded(model, output),
        output,
        Reader(data),
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def ort_dynamic(model: Path, data: Path, output: Path) -> None:
    """``quantize_dynamic`` as its documentation calls it, with a scale a tensor."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(model, output, weight_type=QuantType.QInt8)


def ort_dynamic_channel(model: Path, data: Path, output: Path) -> None:
    """The same with a scale a channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(model, output, weight_type=QuantType.QInt8, per_channel=True)


def nncf_performance(model: Path, data: Path, output: Path) -> None:
    """NNCF, symmetric activations, bias correction in graph order."""
    _nncf(model, data, output, "PERFORMANCE")


def nncf_mixed(model: Path, data: Path, output: Path) -> None:
    """NNCF, asymmetric activations, bias correction in graph order."""
    _nncf(model, data, output, "MIXED")


def nncf_fast(model: Path, data: Path, output: Path) -> None:
    """The same with each bias corrected by itself: the other fails where graphs branch."""
    _nncf(model, data, output, "MIXED", fast=True)


def nncf_transformer(model: Path, data: Path, output: Path) -> None:
    """NNCF with what it knows about transformers, SmoothQuant among it."""
    _nncf(model, data, output, "MIXED", fast=True, transformer=True)


def _nncf(
    model: Path,
    data: Path,
    output: Path,
    preset: str,
    *,
    fast: bool = False,
    transformer: bool = False,
) -> None:
    import nncf
    import onnx

    samples = list(feeds(data))
    quantized = nncf.quantize(
        until_opset_20(onnx.load(folded(model, output))),
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset[preset],
        fast_bias_correction=fast,
        subset_size=len(samples),
        model_type=nncf.ModelType.TRANSFORMER if transformer else None,
        # no kernel of this machine saturates
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.DISABLE
        ),
    )
    onnx.save(quantized, output)


def until_opset_20(model: Any) -> Any:
    """The same model in an opset in which ONNX Runtime takes what NNCF makes of a transformer."""
    from onnx import checker, version_converter

    (version,) = (known.version for known in model.opset_import if known.domain == "")
    older = model if version <= 20 else version_converter.convert_version(model, 20)
    checker.check_model(older)
    return older


def aimet_cle(model: Path, data: Path, output: Path) -> None:
    """AIMET: cross-layer equalization with high-bias absorption, minimum and maximum."""
    _aimet(model, data, output, equalize=True, iterations=0)


def aimet_adaround(model: Path, data: Path, output: Path) -> None:
    """AIMET: AdaRound."""
    _aimet(model, data, output, equalize=False, iterations=1000)


def aimet_cle_adaround(model: Path, data: Path, output: Path) -> None:
    """AIMET: both."""
    _aimet(model, data, output, equalize=True, iterations=1000)


def _aimet(model: Path, data: Path, output: Path, *, equalize: bool, iterations: int) -> None:
    """U8S8 as the others: AIMET's default for a scale a channel."""
    import aimet_onnx.common.quantsim_config
    import onnx
    from aimet_onnx import int8
    from aimet_onnx.common.defs import QuantScheme
    from aimet_onnx.cross_layer_equalization import equalize_model
    from aimet_onnx.quantsim import QuantizationSimModel

    configs = Path(aimet_onnx.common.quantsim_config.__file__).parent
    proto = onnx.load(folded(model, output))
    samples = list(feeds(data))
    if equalize:
        equalize_model(proto)
    simulated = QuantizationSimModel(
        proto,
        param_type=int8,
        activation_type=int8,
        quant_scheme=QuantScheme.min_max,
        config_file=str(configs / "default_config_per_channel.json"),
        providers=["CPUExecutionProvider"],
    )
    if iterations:
        aimet_onnx.apply_adaround(simulated, samples, num_iterations=iterations)
    simulated.compute_encodings(samples)
    written = simulated.to_onnx_qdq(prequantize_constants=True, export_int32_bias=True)
    onnx.save(written, output)


def quark_xint8(model: Path, data: Path, output: Path) -> None:
    """AMD Quark's default for its NPUs: scales that are powers of two; its CLE."""
    from quark.onnx import XInt8Spec

    _quark(model, data, output, XInt8Spec(), XInt8Spec(), relax=True)


def quark_a8w8(model: Path, data: Path, output: Path) -> None:
    """AMD Quark's A8W8: symmetric, a scale a tensor, minimum and maximum; its CLE."""
    from quark.onnx import CalibMethod, Int8Spec

    both = Int8Spec(calibration_method=CalibMethod.MinMax)
    _quark(model, data, output, both, both, relax=True)


def quark_channel(model: Path, data: Path, output: Path) -> None:
    """AMD Quark, U8S8 with a scale a channel; its CLE."""
    _quark_channel(model, data, output, iterations=0)


def quark_adaround(model: Path, data: Path, output: Path) -> None:
    """The same with AdaRound."""
    _quark_channel(model, data, output, iterations=1000)


def _quark_channel(model: Path, data: Path, output: Path, iterations: int) -> None:
    from quark.onnx import CalibMethod, Int8Spec, QuantGranularity, UInt8Spec

    activation = UInt8Spec(calibration_method=CalibMethod.MinMax)
    weight = Int8Spec(
        calibration_method=CalibMethod.MinMax, quant_granularity=QuantGranularity.Channel
    )
    _quark(model, data, output, activation, weight, relax=False, iterations=iterations)


def _quark(
    model: Path,
    data: Path,
    output: Path,
    activation: Any,
    weight: Any,
    *,
    relax: bool,
    iterations: int = 0,
) -> None:
    """``relax``: Relu for Relu6, without which its CLE finds no pairs in MobileNet.

    That costs a quarter of the agreement with a scale a channel, and brings 40 points with one a
    tensor, so each has what is better for it.
    """
    from quark.onnx import AdaRoundConfig, CLEConfig, ModelQuantizer, QConfig, QLayerConfig

    algorithms = [CLEConfig()]
    if iterations:
        algorithms.append(AdaRoundConfig(learning_rate=0.1, num_iterations=iterations))
    config = QConfig(
        QLayerConfig(activation=activation, weight=weight),
        algo_config=algorithms,
        ForceQuantizeNoInputCheck=True,
        ReplaceClip6Relu=relax,
    )
    quantizer = ModelQuantizer(config)
    quantizer.quantize_model(str(folded(model, output)), str(output), Reader(data))


class Reader:
    """The samples as ONNX Runtime's ``CalibrationDataReader`` hands them out, and as Quark asks."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.rewind()

    def rewind(self) -> None:
        self.left = feeds(self.data)

    reset_iter = rewind

    def get_next(self) -> dict[str, Any] | None:
        return next(self.left, None)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return feeds(self.data)

    def __len__(self) -> int:
        return len(list(self.data.iterdir()))


def feeds(data: Path) -> Iterator[dict[str, Any]]:
    """One sample a file."""
    import numpy as np

    return (dict(np.load(path)) for path in sorted(data.iterdir()))


def folded(model: Path, output: Path) -> Path:
    """The model as ONNX Runtime writes it at level BASIC.

    That folds batch normalization in its Mul and Add form too, which no peer does by itself.
    """
    import onnxruntime as ort

    path = output.with_suffix(".folded.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return path


JOBS = {
    job.__name__: job
    for job in (
        onnxsim,
        ort_static,
        ort_reduced,
        ort_dynamic,
        ort_dynamic_channel,
        nncf_performance,
        nncf_mixed,
        nncf_fast,
        nncf_transformer,
        aimet_cle,
        aimet_adaround,
        aimet_cle_adaround,
        quark_xint8,
        quark_a8w8,
        quark_channel,
        quark_adaround,
    )
}


def main() -> None:
    """Do the job, write the note."""
    note, job, *files = sys.argv[1:]
    logging.disable(logging.WARNING)
    JOBS[job](*map(Path, files))
    cost = {"seconds": time.perf_counter() - START, "peak_mb": peak_mb()}
    Path(note).write_text(json.dumps(cost))


if __name__ == "__main__":
    main()
