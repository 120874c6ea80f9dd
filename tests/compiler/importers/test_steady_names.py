"""A converter's numbers in names of constants do not reach the model."""

import onnx
import pytest

from qcompile.compiler.importers.steady_names import name_by_readers


def model(first: str, second: str, order: tuple[str, str]) -> onnx.ModelProto:
    made = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[2] x) => (float[2] y)
        <float {order[0]} = {{1.0}}, float {order[1]} = {{2.0}}, float kept = {{3.0}}> {{
            a = Add(x, {first}) b = Mul(a, {second}) c = Add(b, {first}) y = Mul(kept, c)
        }}"""
    )
    for number, node in enumerate(made.graph.node):
        node.name = f"n{number}__{number}"
    values = {first: 1.0, second: 2.0, "kept": 3.0}
    for tensor in made.graph.initializer:
        tensor.float_data[:] = [values[tensor.name]]
        tensor.ClearField("raw_data")
    return made


@pytest.mark.parametrize("names", [("c__1", "c__2"), ("c__7", "c__3")])
@pytest.mark.parametrize("flipped", [False, True])
def test_numbers_and_order_follow_the_readers(names: tuple[str, str], flipped: bool) -> None:
    made = model(*names, names[::-1] if flipped else names)
    name_by_readers(made)
    assert [(t.name, t.float_data[0]) for t in made.graph.initializer] == [
        ("n0/operand_1", 1.0),
        ("n1/operand_1", 2.0),
        ("kept", 3.0),
    ]
    assert [list(n.input) for n in made.graph.node] == [
        ["x", "n0/operand_1"], ["a", "n1/operand_1"], ["b", "n0/operand_1"], ["kept", "c"],
    ]  # fmt: skip
    onnx.checker.check_model(made)
    again = onnx.ModelProto.FromString(made.SerializeToString())
    name_by_readers(again)
    assert again == made


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    made = model("c__1", "c__2", ("c__1", "c__2"))
    made.graph.node[0].output[0] = made.graph.node[1].input[0] = "n0/operand_1"
    name_by_readers(made)
    assert made.graph.node[0].input[1] == "n0/operand_1_"
    onnx.checker.check_model(made)


def test_what_a_subgraph_reads_keeps_its_name() -> None:
    made = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[2] x, bool c) => (float[2] y) <float k__1 = {1.0}> {
            a = Add(x, k__1)
            y = If (c) <
                then_branch = t () => (float[2] u) { u = Add(a, k__1) },
                else_branch = e () => (float[2] v) { v = Identity(a) }
            >
        }"""
    )
    name_by_readers(made)
    assert [t.name for t in made.graph.initializer] == ["k__1"]
