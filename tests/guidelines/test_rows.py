"""The recommendation table: each row fires as its source says, none contradicts another, and unknown stays unknown."""

from dataclasses import replace
from itertools import combinations, product
from typing import Any, get_args, get_type_hints

import pytest

from trauma_api.guidelines.case import NEEDED_FOR_DISPOSITION, Case, needed
from trauma_api.guidelines.evaluate import fired_rows
from trauma_api.guidelines.rows import ROWS, Condition, Row

VALUES: dict[str, tuple[str, ...]] = {name: get_args(hint) for name, hint in get_type_hints(Case).items()}
CONDITIONS = [(row, condition) for row in ROWS for condition in row.any_of]


def case(**inputs: Any) -> Case:
    return replace(Case(), **inputs)


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
        assert row.source.url.startswith("http")
        assert row.source.citation
        assert "REBOA" not in row.statement
        assert " mL" not in row.statement

    @pytest.mark.parametrize(("row", "condition"), CONDITIONS)
    def test_each_condition_names_inputs_and_values_that_there_are(self, row: Row, condition: Condition) -> None:
        for name, values in condition.items():
            assert values <= set(VALUES[name]), (row.id, name)
            assert "unknown" not in values
            assert "not_assessed" not in values

    @pytest.mark.parametrize(("row", "condition"), CONDITIONS)
    def test_each_condition_fires_its_row_for_each_of_its_values(self, row: Row, condition: Condition) -> None:
        for values in product(*(sorted(values) for values in condition.values())):
            one = case(**dict(zip(condition, values, strict=True)))
            fired = next(fired for fired in fired_rows(one) if fired.row is row)
            assert {f"{name}={value}" for name, value in zip(condition, values, strict=True)} <= set(fired.inputs)

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
    def test_nothing_known_fires_nothing(self, row: Row) -> None:
        assert row.id not in ids(Case())

    def test_dispositions_need_physiology_peritonitis_and_mechanism(self) -> None:
        for row in ROWS:
            if row.disposition is not None:
                for condition in row.any_of:
                    assert set(NEEDED_FOR_DISPOSITION) <= set(condition), row.id

    def test_no_inputs_give_two_dispositions(self) -> None:
        """Exact: two conditions can hold together just where they share a value of every input that both name."""
        with_disposition = [(row, condition) for row, condition in CONDITIONS if row.disposition is not None]
        for (first, one), (second, other) in combinations(with_disposition, 2):
            if first.disposition != second.disposition:
                together = all(one[name] & other[name] for name in set(one) & set(other))
                assert not together, (first.id, second.id)


BLUNT_STABLE = {"hemodynamic_status": "stable", "peritonitis": "absent", "mechanism": "blunt"}
READ_CLEAN = {
    "liver": "none",
    "spleen": "none",
    "kidneys": "none",
    "bowel_and_mesentery": "absent",
    "active_extravasation": "absent",
    "hemoperitoneum": "none",
}


