"""The record of the report on a step of the search: what it was, and what it bought."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TriedStep:
    """What one step of the search bought, on calibration samples that judge plans."""

    step: str
    db_before: float
    """Mean SQNR of the outputs without it, in dB."""
    db_after: float
    kept: bool
    """Whether the artefact has it."""
    agreement_before: float | None = None
    """Share of rows in which a classifier chooses as float does; None without classes."""
    agreement_after: float | None = None
