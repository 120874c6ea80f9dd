"""Signals as a terminal's programs have them: devices are lost and interrupted by signals here."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def signals_are_heard() -> Iterator[None]:
    """A run begun by ``nohup`` or in the background ignores these, and so would its children."""
    wanted: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    if hasattr(signal, "SIGHUP"):
        wanted[signal.SIGHUP] = signal.SIG_DFL
    ignored = [one for one in wanted if signal.getsignal(one) is signal.SIG_IGN]
    for one in ignored:
        signal.signal(one, wanted[one])
    yield
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)
