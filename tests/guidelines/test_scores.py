"""Scores at the borders of their published classes, and what they do without an input."""

import pytest

from trauma_api.guidelines.scores import Score, abc_score, base_deficit_class, shock_index


def told(score: Score | None) -> Score:
    assert score is not None
    return score


class TestShockIndex:
    @pytest.mark.parametrize(
        ("heart_rate_bpm", "systolic_mmhg", "meaning"),
        [
            (59, 100, "no shock"),
            (60, 100, "mild"),
            (99, 100, "mild"),
            (100, 100, "moderate"),
            (139, 100, "moderate"),
            (140, 100, "severe"),
        ],
    )
    def test_classes(self, heart_rate_bpm: float, systolic_mmhg: float, meaning: str) -> None:
        score = told(shock_index(heart_rate_bpm, systolic_mmhg))
        assert score.low == score.high == pytest.approx(heart_rate_bpm / systolic_mmhg)
        assert score.meaning.startswith(meaning)

    @pytest.mark.parametrize("vitals", [(None, 100.0), (100.0, None), (100.0, 0.0)])
    def test_nothing_is_assumed(self, vitals: tuple[float | None, float | None]) -> None:
        assert shock_index(*vitals) is None


@pytest.mark.parametrize(
    ("base_deficit_mmol_l", "meaning"),
    [(-3, "class I"), (2, "class I"), (2.1, "class II"), (6, "class II"), (6.1, "class III"), (10.1, "class IV")],
)
def test_base_deficit_classes(base_deficit_mmol_l: float, meaning: str) -> None:
    assert told(base_deficit_class(base_deficit_mmol_l)).meaning == meaning


def test_no_base_deficit_no_class() -> None:
    assert base_deficit_class(None) is None


class TestAbcScore:
    def test_all_four_points(self) -> None:
        score = told(abc_score("penetrating", "positive", 90, 120))
        assert (score.low, score.high, score.missing) == (4, 4, ())
        assert score.meaning.startswith("2 or more")

    def test_borders_of_pressure_and_heart_rate(self) -> None:
        score = told(abc_score("blunt", "negative", 90.1, 119.9))
        assert (score.low, score.high) == (0, 0)
        assert score.meaning.startswith("below 2")

    def test_missing_inputs_make_it_a_range(self) -> None:
        score = told(abc_score("blunt", "unknown", 85, None))
        assert (score.low, score.high) == (1, 3)
        assert score.missing == ("fast", "heart_rate_bpm")
        assert score.meaning.startswith("not decided")

    def test_enough_is_known_also_with_one_missing(self) -> None:
        assert told(abc_score("penetrating", "positive", None, 100)).meaning.startswith("2 or more")

    def test_an_indeterminate_fast_is_not_negative(self) -> None:
        assert told(abc_score("blunt", "indeterminate", 120, 80)).missing == ("fast",)

    def test_nothing_known_no_score(self) -> None:
        assert abc_score("unknown", "unknown", None, None) is None
