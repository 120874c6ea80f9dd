"""Perplexity and the next token: by definition, without padding, and only of language models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import pytest

from qcompile.compiler.data.dataset import Sample
from qcompile.compiler.data.decoder import complete
from qcompile.compiler.report.accuracy import Accuracy
from qcompile.compiler.verify.accuracy import evaluate
from qcompile.compiler.verify.language import find_language, language_terms, without_last
from qcompile.core.decoder_ends import decoder_ends
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds
from qcompile.core.signature import Signature, TensorSpec
from tests.compiler.tiny_decoder import HEADS, SIZE, VOCABULARY, tiny_decoder

ENDS = decoder_ends(
    Signature(
        (
            TensorSpec("input_ids", "int64", ("b", "s")),
            TensorSpec("attention_mask", "int64", ("b", "t")),
            TensorSpec("position_ids", "int64", ("b", "s")),
            *(
                TensorSpec(f"past_key_values.0.{kind}", "float32", ("b", HEADS, "p", SIZE))
                for kind in ("key", "value")
            ),
        ),
        (
            TensorSpec("logits", "float32", ("b", "s", VOCABULARY)),
            *(
                TensorSpec(f"present.0.{kind}", "float32", ("b", HEADS, "a", SIZE))
                for kind in ("key", "value")
            ),
        ),
    )
)
Function = Callable[[np.ndarray], np.ndarray]


class Runs:
    """The tiny decoder in ONNX Runtime, its logits changed or not."""

    def __init__(self, seed: int = 0, noise: float = 0.0) -> None:
        self.raw = ort.InferenceSession(tiny_decoder(seed).SerializeToString())
        self.input_names = [i.name for i in self.raw.get_inputs()]
        self.output_names = [o.name for o in self.raw.get_outputs()]
        self.noise = noise
        self.lengths: list[int] = []

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        self.lengths.append(feeds["input_ids"].shape[1])
        logits, *caches = (np.asarray(y) for y in self.raw.run(None, dict(feeds)))
        rng = np.random.default_rng(logits.shape[1])
        return [logits + self.noise * rng.normal(size=logits.shape).astype(np.float32), *caches]


@dataclass
class Texts:
    """Rows of tokens, each with its mask where one is given."""

    rows: Sequence[np.ndarray]
    masks: Sequence[np.ndarray] | None = None
    name: str = "texts"
    has_labels: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        assert ENDS is not None
        feeds = {"input_ids": self.rows[index].reshape(1, -1)}
        if self.masks is not None:
            feeds["attention_mask"] = self.masks[index].reshape(1, -1)
        return Sample(complete(ENDS, feeds), None, f"texts[{index}]")


def rows(count: int, length: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, (count, length))


def by_definition(session: Runs, data: Texts) -> float:
    surprises = []
    for i in range(len(data)):
        feeds = data[i].feeds
        logits = session.run(without_last(feeds, "input_ids"))[0][0].astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        following = feeds["input_ids"][0, 1:]
        surprises += list(-np.log(p[np.arange(len(p)), following]))
    return float(np.exp(np.mean(surprises)))


def judged(reference: Runs, candidate: Runs, data: Texts, threads: int = 1) -> Accuracy:
    return evaluate(reference, candidate, data, data="", threads=threads)


def test_perplexity_is_as_defined_and_the_last_token_is_no_input() -> None:
    data, reference, candidate = Texts(list(rows(5, 9))), Runs(), Runs(noise=0.5)
    found = judged(reference, candidate, data)
    text = found.perplexity
    assert text is not None
    assert text.tokens == 5 * 8
    assert text.float_value == pytest.approx(by_definition(reference, data), rel=1e-6)
    assert text.artefact_value == pytest.approx(by_definition(candidate, data), rel=1e-6)
    assert set(candidate.lengths) == {8}
    assert text.rise_low is not None
    assert text.rise_high is not None
    assert text.rise_low <= text.rise_percent <= text.rise_high


def test_agreement_counts_positions_with_the_same_next_token() -> None:
    data, reference, candidate = Texts(list(rows(6, 12))), Runs(), Runs(noise=1.0)
    found = judged(reference, candidate, data)
    expected = [
        reference.run(feeds)[0].argmax(-1) == candidate.run(feeds)[0].argmax(-1)
        for feeds in (without_last(data[i].feeds, "input_ids") for i in range(6))
    ]
    assert found.agreement is not None
    assert (found.agreement.hits, found.agreement.total) == (int(np.sum(expected)), 6 * 11)
    assert 0 < found.agreement.value < 1


def test_only_logits_are_compared_not_caches() -> None:
    found = judged(Runs(), Runs(), Texts(list(rows(2, 5))))
    assert [output.name for output in found.outputs] == ["logits"]
    assert found.outputs[0].identical
    assert found.agreement is not None
    assert found.agreement.value == 1.0
    assert found.perplexity is not None
    assert (found.perplexity.rise_low, found.perplexity.rise_high) == (0.0, 0.0)


def test_padding_counts_for_nothing() -> None:
    texts = rows(4, 8)
    full = judged(Runs(), Runs(seed=1), Texts(list(texts)))
    padded = [np.concatenate([row, np.full(5, VOCABULARY - 1)]) for row in texts]
    masks = [np.concatenate([np.ones(8, np.int64), np.zeros(5, np.int64)])] * 4
    same = judged(Runs(), Runs(seed=1), Texts(padded, masks))
    assert full.perplexity is not None
    assert same.perplexity is not None
    # The last of the text is an input now, since it is not the last of the row.
    assert same.perplexity.tokens == full.perplexity.tokens
    assert same.perplexity.float_value == pytest.approx(full.perplexity.float_value, rel=1e-5)
    assert same.perplexity.artefact_value == pytest.approx(full.perplexity.artefact_value, rel=1e-5)
    assert same.agreement is not None
    assert same.agreement.total == 4 * 8


def test_padding_in_front_counts_for_nothing() -> None:
    texts = rows(3, 6)
    front = [np.concatenate([np.zeros(4, np.int64), row]) for row in texts]
    masks = [np.concatenate([np.zeros(4, np.int64), np.ones(6, np.int64)])] * 3
    full, same = (
        judged(Runs(), Runs(seed=1), data) for data in (Texts(list(texts)), Texts(front, masks))
    )
    assert full.perplexity is not None
    assert same.perplexity is not None
    assert same.perplexity.tokens == full.perplexity.tokens
    assert same.perplexity.float_value == pytest.approx(full.perplexity.float_value, rel=1e-5)


def test_threads_change_nothing() -> None:
    data = Texts(list(rows(9, 7)))
    assert judged(Runs(), Runs(seed=1), data) == judged(Runs(), Runs(seed=1), data, threads=3)


def test_a_broken_artefact_has_no_perplexity_to_speak_of() -> None:
    found = judged(Runs(), Runs(noise=np.nan), Texts(list(rows(2, 5))))
    assert found.perplexity is not None
    assert found.perplexity.artefact_value == np.inf
    assert found.perplexity.rise_low is None


def test_chunks_of_a_large_vocabulary_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Texts(list(rows(2, 20)))
    whole = judged(Runs(), Runs(seed=1), data).perplexity
    monkeypatch.setattr("qcompile.compiler.verify.language._CHUNK", 3 * VOCABULARY)
    parts = judged(Runs(), Runs(seed=1), data).perplexity
    assert whole is not None
    assert parts is not None
    assert parts.float_value == pytest.approx(whole.float_value, rel=1e-12)


@dataclass
class Fake:
    """A model that is a function of the token numbers."""

    function: Function
    output_names: Sequence[str] = ("logits",)
    input_names: Sequence[str] = ("input_ids",)
    longest: int | None = None
    shortest: int = 1

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if feeds["input_ids"].shape[1] < self.shortest:
            raise QCompileError(Code.RUNTIME_FAILED, "of another length")
        return [self.function(feeds["input_ids"])]


FEEDS = {"input_ids": np.array([[1, 2, 3, 4]])}


def one_hot(ids: np.ndarray) -> np.ndarray:
    return np.eye(8, dtype=np.float32)[ids]


def knows_all(ids: np.ndarray) -> np.ndarray:
    return one_hot(ids) + one_hot(ids).mean(axis=1, keepdims=True)


def test_a_model_without_caches_is_tried_for_what_it_knows() -> None:
    found = find_language(Fake(one_hot), FEEDS)
    assert found is not None
    assert found.causal
    masked = find_language(Fake(knows_all), FEEDS)
    assert masked is not None
    assert not masked.causal


def test_a_masked_language_model_has_agreement_but_no_perplexity() -> None:
    language = find_language(Fake(knows_all), FEEDS)
    assert language is not None
    assert language.fed(FEEDS) is FEEDS
    y = knows_all(FEEDS["input_ids"])
    terms = language_terms(language, FEEDS, y, y)
    assert (terms.positions, terms.agree, terms.predicted) == (4, 4, 0)


def test_a_text_of_fixed_length_is_not_cut() -> None:
    language = find_language(Fake(one_hot, shortest=4), FEEDS)
    assert language is not None
    assert language.fed(FEEDS) is FEEDS
    y = one_hot(FEEDS["input_ids"])
    terms = language_terms(language, FEEDS, y, y)
    assert (terms.positions, terms.predicted) == (4, 3)


@pytest.mark.parametrize(
    "model",
    [
        Fake(one_hot, output_names=("last_hidden_state",)),
        Fake(lambda ids: one_hot(ids)[..., :3]),  # fewer than the largest token
        Fake(lambda ids: one_hot(ids)[:, 0]),
    ],
)
def test_other_models_are_none(model: Fake) -> None:
    assert find_language(model, FEEDS) is None


def test_inputs_of_other_names_are_no_tokens() -> None:
    model = Fake(one_hot)
    assert find_language(model, {"x": FEEDS["input_ids"]}) is None
