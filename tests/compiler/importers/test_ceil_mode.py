"""Windows behind the picture: as ONNX Runtime has it, whatever inference by opset 21 says."""

from pathlib import Path

import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.graph import static_shape
from tests.compiler.importers.build import parse, random_feeds, run, save

CASES = [
    # (what the pool says, the picture, ceil_mode and pads afterwards)
    ("kernel_shape=[1,1], strides=[2,2]", (2, 2), 0, None),
    ("kernel_shape=[3,3], strides=[3,3], pads=[1,1,1,1]", (2, 2), 0, [1, 1, 1, 1]),
    ("kernel_shape=[3,3], strides=[3,3], pads=[1,1,1,1]", (2, 3), 1, [1, 1, 0, 1]),
    ("kernel_shape=[2,2], strides=[2,2]", (5, 4), 1, None),
    ("kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]", (6, 6), 1, [1, 1, 1, 1]),
]


@pytest.mark.parametrize("opset", [12, 21, 22])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("said", "size", "ceil", "pads"), CASES)
def test_as_the_runtime(
    op: str,
    said: str,
    size: tuple[int, int],
    ceil: int,
    pads: list[int] | None,
    opset: int,
    tmp_path: Path,
) -> None:
    h, w = size
    body = f"g (float[1,2,{h},{w}] x) => (float[a,b,c,d] y) {{ y = {op}<ceil_mode=1, {said}>(x) }}"
    proto = parse(body, opset=opset)
    imported = load_onnx(save(proto, tmp_path))
    (node,) = imported.model.graph
    assert node.attributes["ceil_mode"].as_int() == ceil
    told = node.attributes.get("pads")
    assert (None if told is None else list(told.as_ints())) == pads
    feeds = random_feeds(proto)
    (output,) = run(proto, feeds)
    assert static_shape(imported.model.graph.outputs[0]) == output.shape
    (found,) = run(imported.model, feeds)  # whose AveragePool may sum in another order
    assert found.shape == output.shape and abs(found - output).max() <= 1e-6


def test_what_follows_has_the_right_shape_and_nothing_is_distrusted(tmp_path: Path) -> None:
    proto = parse(
        """g (float[1,2,2,2] x) => (float[1,2,1,1] y) {
            a = MaxPool<ceil_mode=1, kernel_shape=[1,1], strides=[2,2]>(x)
            y = Relu(a) }""",
        opset=22,
    )
    imported = load_onnx(save(proto, tmp_path))
    assert [static_shape(n.outputs[0]) for n in imported.model.graph] == [(1, 2, 1, 1)] * 2
    assert not any("contradict" in note.message for note in imported.notes)
