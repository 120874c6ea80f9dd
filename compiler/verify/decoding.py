"""How fast a decoder is as it is used: a prompt read at once, then one token behind another.

Each model goes on from its own caches, so that types and layouts of caches need not be the same.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.compiler.data.decoder import complete
from qcompile.core.decoder_ends import DecoderEnds
from qcompile.core.executor import Feeds, Session

PROMPT: Final = 128
"""Most tokens of a prompt."""


@dataclass(frozen=True)
class Uses:
    """The inputs of one model in its two uses."""

    prefill: Feeds
    decode: Feeds


def uses_of(session: Session, ends: DecoderEnds, tokens: np.ndarray) -> Uses:
    """Read a prompt, and make what the model takes to say one token more.

    Args:
        session: the model, its ends as they are.
        ends: what they are.
        tokens: whole numbers (tokens,), the prompt.

    Raises:
        QCompileError: RUNTIME_FAILED.
    """
    prompt = tokens[:PROMPT].reshape(1, -1)
    prefill = complete(ends, {ends.tokens.name: prompt.astype(ends.tokens.dtype)})
    given = dict(zip(session.output_names, session.run(prefill), strict=True))
    following = given[ends.logits.name][:, -1].argmax(axis=-1).reshape(1, 1)
    decode = complete(
        ends,
        {
            ends.tokens.name: following.astype(ends.tokens.dtype),
            **{cache.taken.name: given[cache.given.name] for cache in ends.caches},
        },
    )
    return Uses(prefill, decode)


def times_as_decoder(reference: DecoderEnds, candidate: DecoderEnds, feeds: Feeds) -> bool:
    """Whether two models can be timed as decoders on a sample: one text, nothing but its own ends.

    Args:
        reference: ends of the float model.
        candidate: ends of the artefact.
        feeds: the sample.
    """
    tokens = feeds.get(reference.tokens.name)
    return (
        bool(reference.caches and candidate.caches)
        and tokens is not None
        and tokens.shape[0] == 1
        and tokens.size > 0
        and set(feeds) <= {reference.tokens.name, *reference.makeable}
    )
