"""Every operator against LiteRT, bit for bit, on random models of one operator.

``QCOMPILE_EXAMPLES`` says how many models an operator and kind of scales; ties are frequent where
all scales are powers of two.
"""

import os
import zlib

import numpy as np
import pytest

from qcompile.targets.tflite.runtime import Kernels
from tests.targets.tflite.reference.draw import Draw
from tests.targets.tflite.reference.draw_pointwise import quantize
from tests.targets.tflite.reference.one_op import OneOp, delegated, differences
from tests.targets.tflite.reference.operators import (
    EXACT,
    EXACT_UNDER_XNNPACK,
    EXACT_WIDE,
    Make,
)

EXAMPLES = int(os.environ.get("QCOMPILE_EXAMPLES", "50"))


def generator(name: str, powers: bool) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), powers])


def unequal(make: Make, draw: Draw, kernels: Kernels, count: int) -> list[tuple[OneOp, int]]:
    """The models that differ anywhere, with the largest difference."""
    found = []
    for _ in range(count):
        one = make(draw)
        away = np.abs(differences(one, kernels)).max(initial=0)
        if away:
            found.append((one, away))
    return found


@pytest.mark.parametrize("powers", [False, True], ids=["free", "powers"])
@pytest.mark.parametrize("name", EXACT)
def test_reference_kernels(name: str, powers: bool) -> None:
    draw = Draw(generator(name, powers), powers)
    assert unequal(EXACT[name], draw, "reference", EXAMPLES) == []


@pytest.mark.parametrize("powers", [False, True], ids=["free", "powers"])
@pytest.mark.parametrize("name", EXACT_WIDE)
def test_reference_kernels_in_16_bits(name: str, powers: bool) -> None:
    draw = Draw(generator(name, powers), powers, "int16")
    assert unequal(EXACT[name], draw, "reference", EXAMPLES) == []


@pytest.mark.parametrize("powers", [False, True], ids=["free", "powers"])
@pytest.mark.parametrize("name", [n for n in EXACT_UNDER_XNNPACK if n != "TRANSPOSE_CONV"])
def test_xnnpack(name: str, powers: bool) -> None:
    draw = Draw(generator(name, powers), powers)
    assert unequal(EXACT_UNDER_XNNPACK[name], draw, "xnnpack", EXAMPLES) == []


@pytest.mark.parametrize("powers", [False, True], ids=["free", "powers"])
def test_xnnpack_transpose_conv(powers: bool) -> None:
    # XNNPACK declines SAME with a kernel narrower than the stride; the builtin kernel, which
    # then runs, is a step off now and then.
    draw = Draw(generator("TRANSPOSE_CONV", powers), powers)
    models = [EXACT["TRANSPOSE_CONV"](draw) for _ in range(EXAMPLES)]
    taken = [one for one in models if delegated(one.data())]
    assert len(taken) > EXAMPLES // 2
    assert [one for one in taken if differences(one, "xnnpack").any()] == []
    away = [np.abs(differences(one, "xnnpack")).max() for one in models]
    assert max(away) <= 1


PAIRS = [
    ("int8", "int8"),
    ("int8", "uint8"),
    ("int8", "int16"),
    ("uint8", "int8"),
    ("uint8", "uint8"),
    ("uint8", "int16"),
    ("int16", "int8"),
    ("int16", "int16"),
]
"""All that QUANTIZE takes: LiteRT refuses int16 to uint8."""


@pytest.mark.parametrize("powers", [False, True], ids=["free", "powers"])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_quantize_between_types(source: str, target: str, powers: bool) -> None:
    draw = Draw(generator(source + target, powers), powers)
    made = [quantize(draw, source, target) for _ in range(EXAMPLES // 2)]
    assert [one for one in made if differences(one, "reference").any()] == []
    assert [one for one in made if differences(one, "xnnpack").any()] == []


@pytest.mark.parametrize("name", ["QUANTIZE, float", "DEQUANTIZE", "ADD", "CONCATENATION"])
def test_unsigned(name: str) -> None:
    draw = Draw(generator(name, False), False, "uint8")
    assert unequal(EXACT[name], draw, "reference", EXAMPLES // 2) == []
