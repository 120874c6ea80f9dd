"""Remarks that a build makes on its way, for the log and the report."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["info", "warning"]


@dataclass(frozen=True)
class Note:
    """One remark: what was seen or done, about which node of the user's model if any.

    ``info`` says what was done (opset converted, batch fixed to 1); ``warning`` says what may make
    the result worse than the user expects (data that look wrongly scaled, a part left float).
    """

    level: Level
    message: str
    node: str | None = None

    def __str__(self) -> str:
        return f"{self.message} (node {self.node})" if self.node else self.message
