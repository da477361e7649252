"""Tests, effects and ranks against published examples, scipy and simulation."""

import numpy as np
import pytest
from scipy import stats

from nas_optuna.report import significance
from nas_optuna.report.significance import (
    compare_pairs,
    critical_difference,
    holm,
    rank,
    seeds_needed,
    superiority,
    wilcoxon,
)

# Demšar 2006, table 6: AUC of four classifiers on 14 data sets. The two equal places of `voting`
# are as the printed ranks have them.
DEMSAR = {
    "C4.5": [.763, .599, .954, .628, .882, .936, .661, .583, .775, 1, .940, .619, .972, .957],
    "C4.5+m": [.768, .591, .971, .661, .888, .931, .668, .583, .838, 1, .962, .666, .981, .978],
    "C4.5+cf": [.771, .590, .968, .654, .886, .916, .609, .563, .866, 1, .965, .614, .9751, .946],
    "C4.5+m+cf": [.798, .569, .967, .657, .898, .931, .685, .625, .875, 1, .962, .669, .975, .970],
}  # fmt: skip


def test_mean_ranks_and_critical_difference_as_published():
    ranking = rank(DEMSAR)
    assert list(ranking.ranks) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert list(ranking.ranks.values()) == pytest.approx([1.964, 2.0, 2.893, 3.143], abs=5e-4)
    assert ranking.critical == pytest.approx(1.25, abs=0.005)
    squares = sum(mean**2 for mean in ranking.ranks.values())
    assert 12 * 14 / 20 * (squares - 25) == pytest.approx(9.28, abs=0.005)  # his chi-square
    assert ranking.p_value < stats.chi2.sf(9.28, 3)  # ours is corrected for ties
    # No two of these are a critical difference apart at 0.05.
    assert ranking.cliques == [tuple(ranking.ranks)]


@pytest.mark.parametrize(
    ("samplers", "quantile"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)]
)
def test_quantiles_of_nemenyi_as_published(samplers, quantile):
    # Demšar 2006, table 5 (a), for the level 0.05
    unit = np.sqrt(samplers * (samplers + 1) / (6 * 10))
    assert critical_difference(samplers, 10) / unit == pytest.approx(quantile, abs=1e-3)


def test_cliques_are_the_largest_groups():
    ranking = significance.Ranking({"a": 1.0, "b": 1.8, "c": 2.6, "d": 5.0}, 0.01, critical=1.0)
    assert ranking.cliques == [("a", "b"), ("b", "c")]


def test_wilcoxon_as_scipy_and_as_published():
    differences = np.array(DEMSAR["C4.5+m"]) - np.array(DEMSAR["C4.5"])
    # Demšar 2006, section 3.1.3: significant at 0.05 with 14 data sets
    assert wilcoxon(differences) < 0.05
    rng = np.random.default_rng(0)
    column = rng.normal(0.4, 1.0, 20)
    assert wilcoxon(column) == stats.wilcoxon(column).pvalue


def test_few_pairs_are_tested_exactly_with_zeros_too():
    # The normal approximation would say 0.043 of the second: five of one sign decide nothing.
    assert wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 2**5)
    assert wilcoxon([0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 2**5)
    assert wilcoxon([1.0, 1.0, 1.0, 1.0, 1.0]) == pytest.approx(2 / 2**5)
    assert wilcoxon([0.0, 0.0]) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.9, 0.001]) == pytest.approx([0.9, 0.002])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_superiority_is_the_share_of_the_u_statistic():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 12).astype(float), rng.integers(1, 6, 9).astype(float)
    u = stats.mannwhitneyu(a, b).statistic
    assert superiority(a, b) == pytest.approx(u / (12 * 9))
    assert superiority(b, a) == pytest.approx(1 - u / (12 * 9))


def test_as_many_seeds_as_asked_for_decide_in_four_of_five_cases():
    rng = np.random.default_rng(0)
    needed = seeds_needed(rng.normal(0.6, 1.0, 4000))
    # A t-test needs 24 for this effect, Wilcoxon's some 5 % more; the formula is on the safe side.
    assert 25 <= needed <= 32
    found = [wilcoxon(rng.normal(0.6, 1.0, needed)) < 0.05 for _ in range(400)]
    assert 0.77 <= np.mean(found) <= 0.93  # the standard error is 0.02


def test_no_number_of_seeds_shows_what_is_not_there():
    assert seeds_needed([1.0, -1.0, 2.0, -2.0]) is None
    assert seeds_needed([0.0, 0.0]) is None
    assert seeds_needed([-1.0, -2.0, 0.5]) is None  # the other one is better


def test_two_seeds_that_agree_are_not_enough_for_a_test():
    assert seeds_needed([1.0, 1.0]) >= 6  # below six no two-sided test reaches 0.05
    assert seeds_needed([1.0, 1.0], alpha=0.05 / 6) >= 8


def test_pairs_are_corrected_for_their_number():
    rng = np.random.default_rng(1)
    scores = {name: rng.normal(mean, 0.1, 8) for name, mean in zip("abc", (0, 0, 5), strict=True)}
    pairs = {(p.first, p.second): p for p in compare_pairs(scores)}
    assert {p[0] for p in pairs if "c" in p} == {"c"}
    assert pairs["c", "a"].p_value == pytest.approx(3 * 2 / 2**8)
    assert pairs["c", "a"].decided
    assert pairs["c", "a"].effect == 1.0
    assert pairs["c", "b"].difference == pytest.approx(5.0, abs=0.3)
    assert sum(p.decided for p in pairs.values()) == 2


def test_a_pair_counts_only_for_the_one_that_mean_and_ranks_agree_on():
    # b is better in eleven of twelve seeds and failed in one, which costs it the mean.
    b = 0.9 + 0.01 * np.random.default_rng(0).random(12)
    a = b - np.linspace(0.02, 0.025, 12)
    b[0], a[0] = 0.0, 0.88
    (pair,) = compare_pairs({"a": a, "b": b})
    assert (pair.first, pair.agrees, pair.decided, pair.seeds) == ("a", False, False, None)
    assert pair.p_value == wilcoxon(a - b) < 0.05  # which is of b, not of a
    (other,) = compare_pairs({"a": a[1:], "b": b[1:]})
    assert (other.first, other.agrees, other.decided) == ("b", True, True)


def test_equal_samplers_share_their_rank():
    ranking = rank({"a": [1.0, 2.0], "b": [1.0, 2.0], "c": [1.0, 2.0]})
    assert list(ranking.ranks.values()) == [2.0, 2.0, 2.0]
    assert np.isnan(ranking.p_value)
