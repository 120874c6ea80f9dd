"""Decoders read step by step in ONNX Runtime, and the perplexity of what they say.

Apart from the product's own code; a model without caches is one that reads a text at once.
"""

import numpy as np
import onnxruntime as ort

TYPES = {"float": "float32", "float16": "float16"}
"""ONNX Runtime's names of types that numpy calls otherwise."""
STATE = ("past_key_values", "present")


class Decoder:
    """A model that goes on from its own caches, which go round by name."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        self.ends = {end.name: end for end in session.get_inputs()}
        self.names = [end.name for end in session.get_outputs()]
        self.state: dict[str, np.ndarray] = {}
        self.done = 0

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Logits (texts, tokens, vocabulary) of the next tokens (texts, tokens)."""
        texts, count = ids.shape
        feeds = {"input_ids": ids.astype(np.int64)}
        if "attention_mask" in self.ends:
            feeds["attention_mask"] = np.ones((texts, self.done + count), np.int64)
        if "position_ids" in self.ends:
            feeds["position_ids"] = np.tile(np.arange(self.done, self.done + count), (texts, 1))
        for name, end in self.ends.items():
            if name not in feeds:
                kind = end.type.removeprefix("tensor(").removesuffix(")")
                empty = np.zeros((texts, end.shape[1], 0, end.shape[3]), TYPES.get(kind, kind))
                feeds[name] = self.state.get(name.replace(*STATE), empty)
        made = dict(zip(self.names, self.session.run(None, feeds), strict=True))
        logits: np.ndarray = made.pop("logits")
        self.state = made
        self.done += count
        return logits

    @property
    def held(self) -> int:
        """Bytes of all caches."""
        return sum(array.nbytes for array in self.state.values())


def losses(logits: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Cross-entropy of each token that follows, float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    chosen = np.take_along_axis(wide, following[..., None].astype(np.int64), -1)[..., 0]
    return np.asarray(np.log(np.exp(wide).sum(-1)) - chosen)


def perplexity(session: ort.InferenceSession, rows: np.ndarray, piece: int | None = None) -> float:
    """exp of the mean cross-entropy of the token behind each, a row (N x tokens) by itself.

    Args:
        session: the model.
        rows: numbers of tokens; the last of a row is only what the one before it should say.
        piece: how many tokens are read at a time; all when None.
    """
    found = []
    for row in rows:
        read, decoder = row[None, :-1], Decoder(session)
        step = piece or read.shape[1]
        parts = [decoder(read[:, at : at + step]) for at in range(0, read.shape[1], step)]
        found.append(losses(np.concatenate(parts, axis=1), row[None, 1:]).mean())
    return float(np.exp(np.mean(found)))
