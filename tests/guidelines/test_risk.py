"""The project's risk convention at its boundaries."""

import pytest

from trauma_api.guidelines.risk import RISK_CONVENTION, risk_level


class TestRiskLevel:
    @pytest.mark.parametrize(
        ("volume_ml", "level"),
        [
            (0.0, "LOW"),
            (4.9, "LOW"),
            (5.0, "MODERATE"),  # "below 5 mL" is LOW, so 5 is not
            (500.0, "MODERATE"),  # "above 500 mL" is HIGH, so 500 is not
            (500.1, "HIGH"),
            (5000.0, "HIGH"),
        ],
    )
    def test_boundaries(self, volume_ml: float, level: str) -> None:
        assert risk_level(volume_ml) == level

    def test_a_negative_volume_is_refused(self) -> None:
        with pytest.raises(ValueError, match="negative"):
            risk_level(-0.1)

    def test_it_says_that_it_is_a_convention(self) -> None:
        assert "no guideline" in RISK_CONVENTION
