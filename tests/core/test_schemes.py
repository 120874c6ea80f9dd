"""Names of schemes: what is split off, what is left for others to refuse."""

from typing import get_args

import pytest

from qcompile.core.schemes import CACHES, WEIGHT_ONLY, SchemeName, full_name, split_scheme


@pytest.mark.parametrize("scheme", get_args(SchemeName))
@pytest.mark.parametrize("cache", ["", *CACHES])
def test_a_name_comes_apart_as_it_was_put_together(scheme, cache):
    assert split_scheme(full_name(scheme, cache)) == (scheme, cache)


@pytest.mark.parametrize("name", ["w4+kv3", "w4+", "+kv8+kv9", "w4kv8"])
def test_what_is_no_cache_stays_with_the_name(name):
    assert split_scheme(name) == (name, "")


def test_weight_only_schemes_are_schemes():
    assert set(WEIGHT_ONLY) <= set(get_args(SchemeName))
