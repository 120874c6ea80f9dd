"""Random plans for property tests, and a small one to edit."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from qcompile.core.numerics.affine import LIMITS, SMALLEST_SCALE
from qcompile.core.plan import (
    Derived,
    Fixed,
    NodePlan,
    QuantParams,
    QuantPlan,
    Shared,
    ValuePlan,
)

names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="/.\\"),
    min_size=1,
    max_size=12,
)
scales = st.floats(float(SMALLEST_SCALE), 2.0**60, width=32)


@st.composite
def params(draw, dtype: str, channels: int | None) -> QuantParams:
    shape = () if channels is None else (channels,)
    count = 1 if channels is None else channels
    low, high = LIMITS[dtype]
    scale = draw(st.lists(scales, min_size=count, max_size=count))
    zero = draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
    return QuantParams(
        np.asarray(scale, np.float32).reshape(shape), np.asarray(zero, np.int64).reshape(shape)
    )


@st.composite
def values(draw, name: str, role: str) -> ValuePlan:
    dtype = "int32" if role == "bias" else draw(st.sampled_from(["uint8", "int8", "int16"]))
    channels = None if role == "activation" else draw(st.none() | st.integers(1, 4))
    return ValuePlan(
        name,
        role,
        dtype,
        "tensor" if channels is None else "channel",
        None if channels is None else draw(st.integers(0, 3)),
        symmetric=draw(st.booleans()),
        params=draw(st.none() | params(dtype, channels)),
        rule=draw(st.text(max_size=5)),
        reason=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
    )


@st.composite
def plans(draw) -> QuantPlan:
    """A plan whose entries name each other as a real one's do."""
    found = draw(st.lists(names, min_size=3, max_size=8, unique=True))
    roles = ["activation", "weight", "bias"]
    plan = QuantPlan(
        draw(names), draw(names), "w8a8", ends=draw(st.sampled_from(["float", "uint8"]))
    )
    plan.from_noise = draw(st.booleans())
    for index, name in enumerate(found):
        plan.values[name] = draw(values(name, roles[index % 3]))
    entries = list(plan.values.values())
    for entry in entries[2::3]:
        plan.values[entry.name] = _with(entry, Derived(entries[0].name, entries[1].name))
    for entry in entries[3::3]:
        relation = draw(st.sampled_from([None, Shared(entries[0].name), Fixed("Softmax")]))
        plan.values[entry.name] = _with(entry, relation)
    for index, name in enumerate(found):
        mode = draw(st.sampled_from(["integer", "dynamic", "float"])) if index else "integer"
        plan.nodes[name] = NodePlan(name, draw(names), mode, draw(st.text(max_size=9)))
    plan.nodes["last"] = NodePlan("last", "Relu", "absorbed", into=found[0])
    for entry in list(plan.values.values()):
        if entry.role == "bias" and entry.params is not None:
            plan.corrections[entry.name] = np.arange(entry.params.scale.size, dtype=np.float32)
        if entry.role == "weight" and draw(st.booleans()):
            plan.rounded[entry.name] = np.asarray([[1, -2]], np.int8).clip(
                0 if entry.dtype[0] == "u" else -2
            )
    for transform in draw(st.lists(st.sampled_from(["smooth", "equalize"]), unique=True)):
        plan.transforms[transform] = {
            name: np.asarray(draw(st.lists(scales, max_size=3)), np.float32)
            for name in draw(st.lists(names, max_size=2, unique=True))
        }
    return plan


def _with(entry: ValuePlan, relation: Derived | Shared | Fixed | None) -> ValuePlan:
    return replace(entry, relation=relation)


def grouped(name: str, *, symmetric: bool = False) -> ValuePlan:
    """A weight of 5 x 2 in groups of 4, with 4 bits."""
    scale = np.asarray([[0.5, 0.25], [-1, 2]] if symmetric else [[0.1, 3], [1, 2]], np.float32)
    zero = np.full((2, 2), 8, np.int64) if symmetric else np.asarray([[0, 15], [7, 8]])
    params = QuantParams(scale, zero.astype(np.int64))
    return ValuePlan(
        name, "weight", "uint4", "group", 0, symmetric=symmetric, params=params, group=4
    )


def channel(scale: list[float]) -> QuantParams:
    return QuantParams(np.asarray(scale, np.float32), np.zeros(len(scale), np.int64))


def small() -> QuantPlan:
    """Two layers and a value that takes after a later one."""
    one = QuantParams(np.asarray(0.5, np.float32), np.asarray(3, np.int64))
    plan = QuantPlan("f", "t", "w8a8")
    plan.nodes = {
        "conv": NodePlan("conv", "Conv", "integer"),
        "relu": NodePlan("relu", "Relu", "absorbed", into="conv"),
        "ea/conv": NodePlan("ea/conv", "Conv", "integer"),
        "tanh": NodePlan("tanh", "Tanh", "float", "no"),
    }
    for entry in (
        ValuePlan("x", "activation", "uint8", params=one),
        ValuePlan("w", "weight", "int8", "channel", 0, True, params=channel([0.1, 0.2])),
        ValuePlan(
            "b", "bias", "int32", "channel", 0, True, Derived("x", "w"), channel([0.05, 0.1])
        ),
        ValuePlan("y", "activation", "uint8", relation=Shared("late"), params=one),
        ValuePlan(
            "conv",
            "weight",
            "int8",
            symmetric=True,
            params=QuantParams(one.scale, one.scale.astype(np.int64)),
        ),
        ValuePlan("b2", "bias", "int32", "tensor", None, True, Derived("y", "conv"), one),
        ValuePlan("late", "activation", "uint8", params=one),
        ValuePlan("end", "activation", "uint8", params=one),
    ):
        plan.values[entry.name] = entry
    plan.corrections = {"b": np.ones(2, np.float32), "b2": np.ones(3, np.float32)}
    plan.rounded = {"w": np.zeros((2, 1), np.int8), "conv": np.zeros((3, 1), np.int8)}
    return plan


def assert_equal(a: QuantPlan, b: QuantPlan) -> None:
    for key in ("fingerprint", "target", "scheme", "ends", "from_noise"):
        assert getattr(a, key) == getattr(b, key)
    assert list(a.nodes.items()) == list(b.nodes.items())
    assert list(a.values) == list(b.values)
    for name, one in a.values.items():
        other = b.values[name]
        assert (one.params is None) == (other.params is None)
        if one.params is not None and other.params is not None:
            assert one.params.same_as(other.params)
            assert one.params.scale.shape == other.params.scale.shape
            assert other.params.scale.dtype == np.float32
            assert other.params.zero_point.dtype == np.int64
        for key in (
            "role",
            "dtype",
            "granularity",
            "axis",
            "symmetric",
            "relation",
            "rule",
            "reason",
            "group",
        ):
            assert getattr(one, key) == getattr(other, key)
    assert list(a.transforms) == list(b.transforms)
    tables = [(a.transforms[name], b.transforms[name]) for name in a.transforms]
    for one_table, other_table in (
        (a.corrections, b.corrections),
        (a.rounded, b.rounded),
        *tables,
    ):
        assert one_table.keys() == other_table.keys()
        for name, array in one_table.items():
            assert other_table[name].dtype == array.dtype
            assert np.array_equal(other_table[name], array)
