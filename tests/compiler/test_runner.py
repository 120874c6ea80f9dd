"""The pass runner: what it records, what it refuses, what it writes."""

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler.runner import PassRecord, find_fault, run_passes
from qcompile.core.errors import Code, QCompileError


def model(text: str = "{ [a] m = Relu(x) [b] y = Neg(m) }") -> ir.Model:
    header = '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y)'
    parsed = ir.from_proto(onnx.parser.parse_model(f"{header} <float[2] w = {{1, 2}}> {text}"))
    for index, node in enumerate(parsed.graph):
        node.name = node.name or f"n{index}"
    return parsed


class Edit(ir.passes.InPlacePass):
    """Does what it is given."""

    def __init__(self, edit: Callable[[ir.Model], None], *, modified: bool = True) -> None:
        super().__init__()
        self.edit = edit
        self.modified = modified

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        self.edit(model)
        return ir.passes.PassResult(model, self.modified)


def drop_neg(model: ir.Model) -> None:
    relu, neg = model.graph
    neg.outputs[0].replace_all_uses_with(relu.outputs[0], replace_graph_outputs=True)
    model.graph.remove(neg, safe=True)


def nothing(model: ir.Model) -> None:
    del model


def test_records_what_each_pass_did() -> None:
    records = run_passes(model(), [Edit(drop_neg), Edit(nothing, modified=False)])
    assert [record.name for record in records] == ["Edit", "Edit"]
    assert [record.changed for record in records] == [True, False]
    assert [record.nodes for record in records] == [1, 1]
    assert records[0].before == {"Relu": 1, "Neg": 1}
    assert records[0].after == {"Relu": 1}
    assert records[0].difference == {"Neg": -1}
    assert records[1].difference == {}
    assert all(record.seconds >= 0 for record in records)


def test_observer_sees_every_pass_after_it() -> None:
    seen: list[tuple[str, int]] = []

    def observer(record: PassRecord, model: ir.Model) -> None:
        seen.append((record.name, len(model.graph)))

    run_passes(model(), [Edit(nothing), Edit(drop_neg)], observer=observer)
    assert seen == [("Edit", 2), ("Edit", 1)]


def test_dumps_only_what_changed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "dump"
    passes = [Edit(nothing, modified=False), Edit(drop_neg)]
    run_passes(model(), passes, dump_dir=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["01_Edit.onnx", "01_Edit.txt"]
    assert [node.op_type for node in ir.load(folder / "01_Edit.onnx").graph] == ["Relu"]
    assert "Relu" in (folder / "01_Edit.txt").read_text(encoding="utf-8")


def test_dump_of_external_weights_leaves_the_users_file(tmp_path: Path) -> None:
    source = tmp_path / "w.bin"
    source.write_bytes(bytes(range(8)))
    made = model("{ m = Add(x, w) y = Neg(m) }")
    tensor = ir.ExternalTensor(
        "w.bin", 0, 8, ir.DataType.FLOAT, shape=ir.Shape([2]), name="w", base_dir=tmp_path
    )
    made.graph.initializers["w"].const_value = tensor
    run_passes(made, [Edit(nothing)], dump_dir=tmp_path / "dump")
    assert source.read_bytes() == bytes(range(8))
    loaded = ir.load(tmp_path / "dump" / "00_Edit.onnx").graph.initializers["w"].const_value
    assert loaded is not None
    assert loaded.tobytes() == bytes(range(8))
    assert made.graph.initializers["w"].const_value is tensor


def test_dump_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QCompileError) as caught:
        run_passes(model(), [Edit(nothing)], dump_dir=tmp_path / "file")
    assert caught.value.code is Code.OUTPUT_UNWRITABLE


def test_exception_names_the_pass() -> None:
    def fail(model: ir.Model) -> None:
        raise KeyError("lost")

    with pytest.raises(QCompileError, match="pass Edit failed: KeyError: 'lost'") as caught:
        run_passes(model(), [Edit(fail)])
    assert caught.value.code is Code.INTERNAL


def test_failed_precondition_names_the_pass() -> None:
    class Picky(Edit):
        def requires(self, model: ir.Model) -> None:
            raise ir.passes.PreconditionError("no plan")

    with pytest.raises(QCompileError, match=r"pass Picky failed.*no plan") as caught:
        run_passes(model(), [Picky(nothing)])
    assert caught.value.code is Code.INTERNAL


def test_users_errors_go_through_as_they_are() -> None:
    def refuse(model: ir.Model) -> None:
        raise QCompileError(Code.BAD_PLAN, "no such value")

    with pytest.raises(QCompileError) as caught:
        run_passes(model(), [Edit(refuse)])
    assert caught.value.code is Code.BAD_PLAN


def test_pass_that_makes_a_new_model() -> None:
    class Copy(ir.passes.FunctionalPass):
        def call(self, model: ir.Model) -> ir.passes.PassResult:
            return ir.passes.PassResult(ir.from_proto(ir.to_proto(model)), True)

    with pytest.raises(QCompileError, match="pass Copy made a new model"):
        run_passes(model(), [Copy()])


def rename_value(model: ir.Model) -> None:
    model.graph[0].outputs[0].name = "y"


def rename_node(model: ir.Model) -> None:
    model.graph[0].name = "b"


def unname_value(model: ir.Model) -> None:
    model.graph[0].outputs[0].name = None


def unname_node(model: ir.Model) -> None:
    model.graph[0].name = None


def swap(model: ir.Model) -> None:
    model.graph.insert_after(model.graph[1], model.graph[0])


def dangle(model: ir.Model) -> None:
    model.graph[1].replace_input_with(0, ir.Value(name="ghost"))


def remove_producer(model: ir.Model) -> None:
    model.graph.remove(model.graph[0])


def remove_output(model: ir.Model) -> None:
    model.graph.remove(model.graph[1])


def empty_initializer(model: ir.Model) -> None:
    model.graph.initializers["w"].const_value = None


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (rename_value, "two values are named y"),
        (rename_node, "two nodes are named b"),
        (unname_value, "a value of node a has no name"),
        (unname_node, "a Relu node has no name"),
        (swap, "node b reads m before node a produces it"),
        (dangle, "node b reads ghost, which nothing produces"),
        (remove_producer, "node b reads m of node a, which was removed"),
        (remove_output, "nothing produces the output y"),
        (empty_initializer, "initializer w has no data"),
    ],
    ids=lambda case: case.__name__ if callable(case) else "",
)
def test_broken_graph_names_the_pass(edit: Callable[[ir.Model], None], words: str) -> None:
    with pytest.raises(QCompileError, match="pass Edit left a broken graph") as caught:
        run_passes(model(), [Edit(edit)])
    assert words in caught.value.message
    assert caught.value.code is Code.INTERNAL


def test_faults_in_subgraphs_are_found() -> None:
    header = '<ir_version: 10, opset_import: ["" : 21]> g (bool c, float[2] x) => (float[2] y)'
    made = ir.from_proto(
        onnx.parser.parse_model(
            header
            + """{ [if] y = If (c) <then_branch = t () => (float[2] r) { [a] r = Relu(x) },
            else_branch = e () => (float[2] s) { [b] s = Relu(x) }> }"""
        )
    )
    assert find_fault(made) is None
    made.graph[0].attributes["else_branch"].as_graph()[0].name = "a"
    assert find_fault(made) == "two nodes are named a"


def test_optional_outputs_need_no_name() -> None:
    assert find_fault(model('{ m, "" = Dropout(x) y = Neg(m) }')) is None
