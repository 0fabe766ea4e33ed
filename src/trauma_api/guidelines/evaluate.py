"""Which rows fire for a case."""

from dataclasses import dataclass

from trauma_api.guidelines.case import Case
from trauma_api.guidelines.row import Condition, Row
from trauma_api.guidelines.rows import ROWS


@dataclass(frozen=True)
class Fired:
    """A row that applies, and the inputs that made it so, as ``name=value`` in the order of the case.

    An input that was not given has `` (derived)`` behind its value.
    """

    row: Row
    inputs: tuple[str, ...]


def holds(condition: Condition, case: Case) -> bool:
    """Whether all inputs that the condition names have one of its values."""
    return all(getattr(case, name) in values for name, values in condition.items())


def applies(row: Row, case: Case) -> bool:
    """Whether the row fires: it is confirmed, a condition of it holds, and no exception does."""
    return (
        row.confirmed
        and any(holds(one, case) for one in row.any_of)
        and not any(holds(one, case) for one in row.unless)
    )


def fired_rows(case: Case) -> tuple[Fired, ...]:
    """The rows that apply, in the order of the table. What is unknown fires nothing that names it."""
    return tuple(Fired(row, _inputs(row, case)) for row in ROWS if applies(row, case))


def _inputs(row: Row, case: Case) -> tuple[str, ...]:
    names = {name for condition in row.any_of if holds(condition, case) for name in condition}
    return tuple(_told(name, case) for name in vars(case) if name in names)


def _told(name: str, case: Case) -> str:
    return f"{name}={getattr(case, name)}{' (derived)' if name in case.derived else ''}"
