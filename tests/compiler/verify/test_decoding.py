"""A decoder goes on from its own caches, whatever types they have."""

import numpy as np

from qcompile.compiler.verify.decoding import PROMPT, times_as_decoder, uses_of
from qcompile.core.executor import Feeds
from tests.compiler.verify.test_language import ENDS, Runs

TOKENS = np.random.default_rng(0).integers(0, 40, 12)


def test_one_token_more_is_as_in_one_text() -> None:
    assert ENDS is not None
    session = Runs()
    uses = uses_of(session, ENDS, TOKENS)
    np.testing.assert_array_equal(uses.prefill["input_ids"], TOKENS[None])
    whole = session.run(uses.prefill)[0]
    new = uses.decode["input_ids"]
    assert new[0, 0] == whole[0, -1].argmax()
    assert uses.decode["attention_mask"].shape == (1, 13)
    np.testing.assert_array_equal(uses.decode["position_ids"], [[12]])
    longer = uses_of(session, ENDS, np.append(TOKENS, new)).prefill
    expected = session.run(longer)[0][:, -1:]
    np.testing.assert_allclose(session.run(uses.decode)[0], expected, rtol=0, atol=1e-4)


def test_a_long_text_gives_a_prompt_of_bounded_length() -> None:
    assert ENDS is not None

    class Counts:
        input_names, output_names = ("input_ids",), ("logits", "present.0.key", "present.0.value")
        longest = 0

        def run(self, feeds: Feeds) -> list[np.ndarray]:
            self.longest = max(self.longest, feeds["input_ids"].shape[1])
            return [np.zeros((1, 1, 40), np.float32), *[np.zeros((1, 2, 3, 8), np.float32)] * 2]

    session = Counts()
    uses_of(session, ENDS, np.zeros(3 * PROMPT, np.int64))
    assert session.longest == PROMPT


def test_only_one_text_of_known_inputs_is_timed_so() -> None:
    assert ENDS is not None
    tokens = {"input_ids": np.zeros((1, 4), np.int64)}
    assert times_as_decoder(ENDS, ENDS, tokens)
    assert not times_as_decoder(ENDS, ENDS, {"input_ids": np.zeros((2, 4), np.int64)})
    assert not times_as_decoder(ENDS, ENDS, {**tokens, "style": np.zeros(3)})
    assert not times_as_decoder(ENDS, ENDS, {"x": np.zeros((1, 4))})
