"""A plan on disk: read back equal, equal bytes, edits noticed, anything malformed named."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from qcompile.core.errors import QCompileError
from qcompile.core.plan import (
    Derived,
    NodeCost,
    NodePlan,
    QuantPlan,
    ValuePlan,
)
from qcompile.core.plan_file import load_plan, to_arrays, to_json
from tests.core.plans import assert_equal, grouped, plans, small


@settings(max_examples=60)
@given(plans())
def test_a_plan_is_read_back_as_it_was(plan):
    text, arrays = to_json(plan), to_arrays(plan)
    back, dropped = load_plan(text, arrays, "p")
    assert dropped == []
    assert_equal(plan, back)
    assert to_json(back) == text
    assert to_arrays(back) == arrays


def reload(
    edit=lambda document: None, plan: QuantPlan | None = None
) -> tuple[QuantPlan, list[str]]:
    plan = plan or small()
    document = json.loads(to_json(plan))
    edit(document)
    return load_plan(json.dumps(document).encode(), to_arrays(plan), "some.plan.json")


def test_no_timestamps_and_no_order_of_arrays():
    plan = small()
    arrays = to_arrays(plan)
    plan.corrections = dict(reversed(plan.corrections.items()))
    assert to_arrays(plan) == arrays
    with zipfile.ZipFile(io.BytesIO(arrays)) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_without_arrays_nothing_stored_is_replayed():
    plan, dropped = load_plan(to_json(small()), None, "p")
    assert (plan.corrections, plan.rounded, dropped) == ({}, {}, [])


def transformed_plan() -> QuantPlan:
    plan = small()
    plan.transforms = {
        "smooth": {"x": np.asarray([2, 0.5], np.float32)},
        "equalize": {"y": np.ones(3, np.float32)},
    }
    return plan


def test_transforms_keep_their_order():
    plan, _ = reload(plan=transformed_plan())
    assert list(plan.transforms) == ["smooth", "equalize"]


@pytest.mark.parametrize("found", [{}, {"smooth": {"x": np.asarray([2, 1], np.float32)}}])
def test_scales_without_the_factors_they_were_found_for_are_refused(found):
    plan, other = transformed_plan(), transformed_plan()
    other.transforms = found
    with pytest.raises(QCompileError, match="after smooth, equalize, whose factors are not in"):
        load_plan(to_json(plan), to_arrays(other), "p")
    with pytest.raises(QCompileError, match=r"not in the \.npz beside it"):
        load_plan(to_json(plan), None, "p")


@pytest.mark.parametrize(
    "factors", [np.asarray([0.0], np.float32), np.asarray([np.inf], np.float32), np.ones(2)]
)
def test_factors_that_cannot_be_are_refused(factors):
    plan = small()
    plan.transforms = {"equalize": {"x": factors}}
    with pytest.raises(QCompileError, match="factors of x for equalize, which are not one pos"):
        load_plan(to_json(plan), to_arrays(plan), "p")


def test_free_text_may_be_edited():
    def edit(document):
        document["values"]["x"] |= {"reason": "mine", "rule": "by hand"}
        document["nodes"]["tanh"]["reason"] = "mine"

    plan, dropped = reload(edit)
    assert dropped == []
    assert plan.corrections.keys() == {"b", "b2"}


@pytest.mark.parametrize(
    ("edited", "corrections", "rounded"),
    [
        ("x", [], ["w", "conv"]),
        ("w", [], ["conv"]),
        ("b", [], ["w", "conv"]),
        ("conv", ["b"], ["w"]),
        ("end", ["b", "b2"], ["w", "conv"]),
        # y, which the second layer reads, takes after it.
        ("late", ["b"], ["w", "conv"]),
    ],
)
def test_an_edited_scale_drops_what_hangs_on_it(edited, corrections, rounded):
    def edit(document):
        scale = document["values"][edited]["scale"]
        document["values"][edited]["scale"] = (
            [2 * s for s in scale] if isinstance(scale, list) else 2 * scale
        )

    plan, dropped = reload(edit)
    assert plan.corrections.keys() == set(corrections)
    assert plan.rounded.keys() == set(rounded)
    lost = (2 - len(corrections) > 0) + (2 - len(rounded))
    assert len(dropped) == lost
    assert all(edited in sentence for sentence in dropped)


@pytest.mark.parametrize("node", ["conv", "tanh", "ea/conv"])
def test_an_edited_node_drops_every_correction(node):
    def edit(document):
        document["nodes"][node]["mode"] = "float" if node != "tanh" else "integer"

    plan, dropped = reload(edit)
    assert plan.corrections == {}
    assert plan.rounded.keys() == {"w", "conv"}
    assert dropped == [
        f"2 bias correction(s) were dropped: entries before them were edited ({node})"
    ]


def test_a_removed_value_drops_every_correction_and_its_integers():
    plan = small()
    del plan.values["conv"]
    plan.values["b2"] = ValuePlan("b2", "bias", "int32", relation=Derived("y", "w"))
    back, dropped = load_plan(to_json(plan), to_arrays(small()), "p")
    assert back.corrections == {}
    assert back.rounded.keys() == {"w"}
    assert len(dropped) == 2


def test_an_absorbed_node_made_float_needs_no_other_edit():
    plan, _ = reload(lambda document: document["nodes"]["relu"].update(mode="float"))
    assert plan.mode("relu") == "float"


def test_the_figures_of_a_choice_are_kept_and_nothing_computed_hangs_on_them():
    plan = small()
    name, node = next(iter(plan.nodes.items()))
    plan.nodes[name] = replace(node, cost=NodeCost(0.0125, 0.025, 0.001, True, "other"))
    document = json.loads(to_json(plan))
    cost = {"float_ms": 0.0125, "integer_ms": 0.025, "error_ms": 0.001}
    assert document["nodes"][name]["cost"] == {**cost, "measured": True, "like": "other"}

    def edit(document):
        document["nodes"][name]["cost"]["float_ms"] = 0.5

    back, dropped = reload(edit, plan)
    assert dropped == []
    assert back.nodes[name].cost == NodeCost(0.5, 0.025, 0.001, True, "other")


def test_instructions_are_written_as_such_and_never_as_milliseconds():
    plan = small()
    name, node = next(iter(plan.nodes.items()))
    cost = NodeCost(123400.0, 56780.0, 10.0, False, unit="instructions")
    plan.nodes[name] = replace(node, cost=cost)
    record = json.loads(to_json(plan))["nodes"][name]["cost"]
    assert record.keys() == {
        "float_instructions", "integer_instructions", "error_instructions", "measured"
    }  # fmt: skip
    back, _ = reload(lambda document: None, plan)
    assert back.nodes[name].cost == cost


@pytest.mark.parametrize("wrong", [float("nan"), "much", None])
def test_a_figure_that_is_no_number_is_refused(wrong):
    plan = small()
    name, node = next(iter(plan.nodes.items()))
    plan.nodes[name] = replace(node, cost=NodeCost(1.0, 1.0, 0.0, False))

    def edit(document):
        document["nodes"][name]["cost"]["float_ms"] = wrong

    with pytest.raises(QCompileError, match=name):
        reload(edit, plan)


def grouped_plan() -> QuantPlan:
    plan = small()
    plan.scheme = "w4+kv8"
    plan.nodes["product"] = NodePlan("product", "MatMul", "weights")
    for entry in (
        grouped("g"),
        grouped("s", symmetric=True),
        replace(grouped("bare"), params=None),
    ):
        plan.values[entry.name] = entry
    plan.rounded["g"] = np.full((5, 2), 15, np.uint8)
    return plan


def test_scales_of_groups_are_with_the_arrays():
    plan = grouped_plan()
    text, arrays = to_json(plan), to_arrays(plan)
    back, dropped = load_plan(text, arrays, "p")
    assert dropped == []
    assert_equal(plan, back)
    assert (to_json(back), to_arrays(back)) == (text, arrays)
    assert "scale" not in json.loads(text)["values"]["g"]
    with np.load(io.BytesIO(arrays)) as archive:
        assert "zero_point/g" in archive.files
        assert "zero_point/s" not in archive.files


def test_groups_without_their_scales_are_refused():
    plan, other = grouped_plan(), grouped_plan()
    with pytest.raises(QCompileError, match=r"in an \.npz that must stand beside"):
        load_plan(to_json(plan), None, "p")
    other.values["g"] = grouped("g", symmetric=True)
    with pytest.raises(QCompileError, match="scales of g in the"):
        load_plan(to_json(plan), to_arrays(other), "p")
    del other.values["s"]
    with pytest.raises(QCompileError, match=r"scales of s are not in the \.npz"):
        load_plan(
            to_json(plan),
            to_arrays(replace(other, values=other.values | {"g": plan.values["g"]})),
            "p",
        )


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ({"group": 0}, "says how many elements share"),
        ({"granularity": "tensor", "axis": None}, "a group needs a granularity of group"),
        ({"axis": -1}, "a granularity of group needs an axis"),
        ({"dtype": "uint2"}, "scales of g that cannot be"),
    ],
)
def test_entries_of_groups_that_cannot_be_are_refused(edit, fault):
    def change(document):
        document["values"]["g"] |= edit

    with pytest.raises(QCompileError, match=fault):
        reload(change, grouped_plan())


def test_an_edited_group_drops_its_integers():
    def change(document):
        document["values"]["g"]["group"] = 5

    plan, dropped = reload(change, grouped_plan())
    assert "g" not in plan.rounded
    assert any("chosen integers of g" in sentence for sentence in dropped)
