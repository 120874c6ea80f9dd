"""Reports to set: one of each kind, with everything in them."""

import math

from qcompile.compiler.report.accuracy import Accuracy, Labelled, OutputQuality, OwnFigure, Share
from qcompile.compiler.report.latency import Latency, Ratio, Timing
from qcompile.compiler.report.model import (
    BuildReport,
    CheckReport,
    Coverage,
    FloatNode,
    Gate,
    InspectReport,
    LayerQuality,
    Measured,
    ModelInfo,
    OpCoverage,
    PassTime,
    Saturation,
    Step,
)
from qcompile.compiler.report.tried import TriedStep
from qcompile.core.notes import Note
from qcompile.core.signature import TensorSpec

MODEL = ModelInfo(
    name='mobile [net] "v1" 模型.onnx',
    bytes=10_300_000,
    nodes=58,
    sha256="ab" * 32,
    opset=17,
    inputs=(TensorSpec("input", "float32", ("N", 3, 224, 224)),),
    outputs=(TensorSpec("probabilities", "float32", ("N", 1000)),),
)
ARTEFACT = ModelInfo(name="out.onnx", bytes=2_700_000, nodes=62, sha256="cd" * 32, opset=13)

COVERAGE = Coverage(
    ops=(
        OpCoverage(op="Conv", integer=27, float=1, macs_integer=3_000, macs_float=1),
        OpCoverage(op="Softmax", integer=1, float=0),
        OpCoverage(op="Tanh", integer=0, float=3),
    ),
    float_nodes=(
        FloatNode(name="c9", op="Conv", reason="its output is the model's", sources=("conv_9",)),
        *(
            FloatNode(
                name=f"<t{i}>", op="Tanh", reason="no integer kernel [of Tanh]", pattern="a [gate]"
            )
            for i in range(3)
        ),
    ),
)
ACCURACY = Accuracy(
    data="held out: 25 of 125",
    samples=25,
    outputs=(
        OutputQuality(name="p", identical=False, sqnr_db=24.2, cosine=0.998, worst=0.1),
        OutputQuality(name="same", identical=True, sqnr_db=math.inf, cosine=1.0, worst=0.0),
        OutputQuality(name="class", identical=False, equal=0.96),
    ),
    metrics=(
        Labelled(metric="top-1", float_value=0.88, artefact_value=0.84, lost=2, won=1),
        Labelled(
            metric="top-5",
            float_value=0.92,
            artefact_value=0.96,
            lost=0,
            won=1,
            drop_low=-12.0,
            drop_high=0.04,
            chance=1.0,
        ),
        Labelled(
            metric="top-9",
            float_value=0.9,
            artefact_value=0.7,
            lost=5,
            won=0,
            drop_low=4.0,
            drop_high=36.0,
            chance=0.0625,
        ),
    ),
    own=(
        OwnFigure(metric="[miou]", float_value=0.97134, artefact_value=0.9698),
        OwnFigure(
            metric="each", float_value=2.0, artefact_value=1.5, drop_low=45.0, drop_high=55.0
        ),
    ),
    agreement=Share(hits=24, total=25, value=0.96, low=0.8046, high=0.9929),
    arithmetic="exact integer sums: the target is not this machine",
)
MEASURED = Measured(
    latency=Latency(
        timings=(
            Timing(name="float", median_ms=12.34, p90_ms=13.0, runs=50),
            Timing(name="artefact", median_ms=6.1, p90_ms=6.5, runs=50),
        ),
        ratios=(Ratio(name="artefact", value=0.494, low=0.48, high=0.51),),
        threads=1,
    ),
    tried=(Step(name="bias correction", seconds=0.21), Step(name="[gptq] rounding", seconds=4.0)),
    steps=(Step(name="calibrate", seconds=3.21), Step(name="import", seconds=0.5)),
    passes=(PassTime(name="FoldBatchNorm", seconds=0.0012, changed=True, nodes=58),),
    peak_memory_mb=312.0,
)
BUILD = BuildReport(
    qcompile_version="0.1.0",
    target="ort-x86-avx2",
    target_title="ONNX Runtime on x86-64 with AVX2",
    scheme="w8a8",
    effort="fast",
    ranges="minmax",
    calibration="100 of 125 samples of pictures",
    model=MODEL,
    artefact=ARTEFACT,
    coverage=COVERAGE,
    accuracy=ACCURACY,
    saturation=Saturation(layers_proven=20, channels_shrunk=7, layers_shrunk=3, layers_unsigned=1),
    tried=(
        TriedStep(
            step="bias correction",
            db_before=16.71,
            db_after=23.5,
            kept=True,
            agreement_before=0.9375,
            agreement_after=1.0,
        ),
        TriedStep(step="[gptq] rounding", db_before=23.5, db_after=23.44, kept=False),
    ),
    worst_layers=(LayerQuality(node="conv_dw_1", op="Conv", sqnr_db=11.94),),
    notes=(
        Note("info", "opset 9 was converted to 21"),
        Note("warning", "inputs look wrongly scaled", node="input"),
    ),
    unfit=("the ranges come from random data",),
    options=(("io", "uint8"),),
    measured=MEASURED,
)
CHECK = CheckReport(
    qcompile_version="0.1.0",
    artefact=ARTEFACT,
    reference=MODEL,
    accuracy=ACCURACY,
    gates=(
        Gate(name="min-sqnr", limit=20.0, value=24.2, passed=True),
        Gate(name="max-drop", limit=1.0, value=4.0, passed=False),
    ),
    measured=MEASURED,
)
INSPECT = InspectReport(
    model=MODEL,
    ir_version=8,
    producer="tf2onnx 1.16",
    parameters=2_600_000,
    weight_types=(("float32", 10_400_000), ("int64", 24)),
    op_counts=(("Conv", 28), ("Tanh", 3)),
)
