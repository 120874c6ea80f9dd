"""Sets some samples aside for judging what the others calibrated."""

from hashlib import sha256

from qcompile.compiler.data.dataset import Dataset, Subset

SMALLEST_SET = 8
"""Below this nothing is held out: a fifth would be a single sample."""


def hashed_order(count: int, seed: str) -> list[int]:
    """The numbers below ``count`` in an order that is as good as random and always the same."""
    return sorted(range(count), key=lambda i: sha256(f"{seed}:{i}".encode()).digest())


def split_holdout(
    dataset: Dataset, *, seed: int = 0, fraction: float = 0.2
) -> tuple[Dataset, Dataset | None]:
    """Split a set into what calibrates and what is held out.

    A sample's place follows from the hash of ``seed`` and its index, so that the split is the same
    on every machine and with every version of every library. Both parts keep the set's order.

    Args:
        dataset: at least SMALLEST_SET samples are needed for a split.
        seed: another seed, another split.
        fraction: how much is held out, rounded; at least one sample.

    Returns:
        The calibration part, and the held-out part or None when the set is too small.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    count = len(dataset)
    if count < SMALLEST_SET:
        return dataset, None
    by_hash = hashed_order(count, str(seed))
    cut = min(max(round(count * fraction), 1), count - 1)
    held, kept = sorted(by_hash[:cut]), sorted(by_hash[cut:])
    return (
        Subset(dataset, kept, dataset.name),
        Subset(dataset, held, f"{dataset.name} (held out)"),
    )
