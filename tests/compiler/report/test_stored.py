"""Stored weights in words: bits each, alike layers in one row, tied ones counted once."""

from qcompile.compiler.report.stored import (
    StoredLayer,
    StoredWeights,
    stored_facts,
    stored_tables,
)


def layer(node: str, **more: object) -> StoredLayer:
    usual = {
        "op": "MatMul", "weight": node, "elements": 1000, "bits": 4, "group": 32,
        "symmetric": False, "bits_per_weight": 5.0, "rule": "nearest",
    }  # fmt: skip
    return StoredLayer(node=node, **{**usual, **more})  # type: ignore[arg-type]


STORED = StoredWeights(
    layers=(
        layer("a"),
        layer("b", bits=2, bits_per_weight=3.0, rule="gptq"),
        layer("c"),
        layer("e", op="Gather", bits_per_weight=0.0, tied="a"),
    ),
    float_elements=7,
)


def test_tied_ones_count_once() -> None:
    assert (STORED.elements, STORED.bytes) == (3000, 13000 / 8)
    assert STORED.bits_per_weight == 13 / 3
    ((label, text),) = stored_facts(STORED)
    assert label == "weights"
    assert text.startswith("4.33 bits each, scales included: 3,000 numbers of 4 layers in ")
    assert text.endswith("; 7 stay float")


def test_a_row_for_layers_that_are_alike() -> None:
    (table,) = stored_tables(STORED)
    assert [(row[0], row[1], row[4], row[5], row[6]) for row in table.rows] == [
        ("MatMul", "4", "nearest", "5.00", "2"),
        ("MatMul", "2", "gptq", "3.00", "1"),
        ("Gather", "4", "as a", "-", "1"),
    ]


def test_nothing_to_say_of_a_model_without() -> None:
    assert stored_facts(None) == []
    assert stored_tables(None) == []
    assert stored_facts(StoredWeights(layers=(), float_elements=1)) == []
