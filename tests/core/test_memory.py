"""Freed memory goes back to the system, and nothing else happens."""

import weakref

from qcompile.core.memory import give_back


class Circle:
    def __init__(self) -> None:
        self.itself = self


def test_what_only_circles_hold_is_collected() -> None:
    watched = weakref.ref(Circle())
    give_back()
    assert watched() is None
