"""The plan made anew: a Concat that is float no longer ties its members to one range."""

import numpy as np
import onnx
import onnx_ir as ir

from qcompile.compiler.mixed.again import made_anew, made_wide
from qcompile.compiler.mixed.groups import groups
from qcompile.compiler.mixed.leave_float import leave_float
from qcompile.compiler.options import Scheme
from qcompile.compiler.planning import empty_plan
from qcompile.compiler.progress import Silent
from qcompile.compiler.search.efforts import fast
from qcompile.compiler.search.workshop import Job, Remake
from qcompile.core.budget import Budget
from qcompile.core.plan import Chosen, QuantPlan
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.compiler import small

TEXT = """net (float[1, 4, 8, 8] x) => (float[1, 8, 8, 8] y) {
    a = Conv (x, w1, b1)
    c = Conv (x, w2, b2)
    f = MaxPool <kernel_shape = [1, 1]> (a)
    g = Concat <axis = 1> (f, c)
    y = Conv (g, w3, b3)
}"""


def job(target_name: str) -> Job:
    constants = {
        "w1": small.weights(1, 4, 4, 1, 1), "w2": 50 * small.weights(2, 4, 4, 1, 1),
        "w3": small.weights(3, 8, 8, 1, 1),
        "b1": small.weights(4, 4), "b2": small.weights(5, 4), "b3": small.weights(6, 8),
    }  # fmt: skip
    proto = small.text_model(TEXT, constants)
    for node in proto.graph.node:
        node.name = node.output[0]
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(16)]
    target = load_target(target_name).under("w8a8")
    return Job(model, target, Scheme(scheme="w8a8"), OrtExecutor(), feeds, Silent())


def test_ranges_are_chosen_anew() -> None:
    made = job("tflite-x86")
    found = fast(made)

    def replan(chosen: Chosen) -> QuantPlan:
        return empty_plan(made.model, made.target, made.scheme, {}, chosen)

    left = leave_float(found.best.plan, {"g": "bad"}, replan)
    anew = made_anew(Remake(found.shop, found.best), left, Budget()).plan
    assert anew.mode("g") == left.mode("g") == "float"
    assert set(anew.values) == set(left.values)
    before, after = left.values["a"].params, anew.values["a"].params
    assert before is not None
    assert after is not None
    assert float(before.scale) > 10 * float(after.scale), "it had the range of the other member"


def test_a_target_without_int16_has_none() -> None:
    made = job("ort-x86-vnni")
    found = fast(made)
    layers = groups(made.model.graph, found.best.plan, made.target)
    remake = Remake(found.shop, found.best)
    assert (
        made_wide(remake, made.model.graph, made.target, found.best.plan, layers, Budget()) is None
    )
