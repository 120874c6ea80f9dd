"""Independent work comes back in order, and its first failure is raised."""

import pytest

from qcompile.core.parallel import ordered_map


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_results_come_in_order(threads):
    assert ordered_map(lambda x: x * x, range(20), threads) == [x * x for x in range(20)]
    assert ordered_map(lambda x: x, [], threads) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_exception_is_raised(threads):
    def one(x: int) -> int:
        if x >= 3:
            raise ValueError(str(x))
        return x

    with pytest.raises(ValueError, match="3"):
        ordered_map(one, range(10), threads)
