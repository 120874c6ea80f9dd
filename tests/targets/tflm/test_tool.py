"""The arena that is reported is the smallest, and float operators are named."""

import pytest

from qcompile.core.errors import QCompileError
from qcompile.targets.accelerators import accelerator_tool
from qcompile.targets.tflm import tool
from qcompile.targets.tflm.arena import STEP, smallest_arena
from qcompile.targets.tflm.session import MicroSession
from qcompile.targets.tflm.tool import ARENA, Tflm
from tests.targets.tflm.micro_models import MICRO, gelu, hard_swish, with_float

pytestmark = [pytest.mark.tflm, pytest.mark.litert]


@pytest.mark.parametrize("make", [hard_swish, with_float])
def test_the_arena_is_the_smallest(make: object) -> None:
    data = make()  # type: ignore[operator]
    found = smallest_arena(data)
    assert found % STEP == 0
    MicroSession(data, arena=found).close()
    with pytest.raises(QCompileError):
        MicroSession(data, arena=found - STEP)


def test_the_artefact_ships_as_it_is() -> None:
    assert accelerator_tool("tflm") == Tflm()
    data = hard_swish()
    made = Tflm().accelerate(data, MICRO)
    assert made.data == data
    assert made.offload.estimates == {ARENA: smallest_arena(data)}
    assert made.offload.source.startswith("TFLite Micro 0.dev")
    assert "64 bits" in made.offload.estimated
    assert (made.offload.nodes, made.offload.on, made.offload.off) == (1, 1, ())
    assert (made.offload.partitions, made.offload.islands) == (1, 0)


def test_float_operators_are_named() -> None:
    found = Tflm().accelerate(with_float(), MICRO).offload
    assert [(node.name, node.op, node.reason) for node in found.off] == [
        ("b", "SIN", "SIN works on floats"),
        ("c", "COS", "COS works on floats"),
    ]
    assert (found.nodes - found.on, found.partitions, found.islands) == (2, 2, 1)


def test_a_refusal_is_a_warning_with_its_reason() -> None:
    made = Tflm().accelerate(gelu(), MICRO)
    assert made.offload.estimates == {}
    (note,) = made.notes
    assert note.level == "warning"
    assert "GELU" in note.message


def test_without_the_extra_a_note_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "is_installed", lambda: False)
    made = Tflm().accelerate(with_float(), MICRO)
    assert made.offload.estimates == {}
    assert len(made.offload.off) == 2
    (note,) = made.notes
    assert "qcompile-edge[tflm]" in note.message
