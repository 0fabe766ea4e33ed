"""Figures of merit against values computed by hand, published ones, and plain counting of resampled rows."""

import numpy as np
import pytest

from trauma_api.evaluation import metrics
from trauma_api.evaluation.bootstrap import estimate, resample_counts
from trauma_api.evaluation.metrics import Floats

ONE = np.ones((1, 6))

# Shrout and Fleiss 1979, table 2: six targets, four judges. Their ICC(2,1) is 0.29.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=np.float64
)


def ones(rows: int) -> Floats:
    """Each row once."""
    return np.ones((1, rows))


def repeated(rows: np.ndarray, counts: Floats) -> np.ndarray:
    """The rows of one resample, each as often as it was drawn."""
    return np.repeat(rows, counts.astype(int), axis=0)


class TestAuroc:
    def test_by_hand_with_a_tie(self) -> None:
        # Pairs of positive and negative: 0.9 beats both; 0.5 beats 0.1 and ties with 0.5: 3.5 of 4.
        scores = np.array([0.9, 0.5, 0.5, 0.1])
        truth = np.array([True, True, False, False])
        assert metrics.auroc(scores, truth, np.arange(4), ones(4))[0] == 0.875

    def test_groups_count_all_pairs_of_their_items(self) -> None:
        scores = np.array([0.9, 0.2, 0.4, 0.3])
        truth = np.array([True, False, True, False])
        owners = np.array([0, 0, 1, 1])
        assert metrics.auroc(scores, truth, owners, ones(2))[0] == 1.0
        # The first group three times, the second not at all.
        assert metrics.auroc(scores, truth, owners, np.array([[3.0, 0.0]]))[0] == 1.0

    def test_a_resample_is_as_if_its_items_were_there_that_often(self) -> None:
        random = np.random.default_rng(1)
        scores, truth = random.integers(0, 6, 60) / 5, random.random(60) < 0.4
        owners = random.integers(0, 9, 60)
        counts = resample_counts(9, 5)
        found = metrics.auroc(scores, truth, owners, counts)
        for resample, value in zip(counts, found, strict=True):
            often = resample[owners]
            all_scores, all_truth = repeated(scores, often), repeated(truth, often)
            above = all_scores[all_truth][:, None] - all_scores[~all_truth][None]
            assert value == pytest.approx(np.mean((above > 0) + (above == 0) / 2))

    def test_without_both_classes_there_is_none(self) -> None:
        truth = np.array([True, True])
        assert np.isnan(metrics.auroc(np.array([0.1, 0.2]), truth, np.arange(2), ones(2))[0])


class TestDecisions:
    truth = np.array([True, True, True, False, False, False])
    called = np.array([True, True, False, False, True, False])

    def test_sensitivity_and_specificity(self) -> None:
        assert metrics.sensitivity(self.truth, self.called, ONE)[0] == pytest.approx(2 / 3)
        assert metrics.specificity(self.truth, self.called, ONE)[0] == pytest.approx(2 / 3)
        none_left = np.array([[1.0, 0, 0, 0, 0, 0]])
        assert np.isnan(metrics.specificity(self.truth, self.called, none_left)[0])

    @pytest.mark.parametrize(("wanted", "expected"), [(1.0, 1 / 3), (0.6, 2 / 3), (0.3, 2 / 3), (0.0, 1.0)])
    def test_sensitivity_at_a_specificity(self, wanted: float, expected: float) -> None:
        scores = np.array([0.9, 0.6, 0.1, 0.7, 0.3, 0.2])
        found = metrics.sensitivity_at_specificity(scores, self.truth, wanted, ONE)[0]
        assert found == pytest.approx(expected)

    def test_a_threshold_takes_equal_scores_together(self) -> None:
        scores = np.array([0.5, 0.5, 0.5, 0.5, 0.1, 0.1])
        assert metrics.sensitivity_at_specificity(scores, self.truth, 0.9, ONE)[0] == 0.0
        assert metrics.sensitivity_at_specificity(scores, self.truth, 0.6, ONE)[0] == 1.0

    def test_macro_f1_by_hand(self) -> None:
        truth, called = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 2, 2, 2])
        # F1: 1; 2 * 1 / (1 + 2); 2 * 2 / (3 + 2).
        assert metrics.macro_f1(truth, called, 3, ONE)[0] == pytest.approx((1 + 2 / 3 + 4 / 5) / 3)
        assert metrics.confusion(truth, called, 3, ONE)[0].tolist() == [[2, 0, 0], [0, 1, 1], [0, 0, 2]]

    def test_macro_f1_leaves_out_a_class_that_never_appears(self) -> None:
        only_first = np.array([0, 0])
        assert metrics.macro_f1(only_first, only_first, 3, ones(2))[0] == 1.0


