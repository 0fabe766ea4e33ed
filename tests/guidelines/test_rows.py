"""The recommendation table: each row fires as its source says, none contradicts another, and unknown stays unknown."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import Any, get_args, get_type_hints

import pytest

from trauma_api.guidelines.case import NEEDED_FOR_DISPOSITION, Case, needed
from trauma_api.guidelines.evaluate import applies, fired_rows
from trauma_api.guidelines.row import Condition, Row
from trauma_api.guidelines.rows import ROWS

VALUES: dict[str, tuple[str, ...]] = {name: get_args(hint) for name, hint in get_type_hints(Case).items()}
CONFIRMED = [row for row in ROWS if row.confirmed]
CONDITIONS = [(row, condition) for row in CONFIRMED for condition in row.any_of]
EXCEPTIONS = [(row, condition) for row in CONFIRMED for condition in row.unless]


UNSTABLE = {"hemodynamic_status": "unstable", "peritonitis": "absent", "mechanism": "blunt"}


def case(**inputs: Any) -> Case:
    return replace(Case(), **inputs)


def walk(inputs: Condition) -> Iterator[Case]:
    """Each case that has one of the named values of each named input, and nothing else known."""
    for values in product(*(sorted(values) for values in inputs.values())):
        yield case(**dict(zip(inputs, values, strict=True)))


def ids(one: Case) -> list[str]:
    return [fired.row.id for fired in fired_rows(one)]


def dispositions(one: Case) -> set[str]:
    return {fired.row.disposition for fired in fired_rows(one) if fired.row.disposition is not None}


class TestTable:
    def test_ids_are_unique(self) -> None:
        assert len({row.id for row in ROWS}) == len(ROWS)

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
    def test_each_row_names_its_source(self, row: Row) -> None:
        assert row.level
        assert row.statement.endswith(".")
        assert row.source.url.startswith(("https://", "http://"))
        assert row.source.guideline
        assert row.source.citation
        assert "REBOA" not in row.statement
        assert " mL" not in row.statement

    @pytest.mark.parametrize("row", [row for row in ROWS if not row.confirmed], ids=lambda row: row.id)
    def test_a_row_that_was_not_confirmed_never_fires(self, row: Row) -> None:
        for condition in row.any_of:
            assert all(row.id not in ids(one) for one in walk(condition))
            assert all(applies(replace(row, confirmed=True), one) for one in walk(condition))

    @pytest.mark.parametrize(("row", "condition"), CONDITIONS + EXCEPTIONS)
    def test_each_condition_names_inputs_and_values_that_there_are(self, row: Row, condition: Condition) -> None:
        for name, values in condition.items():
            assert values <= set(VALUES[name]), (row.id, name)
            assert "unknown" not in values
            assert "not_assessed" not in values

    @pytest.mark.parametrize(("row", "condition"), CONDITIONS)
    def test_each_condition_fires_its_row_for_each_of_its_values(self, row: Row, condition: Condition) -> None:
        for one in walk(condition):
            fired = next(fired for fired in fired_rows(one) if fired.row is row)
            assert {f"{name}={getattr(one, name)}" for name in condition} <= set(fired.inputs)

    @pytest.mark.parametrize(("row", "exception"), EXCEPTIONS)
    def test_each_exception_silences_its_row(self, row: Row, exception: Condition) -> None:
        for condition in row.any_of:
            shared = {**condition, **{name: condition.get(name, values) & values for name, values in exception.items()}}
            for one in walk(shared):
                assert row.id not in ids(one)

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
    def test_nothing_known_fires_nothing(self, row: Row) -> None:
        assert row.id not in ids(Case())

    def test_dispositions_need_physiology_peritonitis_and_mechanism(self) -> None:
        for row in ROWS:
            if row.disposition is not None:
                for condition in row.any_of:
                    assert set(NEEDED_FOR_DISPOSITION) <= set(condition), row.id

    def test_no_inputs_give_two_dispositions(self) -> None:
        """Exact: walks what two conditions share, with all values of what the rows' exceptions name."""
        with_disposition = [(row, condition) for row, condition in CONDITIONS if row.disposition is not None]
        for (first, one), (second, other) in combinations(with_disposition, 2):
            if first.disposition != second.disposition:
                shared = {
                    name: frozenset(VALUES[name]) for row in (first, second) for part in row.unless for name in part
                }
                for condition in (one, other):
                    shared |= {name: shared.get(name, values) & values for name, values in condition.items()}
                both = [each for each in walk(shared) if applies(first, each) and applies(second, each)]
                assert not both, (first.id, second.id, both)

    def test_a_derived_status_never_leads_to_nonoperative_management(self) -> None:
        """Only unstable is ever derived."""
        for row, condition in CONDITIONS:
            if row.disposition == "nonoperative":
                assert condition["hemodynamic_status"] == {"stable"}, row.id

    def test_what_was_derived_is_told_as_derived(self) -> None:
        one = case(**UNSTABLE, fast="positive", derived=frozenset({"hemodynamic_status"}))
        (inputs,) = [fired.inputs for fired in fired_rows(one) if fired.row.id == "BAT-2"]
        assert inputs == (
            "hemodynamic_status=unstable (derived)",
            "peritonitis=absent",
            "mechanism=blunt",
            "fast=positive",
        )

    @pytest.mark.parametrize("unknown", NEEDED_FOR_DISPOSITION)
    @pytest.mark.parametrize("status", ["stable", "transient_responder", "unstable"])
    @pytest.mark.parametrize("mechanism", ["blunt", "penetrating"])
    def test_without_physiology_there_is_no_disposition(self, unknown: str, status: str, mechanism: str) -> None:
        injured = {"spleen": "high_grade", "kidneys": "high_grade", "liver": "low_grade"}
        known = {**UNSTABLE, "hemodynamic_status": status, "mechanism": mechanism, "fast": "positive", **injured}
        without = case(**{**known, unknown: "unknown"}, pelvic_fracture="present", pancreatic_injury="grade_i_ii")
        assert dispositions(without) == set()
        assert needed(without) == (unknown,)


def test_rows_of_blunt_guidelines_are_silent_in_penetrating_trauma() -> None:
    found = {"liver": "high_grade", "spleen": "high_grade", "kidneys": "low_grade", "bowel_and_mesentery": "present"}
    blunt = ("SPL-", "BAT-", "LIV-", "GU-", "PEL-5a", "BWL-1")
    for status in ("stable", "transient_responder", "unstable"):
        one = case(**{**UNSTABLE, "hemodynamic_status": status, "mechanism": "penetrating"}, **found, fast="positive")
        assert not [name for name in ids(one) if name.startswith(blunt)]
