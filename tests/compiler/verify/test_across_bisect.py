"""Binary search for the operator that parts, on devices that show only the ends of a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.report.devices import Found
from qcompile.compiler.verify.across_bisect import bisect
from qcompile.compiler.verify.inside import Inside, look_inside
from qcompile.core.executor import Session
from qcompile.targets.devices.device import Program
from tests.compiler import small
from tests.compiler.fake_device import FakeDevice

WIDTH = 6


def chain(length: int, skip: bool) -> onnx.ModelProto:
    """Quantized Relus in a row, and with ``skip`` an Add of the first and the last one."""
    lines, value = [], "x"
    for i in range(length):
        lines += [
            f"r{i} = Relu ({value})",
            f"q{i} = QuantizeLinear (r{i}, s, z)",
            f"d{i} = DequantizeLinear (q{i}, s, z)",
        ]
        value = f"d{i}"
    if skip:
        lines += [
            f"a = Add (d0, {value})",
            "qa = QuantizeLinear (a, s, z)",
            "da = DequantizeLinear (qa, s, z)",
        ]
        value = "da"
    body = "\n".join(lines)
    return small.text_model(
        f"""net (float[1, {WIDTH}] x) => (float[1, {WIDTH}] y) {{
            {body}
            y = Neg ({value})
        }}""",
        {"s": np.float32(0.25), "z": np.array(0, np.uint8)},
    )


@dataclass
class Broken(FakeDevice):
    """Its kernel for one node adds what it must not: the file itself is changed before it runs."""

    node: str = ""
    loads: list[int] = field(default_factory=list)

    def session(self, program: Program) -> Session:
        model = onnx.load_from_string(program.data)
        self.loads.append(len(model.graph.node))
        for index, node in enumerate(model.graph.node):
            if node.output[0] == self.node:
                made = node.output[0]
                node.output[0] = f"{made}_right"
                model.graph.initializer.append(
                    onnx.numpy_helper.from_array(np.float32(0.75), "too much")
                )
                wrong = onnx.helper.make_node("Add", [f"{made}_right", "too much"], [made])
                model.graph.node.insert(index + 1, wrong)
                break
        return super().session(Program(model.SerializeToString(), program.runtime))


def found_in(folder: Path, length: int, node: str, *, skip: bool = False) -> tuple[Found, Broken]:
    path = small.saved(chain(length, skip), folder, f"{length}{node}{skip}.onnx")
    inside = look_inside(path, {})
    given = {"x": np.linspace(-1, 2, WIDTH, dtype=np.float32)[None]}
    device = Broken(node=node)
    found = bisect(inside, device, given, inside.reference().run(given))
    assert found is not None
    return found, device


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("at", [0, 1, 7, 14, 15])
def test_the_first_that_parts_is_found(at: int, skip: bool, tmp_path: Path) -> None:
    found, device = found_in(tmp_path, 16, f"r{at}", skip=skip)
    assert (found.value, found.op, found.largest, found.confirmed) == (f"r{at}", "Relu", 3, True)
    assert found.runs == len(device.loads)
    assert found.runs <= 9, "binary search: two runs more than log2 of the values, and two"


def test_an_operator_of_two_inputs(tmp_path: Path) -> None:
    found, _ = found_in(tmp_path, 8, "a", skip=True)
    assert (found.value, found.op, found.confirmed) == ("a", "Add", True)


def test_nothing_is_found_where_nothing_parts(tmp_path: Path) -> None:
    inside = look_inside(small.saved(chain(4, False), tmp_path), {})
    given = {"x": np.ones((1, WIDTH), np.float32)}
    assert bisect(inside, FakeDevice(), given, inside.reference().run(given)) is None


def test_an_inner_difference_that_no_output_shows(tmp_path: Path) -> None:
    """What is wrong may be gone at the output; then the search ends at the value that showed it."""
    inside = look_inside(small.saved(chain(8, False), tmp_path), {})
    given = {"x": np.ones((1, WIDTH), np.float32)}
    wanted = inside.reference().run(given)

    class Healing(Broken):
        def session(self, program: Program) -> Session:
            whole = b"Neg" in program.data
            device = FakeDevice() if whole else super()
            return device.session(program)

    assert bisect(inside, Healing(node="r2"), given, wanted) is None
    found = bisect(inside, Healing(node="r2"), given, wanted, "r5")
    assert found is not None
    assert (found.value, found.confirmed) == ("r2", True)


@dataclass
class Spans(FakeDevice):
    """Wrong where two Relus stand behind one another unwatched: as a fusion that spans them."""

    inside: Inside | None = None

    def session(self, program: Program) -> Session:
        session = super().session(program)
        outputs = list(session.output_names)
        watched = {"d1", "q1"} & set(outputs) and len(outputs) > 1

        class Fused:
            input_names = session.input_names
            output_names = session.output_names

            def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
                made = session.run(feeds)
                if watched or "d0" in outputs or outputs == ["d1"]:
                    return made
                return [array + np.float32(1) for array in made]

        return Fused()


def test_what_frontiers_break_is_looked_at_one_by_one(tmp_path: Path) -> None:
    """The skip keeps d1 in every frontier; only files that end at one value show the fault."""
    model = small.text_model(
        f"""net (float[1, {WIDTH}] x) => (float[1, {WIDTH}] y) {{
            r0 = Relu (x)
            q0 = QuantizeLinear (r0, s, z)
            d0 = DequantizeLinear (q0, s, z)
            r1 = Relu (d0)
            q1 = QuantizeLinear (r1, s, z)
            d1 = DequantizeLinear (q1, s, z)
            r2 = Relu (d1)
            q2 = QuantizeLinear (r2, s, z)
            d2 = DequantizeLinear (q2, s, z)
            r3 = Relu (d2)
            q3 = QuantizeLinear (r3, s, z)
            d3 = DequantizeLinear (q3, s, z)
            y = Add (d1, d3)
        }}""",
        {"s": np.float32(0.25), "z": np.array(0, np.uint8)},
    )
    inside = look_inside(small.saved(model, tmp_path), {})
    given = {"x": np.ones((1, WIDTH), np.float32)}
    found = bisect(inside, Spans(), given, inside.reference().run(given))
    assert found is not None
    assert (found.value, found.confirmed) == ("r2", True)
