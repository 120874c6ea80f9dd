"""A report of a comparison in which everything differs, for tests of the views."""

from qcompile.compiler.report.accuracy import Accuracy, OutputQuality, Share
from qcompile.compiler.report.diff_model import (
    CountDifference,
    DiffReport,
    GridDifference,
    GridInfo,
    LayerDifference,
    NodeDifference,
    SideInfo,
)
from qcompile.compiler.report.model import ModelInfo
from qcompile.core.notes import Note


def _side(name: str, size: int) -> SideInfo:
    info = ModelInfo(name=name, bytes=size, nodes=3, sha256=name)
    return SideInfo(model=info, format="onnx", target="ort-arm64", scheme="w8a8", has_plan=True)


def _layer(value: str, sqnr: float, fall: float, *, parts: bool = False) -> LayerDifference:
    return LayerDifference(
        value=value,
        node=f"node of {value}",
        op="Conv",
        identical=False,
        sqnr_db=sqnr,
        cosine=0.5,
        fall_db=fall,
        parts_here=parts,
    )


ACCURACY = Accuracy(
    data="7 samples of noise",
    samples=7,
    outputs=(OutputQuality(name="y", identical=False, sqnr_db=21.25, cosine=0.99, worst=0.5),),
    agreement=Share(hits=6, total=7, value=6 / 7, low=0.5, high=1.0),
)

DIFF = DiffReport(
    qcompile_version="0",
    first=_side("one.onnx", 2000),
    second=_side("two.onnx", 1000),
    operators=(CountDifference(name="QuantizeLinear", first=2, second=1),),
    weight_bytes=(CountDifference(name="int8", first=1500, second=700),),
    nodes=(
        NodeDifference(
            node="first conv", op="Conv", first="integer", second="float", second_reason="asked for"
        ),
    ),
    same_nodes=2,
    grids=(
        GridDifference(
            value="x",
            role="activation",
            first=GridInfo(dtype="uint8", scales=1, scale=0.5, zero_point=3, rule="minmax"),
            second=GridInfo(dtype="uint8", scales=1, scale=0.25, zero_point=3, rule="mse"),
            ratio=0.5,
        ),
        GridDifference(
            value="w",
            role="weight",
            first=GridInfo(dtype="int8", scales=8, scale=0.125, zero_point=0),
            second=None,
        ),
    ),
    same_grids=4,
    retyped=1,
    corrections=("b",),
    rounded=("w",),
    accuracy=ACCURACY,
    layers=(_layer("a", 40.0, 2.0), _layer("b", 20.0, 20.0, parts=True), _layer("c", 19.0, 1.0)),
    traced=7,
    largest_fall_db=10.0,
    notes=(Note("warning", "something is odd"),),
)
"""Everything differs."""
