"""Which rows fire for a case."""

from dataclasses import dataclass

from trauma_api.guidelines.case import Case
from trauma_api.guidelines.rows import ROWS, Condition, Row


@dataclass(frozen=True)
class Fired:
    """A row that applies, and the inputs that made it so, as ``name=value`` in the order of the case."""

    row: Row
    inputs: tuple[str, ...]


def holds(condition: Condition, case: Case) -> bool:
    """Whether all inputs that the condition names have one of its values."""
    return all(getattr(case, name) in values for name, values in condition.items())


def fired_rows(case: Case) -> tuple[Fired, ...]:
    """The rows that apply, in the order of the table. What is unknown fires nothing that names it."""
    fired = []
    for row in ROWS:
        names = {name for condition in row.any_of if holds(condition, case) for name in condition}
        if names:
            inputs = tuple(f"{name}={getattr(case, name)}" for name in vars(case) if name in names)
            fired.append(Fired(row, inputs))
    return tuple(fired)
