"""Searches single activation ranges, by what each of them does to the outputs of the model."""

from typing import Final

from qcompile.compiler.encodings.importing import RULE as GIVEN
from qcompile.compiler.search.recipe import Candidate
from qcompile.compiler.search.workshop import Workshop
from qcompile.core.budget import Budget
from qcompile.passes.plan.output_values import output_values
from qcompile.passes.plan.range_factors import is_free

STEPS: Final = (0.7, 0.85, 1.15)
"""What the range of an activation is multiplied by, one after the other."""

LEAST_GAIN: Final = 0.03
"""dB that a change of one range must buy."""

ROUNDS: Final = 2


def search_ranges(shop: Workshop, start: Candidate, budget: Budget) -> dict[str, float]:
    """Coordinate descent over the ranges of a finished plan.

    Each activation's range is made narrower and wider in turn, and a change is kept if it brings
    the outputs closer to float on the samples that the plan was made from; the caller tries the
    outcome on the held-out ones. Weights and corrections stay as they are meanwhile, and so do
    the ranges of outputs (``output_values``) and those that the user gave. Activations are taken in
    graph order; a second round looks at those that changed in the first.

    Args:
        shop: scores plans.
        start: the plan to begin with.
        budget: ends the search between two trials.

    Returns:
        Activation -> factor of its range, for those that changed; with those of ``start``.
    """
    factors = dict(start.recipe.factors)
    outputs = {value.name for value in output_values(start.model.graph)}
    entries = start.plan.values.items()
    free = (name for name, entry in entries if is_free(entry) and entry.rule != GIVEN)
    names = [name for name in free if name not in outputs]
    best = shop.score_on_first(start, factors)
    for _ in range(ROUNDS):
        changed = []
        for name in names:
            for step in STEPS:
                if budget.is_spent:
                    return factors
                tried = {**factors, name: factors.get(name, 1.0) * step}
                score = shop.score_on_first(start, tried)
                if score >= best + LEAST_GAIN:
                    factors, best = tried, score
                    changed.append(name)
        names = list(dict.fromkeys(changed))
    return factors