class TestWrittenCases:
    """What a surgeon would expect of the guidelines' texts, in order. The reasoning stands beside each."""

    @pytest.mark.parametrize(
        ("inputs", "expected"),
        [
            pytest.param(
                # nothing injured: EAST has no row, and CT alone never rules out the bowel
                {**BLUNT_STABLE, **READ_CLEAN},
                ["BWL-3"],
                id="stable, nothing found",
            ),
            pytest.param(
                # isolated low grade spleen: no routine laparotomy (SPL-2), in a place that can watch (SPL-6, SPL-7)
                {**BLUNT_STABLE, **READ_CLEAN, "spleen": "low_grade"},
                ["SPL-2", "SPL-6", "SPL-7", "BWL-3"],
                id="stable, low grade spleen",
            ),
            pytest.param(
                # grade above III and a blush ask for angiography (SPL-5), which a blush alone does not force (SPL-8);
                # a high grade is no contraindication (SPL-3)
                {
                    **BLUNT_STABLE,
                    **READ_CLEAN,
                    "spleen": "high_grade",
                    "active_extravasation": "present",
                    "hemoperitoneum": "moderate",
                },
                ["SPL-5", "SPL-8", "SPL-2", "SPL-3", "SPL-6", "SPL-7", "OIS-1", "BWL-3"],
                id="stable, high grade spleen with blush",
            ),
            pytest.param(
                # low grade without blush, but moderate hemoperitoneum is one of SPL-5's three
                {**BLUNT_STABLE, **READ_CLEAN, "spleen": "low_grade", "hemoperitoneum": "moderate"},
                ["SPL-5", "SPL-2", "SPL-6", "SPL-7", "BWL-3"],
                id="stable, low grade spleen, moderate hemoperitoneum",
            ),
            pytest.param(
                # not isolated any more: SPL-2 falls, SPL-3 says that the liver does not forbid a trial; LIV-0 covers it
                {**BLUNT_STABLE, **READ_CLEAN, "spleen": "low_grade", "liver": "low_grade"},
                ["SPL-3", "SPL-6", "SPL-7", "LIV-0", "BWL-3"],
                id="stable, liver and spleen",
            ),
            pytest.param(
                # bleeding without an organ injury: no organ's row may fire
                {**BLUNT_STABLE, **READ_CLEAN, "active_extravasation": "present", "hemoperitoneum": "large"},
                ["OIS-1", "BWL-3"],
                id="stable, extravasation without organ injury",
            ),
            pytest.param(
                # unstable: laparotomy whatever the CT shows (SPL-1), also by FAST (BAT-2), and blood (DCR)
                {
                    **BLUNT_STABLE,
                    **READ_CLEAN,
                    "hemodynamic_status": "unstable",
                    "fast": "positive",
                    "spleen": "high_grade",
                    "hemoperitoneum": "large",
                },
                ["SPL-1", "BAT-2", "DCR-2", "DCR-4", "BWL-3"],
                id="unstable, FAST positive",
            ),
            pytest.param(
                # physiology first: peritonitis operates on a stable patient with a clean CT
                {**BLUNT_STABLE, **READ_CLEAN, "peritonitis": "present"},
                ["SPL-1", "BWL-3"],
                id="peritonitis, nothing found",
            ),
            pytest.param(
                # suspected bowel injury stops the nonoperative rows of the liver and asks for the signs
                {**BLUNT_STABLE, **READ_CLEAN, "bowel_and_mesentery": "present", "liver": "high_grade"},
                ["BWL-1", "BWL-2"],
                id="stable, bowel injury suspected",
            ),
            pytest.param(
                # kidney: no intervention (REN-1), delayed phase (REN-3), repeat CT for IV and V (REN-4)
                {**BLUNT_STABLE, **READ_CLEAN, "kidneys": "high_grade"},
                ["REN-1", "REN-3", "REN-4", "BWL-3"],
                id="stable, high grade kidney",
            ),
            pytest.param(
                # AUA: transient response is operation or embolization
                {**BLUNT_STABLE, **READ_CLEAN, "hemodynamic_status": "transient_responder", "kidneys": "high_grade"},
                ["REN-2", "BWL-3"],
                id="transient responder, high grade kidney",
            ),
            pytest.param(
                # older, otherwise as the low grade spleen: age is no contraindication
                {**BLUNT_STABLE, **READ_CLEAN, "spleen": "low_grade", "older_than_55": "yes"},
                ["SPL-2", "SPL-3", "SPL-6", "SPL-7", "BWL-3"],
                id="stable, low grade spleen, older than 55",
            ),
        ],
    )
    def test_rows_in_order(self, inputs: dict[str, str], expected: list[str]) -> None:
        assert ids(case(**inputs)) == expected

    @pytest.mark.parametrize("unknown", NEEDED_FOR_DISPOSITION)
    @pytest.mark.parametrize("status", ["stable", "transient_responder", "unstable"])
    def test_without_physiology_there_is_no_disposition(self, unknown: str, status: str) -> None:
        injured = {**READ_CLEAN, "spleen": "high_grade", "kidneys": "high_grade", "active_extravasation": "present"}
        known = {**BLUNT_STABLE, "hemodynamic_status": status, "fast": "positive", **injured}
        assert dispositions(case(**known))
        without = case(**{**known, unknown: "unknown"})
        assert dispositions(without) == set()
        assert needed(without) == (unknown,)

    def test_penetrating_trauma_gets_no_row_of_a_blunt_guideline(self) -> None:
        one = case(**{**BLUNT_STABLE, **READ_CLEAN, "mechanism": "penetrating", "spleen": "high_grade"})
        assert ids(one) == ["BWL-3"]
