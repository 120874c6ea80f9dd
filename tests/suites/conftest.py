"""What became of the public suites is counted."""

import pytest

from tests.suites.tally import Tally, tally_of


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return tally_of(pytestconfig)
