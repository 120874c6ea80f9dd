"""Makes what a decoder takes besides its tokens, where the data give tokens alone."""

from collections.abc import Mapping

import numpy as np

from qcompile.core.decoder_ends import EXACT, DecoderEnds
from qcompile.core.notes import Note


class MadeFeeds(dict[str, np.ndarray]):
    """Feeds that know which of them were not in the data."""

    def __init__(self, feeds: Mapping[str, np.ndarray], made: tuple[str, ...]) -> None:
        super().__init__(feeds)
        self.made = made


def complete(ends: DecoderEnds, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The feeds of one run with all that follows from the tokens.

    Caches are empty, every position is text, and places count from the first one that is. What
    the data give is kept: with a cache of theirs the mask covers its tokens too, and with a mask
    of theirs places begin behind the padding in front.

    Args:
        ends: of the model.
        feeds: input name -> array; the tokens (texts, tokens) among them.

    Returns:
        The same object where nothing is missing.
    """
    missing = tuple(name for name in ends.makeable if name not in feeds)
    if not missing or ends.tokens.name not in feeds:
        return feeds
    made = dict(feeds)
    texts, count = feeds[ends.tokens.name].shape
    for cache in ends.caches:
        made.setdefault(cache.taken.name, cache.empty(texts))
    held = {c.taken.name: made[c.taken.name].shape[c.axis] for c in ends.caches}
    before = max((n + held.get(f"{name}{EXACT}", 0) for name, n in held.items()), default=0)
    text = np.ones((texts, before + count), np.int64)
    if ends.mask is not None:
        made.setdefault(ends.mask.name, text.astype(ends.mask.dtype))
        text = made[ends.mask.name].astype(np.int64)
    places = np.maximum(text.cumsum(axis=1) - 1, 0)[:, -count:]
    for spec in ends.positions:
        own = places if len(spec.shape or ()) == 2 else places[0]
        made.setdefault(spec.name, own.astype(spec.dtype))
    return MadeFeeds(made, missing)


def made_notes(ends: DecoderEnds, feeds: Mapping[str, np.ndarray]) -> list[Note]:
    """Says what was made of a sample's feeds.

    Args:
        ends: of the model.
        feeds: of any sample.
    """
    if not isinstance(feeds, MadeFeeds):
        return []
    caches = [cache.taken.name for cache in ends.caches if cache.taken.name in feeds.made]
    parts = []
    if ends.mask is not None and ends.mask.name in feeds.made:
        parts.append(f"{ends.mask.name} (ones)")
    parts += [f"{spec.name} (0, 1, ...)" for spec in ends.positions if spec.name in feeds.made]
    parts += [f"{len(caches)} empty caches ({caches[0]}, ...)"] if caches else []
    return [Note("info", f"made for the samples, which do not give them: {', '.join(parts)}")]
