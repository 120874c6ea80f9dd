"""How a user sets limits on what leaves the target."""

import pytest

from qcompile.compiler.off_limits import OffLimits, off_limits
from qcompile.core.errors import Code, QCompileError


def test_amounts_are_read() -> None:
    assert off_limits(None, None, None) == OffLimits()
    assert not OffLimits().any
    found = off_limits(0, "512KiB", "2M")
    assert (found.max_off_target, found.max_sram, found.max_cycles) == (0, 524288, 2e6)
    assert found.any
    assert off_limits(None, 4096, 100000).max_sram == 4096


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((-1, None, None), "--max-off-target must be 0 or more"),
        ((None, "30%", None), "--max-sram '30%' cannot be read"),
        ((None, None, "2GHz"), "--max-cycles '2GHz' cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(given: tuple[int, str, str], words: str) -> None:
    with pytest.raises(QCompileError, match=words) as caught:
        off_limits(*given)
    assert caught.value.code is Code.BAD_OPTION
