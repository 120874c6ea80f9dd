"""Recurrent state: followed by the float model, sequence by sequence, and fed back to artefacts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.config import Config, load_config
from qcompile.compiler.data.dataset import Subset
from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.options import DataOptions
from qcompile.compiler.data.state import (
    OwnState,
    PlacedFeeds,
    Stateful,
    check_state,
    has_state,
    sequence_of,
    split_tail,
)
from qcompile.compiler.samples import choose_samples
from qcompile.core.errors import Code, QCompileError
from qcompile.core.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("N", 2)), TensorSpec("h", "float32", ("N", 2))),
    (TensorSpec("y", "float32", ("N", 1)), TensorSpec("h_next", "float32", ("N", 2))),
)
STATE = {"h_next": "h"}


class Sums:
    """h_next = h + gain * x; counts its runs."""

    input_names = ("x", "h")
    output_names = ("y", "h_next")

    def __init__(self, gain: float = 1.0) -> None:
        self.gain, self.fed = gain, list[np.ndarray]()

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self.fed.append(feeds["h"])
        total = feeds["h"] + np.float32(self.gain) * feeds["x"]
        return [total.sum(1, keepdims=True), total]


def opened(spec: object, start: object = 0.0, session: Sums | None = None) -> Stateful:
    options = DataOptions(constants={"h": start})  # type: ignore[dict-item]
    data = open_data(spec, SIGNATURE, options=options)  # type: ignore[arg-type]
    return Stateful(data, session or Sums(), STATE)


def rows(count: int, first: float = 1.0) -> np.ndarray:
    return np.full((count, 2), first, np.float32)


def states(data: Sequence, indices: range | None = None) -> list[float]:  # type: ignore[type-arg]
    return [float(data[i].feeds["h"][0, 0]) for i in indices or range(len(data))]


def test_the_rows_of_an_array_are_a_sequence() -> None:
    assert states(opened({"x": rows(4)})) == [0, 1, 2, 3]


def test_it_begins_with_the_value_of_the_constants() -> None:
    data = opened({"x": rows(3)}, start=(5.0, 7.0))
    assert [data[i].feeds["h"].tolist() for i in (0, 1)] == [[[5, 7]], [[6, 8]]]


def test_each_file_is_a_sequence_of_its_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=rows(3))
    np.savez(tmp_path / "b.npz", x=rows(2, 10))
    data = opened(tmp_path)
    assert states(data) == [0, 1, 2, 0, 10]
    assert data[4].feeds.place.sequence == data[3].feeds.place.sequence  # type: ignore[attr-defined]
    assert sequence_of(data[2].source) != sequence_of(data[3].source)


def test_items_of_a_function_are_a_sequence() -> None:
    assert states(opened(lambda: iter([{"x": rows(1)} for _ in range(3)]))) == [0, 1, 2]


def test_samples_are_read_in_any_order_and_the_model_runs_once_each() -> None:
    session = Sums()
    data = opened({"x": rows(5)}, session=session)
    assert [states(data, range(i, i + 1)) for i in (4, 0, 2, 4)] == [[4], [0], [2], [4]]
    assert len(session.fed) == 5
    assert has_state(data)
    assert has_state(Subset(data, [3, 1], "part"))
    assert not has_state(open_data({"x": rows(1), "h": rows(1)}, SIGNATURE))


def test_an_artefact_is_fed_its_own_state_where_samples_follow() -> None:
    data = opened({"x": rows(6)})
    inner = Sums(gain=2)
    own = OwnState(inner)
    for index in (0, 1, 2, 4, 5):  # 3 is left out: 4 starts from what float had
        own.run(data[index].feeds)
    assert [float(h[0, 0]) for h in inner.fed] == [0, 2, 4, 4, 6]
    plain = {"x": rows(1), "h": rows(1, 9)}
    own.run(plain)
    assert float(inner.fed[-1][0, 0]) == 9


def test_another_sequence_starts_anew(tmp_path: Path) -> None:
    for name in "ab":
        np.savez(tmp_path / f"{name}.npz", x=rows(2))
    data, inner = opened(tmp_path), Sums(gain=3)
    own = OwnState(inner)
    for index in range(4):
        own.run(data[index].feeds)
    assert [float(h[0, 0]) for h in inner.fed] == [0, 3, 0, 3]


def test_what_is_held_out_is_the_tail() -> None:
    kept, held = split_tail(opened({"x": rows(10)}), 0.2)
    assert held is not None
    assert states(held) == [8, 9]
    assert len(kept) == 8
    assert split_tail(opened({"x": rows(7)}), 0.2)[1] is None


def test_the_sets_of_a_build(tmp_path: Path) -> None:
    file = tmp_path / "qcompile.toml"
    file.write_text('[data]\nlimit = 10\n[state]\n"h_next" = "h"\n')
    config = load_config(file)
    assert config.state == STATE
    found = choose_samples(
        SIGNATURE, config, {"x": rows(40)}, None,
        needed=True, random=False, seed=0, open_float=Sums,
    )  # fmt: skip
    assert found.calibration is not None
    assert found.judged is not None
    assert sorted(states(found.calibration)) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert states(found.judged) == [8, 9]
    assert isinstance(found.judged[0].feeds, PlacedFeeds)


def test_given_states_join_those_of_the_file() -> None:
    config = Config(state={"a": "b", "c": "d"}).with_state({"c": "e"})
    assert config.state == {"a": "b", "c": "e"}
    assert config.with_state(None) == config


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"z": "h"}, "'z' is not an output of the model"),
        ({"h_next": "z"}, "'z' is not an input of the model"),
        ({"y": "h"}, "cannot be fed back"),
        ({"h_next": "h", "again": "h"}, "takes two outputs"),
    ],
)
def test_a_state_that_does_not_fit(state: dict[str, str], message: str) -> None:
    outputs = (*SIGNATURE.outputs, TensorSpec("again", "float32", ("N", 2)))
    with pytest.raises(QCompileError) as caught:
        check_state(state, Signature(SIGNATURE.inputs, outputs))
    assert caught.value.code is Code.BAD_CONFIG
    assert message in caught.value.message
