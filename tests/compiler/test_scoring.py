"""Plans are scored by the outputs, a classifier's by its logits, on samples held in memory."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler import scoring
from qcompile.compiler.options import Scheme
from qcompile.compiler.planning import complete, empty_plan
from qcompile.compiler.scoring import BEST_DB, Score, Scorer
from qcompile.core.plan import QuantPlan
from qcompile.targets.catalog import load_target
from tests.passes.planning import EXECUTOR, Feed, pictures
from tests.passes.prepare.checking import parse, rand


def model(tail: str, shape: str = "N, 4", made: str = "N, 8") -> ir.Model:
    text = f"""
      <ir_version: 10, opset_import: ["" : 21]>
      g (float[{shape}] x) => (float[{made}] y)
      <float[4, 8] w = {{{", ".join(str((i * 7 % 13) - 6) for i in range(32))}}}>
      {{ {tail} }}
    """
    return ir.from_proto(onnx.parser.parse_model(text))


def feeds(count: int = 6, *shape: int) -> list[Feed]:
    return pictures(*(shape or (1, 4)), count=count)


def noisy(graph: ir.Model, offset: float, scale: float = 1.0) -> ir.Model:
    """The same graph with its weights changed."""
    other = graph.clone()
    weight = other.graph.initializers["w"]
    array = weight.const_value.numpy() * scale + offset
    weight.const_value = ir.tensor(array.astype(np.float32), name="w")
    return other


def test_the_float_graph_itself_has_the_best_score():
    graph = model("y = MatMul(x, w)")
    assert Scorer(graph, EXECUTOR, feeds(), 1).score(QuantPlan("", "", "w8a8")) == BEST_DB


def test_the_score_is_the_sqnr_over_all_samples():
    graph = model("y = MatMul(x, w)")
    other = noisy(graph, 0.0, scale=1.1)
    assert Scorer(graph, EXECUTOR, feeds(), 1).of_graph(other) == pytest.approx(20.0, abs=1e-4)


def test_a_classifier_is_judged_by_logits_less_their_mean():
    graph = model("l = MatMul(x, w)  y = Softmax(l)")
    shifted = noisy(graph, 0.25)  # adds the same to every logit of a row
    scorer = Scorer(graph, EXECUTOR, feeds(), 1)
    assert scorer.of_graph(shifted) > 90
    assert scorer.of_graph(noisy(graph, 0.0, scale=1.1)) == pytest.approx(20.0, abs=1e-3)


def test_many_rows_a_sample_are_judged_by_their_probabilities():
    graph = model("l = MatMul(x, w)  y = Softmax(l)", "1, 5, 4", "1, 5, 8")
    scorer = Scorer(graph, EXECUTOR, feeds(6, 1, 5, 4), 1)
    assert scorer.of_graph(noisy(graph, 0.0, scale=1.1)) > 20.5


def test_scores_are_the_same_for_any_number_of_threads_and_without_the_cache(monkeypatch):
    graph = model("l = MatMul(x, w)  y = Softmax(l)")
    other = noisy(graph, 0.0, scale=1.1)
    one = Scorer(graph, EXECUTOR, feeds(9), 1).of_graph(other)
    assert Scorer(graph, EXECUTOR, feeds(9), 3).of_graph(other) == one
    monkeypatch.setattr(scoring, "CACHED_BYTES", 0)
    assert Scorer(graph, EXECUTOR, feeds(9), 2).of_graph(other) == one


def test_without_float_outputs_every_plan_scores_nothing():
    text = """
      <ir_version: 10, opset_import: ["" : 21]>
      g (float[N, 4] x) => (int64[N] y) { y = ArgMax<axis=1, keepdims=0>(x) }
    """
    graph = ir.from_proto(onnx.parser.parse_model(text))
    assert Scorer(graph, EXECUTOR, feeds(), 1).score(QuantPlan("", "", "w8a8")) == 0.0


def test_scores_beside_boxes_have_a_say_of_their_own():
    boxes = model("y = Mul(x, x)", "1, 50, 5", "1, 50, 5")
    large = feeds(6, 1, 50, 5)
    for feed in large:
        feed["x"][:, :, :4] += 300
    dead = boxes.clone()
    gate = np.asarray([1, 1, 1, 1, 0], np.float32)
    dead.graph.initializers.add(ir.Value(name="gate", const_value=ir.tensor(gate, name="gate")))
    node = ir.node("Mul", [dead.graph.outputs[0], dead.graph.initializers["gate"]])
    dead.graph.outputs[0].name, node.outputs[0].name = "all", "y"
    node.outputs[0].shape, node.outputs[0].type = (
        boxes.graph.outputs[0].shape,
        ir.TensorType(ir.DataType.FLOAT),
    )
    dead.graph.append(node)
    dead.graph.outputs[0] = node.outputs[0]
    scorer = Scorer(boxes, EXECUTOR, large, 1)
    assert scorer.of_graph(dead) == pytest.approx(0.8 * BEST_DB, abs=0.1)  # four whole, one lost
    assert scorer.of_graph(boxes) == BEST_DB


@pytest.mark.parametrize("tail", ["y = Add(l, b)", "z = Add(l, b)  y = Softmax(z)"])
def test_the_agreement_of_a_classifier_is_counted_in_the_same_run(tail: str) -> None:
    graph = ir.from_proto(
        onnx.parser.parse_model(
            f"""
            <ir_version: 10, opset_import: ["" : 21]>
            g (float[N, 4] x) => (float[N, 8] y)
            <float[4, 8] w = {{{", ".join(str((i * 7 % 13) - 6) for i in range(32))}}},
             float[8] b = {{0, 0, 0, 0, 0, 0, 0, 0}}>
            {{ l = MatMul(x, w)  {tail} }}
            """
        )
    )
    other = graph.clone()
    bias = np.asarray([1e4, *[0.0] * 7], np.float32)
    other.graph.initializers["b"].const_value = ir.tensor(bias, name="b")
    samples = feeds(1, 40, 4)
    wanted = np.argmax(samples[0]["x"] @ graph.graph.initializers["w"].const_value.numpy(), axis=1)
    scorer = Scorer(graph, EXECUTOR, samples, 1)
    judged = scorer.judge_graph(other)
    assert judged.agreement == np.count_nonzero(wanted == 0) / 40
    assert 0 < judged.agreement < 1
    assert judged.db == scorer.of_graph(other)
    assert scorer.judge_graph(graph) == Score(BEST_DB, 1.0)


def test_what_has_no_classes_has_no_agreement() -> None:
    graph = model("l = MatMul(x, w)  y = Softmax(l)", "1, 5, 4", "1, 5, 8")
    assert Scorer(graph, EXECUTOR, feeds(6, 1, 5, 4), 1).judge_graph(graph).agreement is None
    like_its_input = model("y = Relu(x)", "N, 4", "N, 4")
    assert (
        Scorer(like_its_input, EXECUTOR, feeds(), 1).judge_graph(like_its_input).agreement is None
    )


@pytest.mark.parametrize("positions", [5, "S"])
@pytest.mark.parametrize("width", [8, 200])
def test_what_stands_behind_a_text_does_not_count(positions: int | str, width: int) -> None:
    text = f"""
      <ir_version: 10, opset_import: ["" : 21]>
      g (float[N, {positions}, 4] x, int64[N, {positions}] attention_mask)
        => (float[N, {positions}, {width}] y)
      {{ h = MatMul (x, w) m = Cast <to = 1> (attention_mask) k = Unsqueeze (m, last)
         p = Mul (k, off) q = Sub (off, p) y = Add (h, q) }}
    """
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((4, width)).astype(np.float32),
        "off": np.float32(0),
        "last": np.array([-1]),
    }
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    samples = [
        {"x": rng.standard_normal((2, 5, 4)).astype(np.float32), "attention_mask": mask}
        for _ in range(3)
    ]

    def shifted(by: float) -> ir.Model:
        other = graph.clone()
        other.graph.initializers["off"].const_value = ir.tensor(np.float32(by), name="off")
        return other

    judged = Scorer(graph, EXECUTOR, samples, 1)
    assert judged.of_graph(shifted(1.0)) == BEST_DB  # only where the mask is 0 is anything added
    everywhere = [{**one, "attention_mask": mask * 3} for one in samples]  # no mask of 0 and 1
    assert Scorer(graph, EXECUTOR, everywhere, 1).of_graph(shifted(1.0)) < 20


def test_where_rows_have_scales_of_their_own_a_small_one_is_not_lost() -> None:
    """A layer that finds its scales as it runs, on rows of which one is a thousand times one."""
    body = "y = MatMul (x, w) a, b = Split <axis = 0, num_outputs = 2> (y)"
    text = f"g (float[2, 8] x) => (float[1, 4] a, float[1, 4] b) {{ {body} }}"
    made, target = parse(text, {"w": rand(8, 4)}), load_target("ort-x86-vnni")
    scheme = Scheme(scheme="w8a8-dynamic")
    plan = empty_plan(made, target, scheme, {})
    complete(made, plan, target, scheme, {})
    assert plan.nodes[made.graph.node(0).name].mode == "dynamic"
    x = rand(2, 8, seed=4) * np.asarray([[1000], [1]], np.float32)
    one, many = (
        Scorer(made, EXECUTOR, [{"x": x}], 1, rows=rows).score(plan) for rows in (False, True)
    )
    assert many > 30
    assert one < many - 10