class TestAgreement:
    def test_icc_of_shrout_and_fleiss(self) -> None:
        assert metrics.icc_2_1(SHROUT_FLEISS, ONE)[0] == pytest.approx(0.29, abs=0.005)

    def test_icc_of_a_resample_is_of_its_repeated_rows(self) -> None:
        counts = np.array([[2.0, 1, 0, 1, 1, 1]])
        rows = repeated(SHROUT_FLEISS, counts[0])
        assert metrics.icc_2_1(SHROUT_FLEISS, counts)[0] == pytest.approx(metrics.icc_2_1(rows, ones(6))[0])

    def test_identical_ratings_agree_and_a_constant_offset_costs(self) -> None:
        values = np.arange(6.0)
        assert metrics.icc_2_1(np.stack([values, values], axis=1), ONE)[0] == pytest.approx(1)
        assert metrics.icc_2_1(np.stack([values, values + 2], axis=1), ONE)[0] < 0.7

    def test_bias_and_limits(self) -> None:
        differences = np.array([1.0, 2.0, 3.0])
        low, high = metrics.limits_of_agreement(differences, ones(3))
        assert (low[0], high[0]) == pytest.approx((2 - 1.96, 2 + 1.96))
        assert metrics.bias_percent(np.array([10.0, 30.0]), np.array([12.0, 32.0]), ones(2))[0] == pytest.approx(10)

    @pytest.mark.parametrize("share", [0.5, 0.9])
    def test_quantiles_are_those_of_the_repeated_values(self, share: float) -> None:
        values = np.random.default_rng(2).normal(size=11)
        counts = resample_counts(11, 20)
        found = metrics.quantile(values, share, counts)
        expected = [np.quantile(repeated(values, row), share, method="averaged_inverted_cdf") for row in counts]
        np.testing.assert_allclose(found, expected)
        assert metrics.quantile(values, 0.5, ones(11))[0] == np.median(values)


class TestCalibration:
    def test_brier(self) -> None:
        truth = np.array([True, False])
        assert metrics.brier(np.array([0.8, 0.4]), truth, ones(2))[0] == pytest.approx((0.04 + 0.16) / 2)

    def test_calibration_error_by_hand(self) -> None:
        # Bin 0.8 to 0.9: said 0.85 on average, seen 1/2; bin 0.1 to 0.2: said 0.1, seen 0. Weights 2/3 and 1/3.
        probabilities, truth = np.array([0.84, 0.86, 0.1]), np.array([True, False, False])
        found = metrics.calibration_error(probabilities, truth, ones(3))[0]
        assert found == pytest.approx(2 / 3 * 0.35 + 1 / 3 * 0.1)

    def test_certainty_lies_in_the_last_bin(self) -> None:
        assert metrics.bin_of(np.array([0.0, 0.0999, 0.1, 0.9999, 1.0]), 10).tolist() == [0, 0, 1, 9, 9]


class TestBootstrap:
    def test_resamples_are_as_large_as_the_cohort_and_always_the_same(self) -> None:
        counts = resample_counts(7)
        assert counts.shape == (1000, 7)
        assert set(counts.sum(axis=1)) == {7}
        np.testing.assert_array_equal(counts, resample_counts(7))

    def test_the_interval_of_a_mean_has_the_width_that_theory_says(self) -> None:
        values = np.random.default_rng(3).normal(10, 2, 400)
        found = estimate(lambda counts: metrics.mean(values, counts), resample_counts(400))
        assert found.value == pytest.approx(values.mean())
        assert found.low is not None
        assert found.high is not None
        assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / 400**0.5, rel=0.1)

    def test_slices_of_one_patient_are_drawn_together(self) -> None:
        """A hundred equal slices of two patients are no more than two patients."""
        owners = np.repeat([0, 1], 50)
        values = np.repeat([0.0, 1.0], 50)
        found = estimate(lambda counts: metrics.mean(values, counts[:, owners]), resample_counts(2))
        assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)

    def test_nothing_known_is_none(self) -> None:
        found = estimate(lambda counts: metrics.mean(np.zeros(0), counts), resample_counts(0))
        assert (found.value, found.low, found.high) == (None, None, None)
