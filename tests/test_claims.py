"""The audit of claims: hypotheses and corrections against known answers, verdicts, the plot."""

import math

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from ae_lab.core.errors import UserError
from ae_lab.core.intervals import mean_interval
from ae_lab.reporting import claims, forest_plot
from ae_lab.reporting.claims import FAILS, HOLDS, INCONCLUSIVE, NOT_RUN, holm
from ae_lab.reporting.hypotheses import Difference, Effect
from tests.conftest import REPOSITORY
from tests.saved_runs import saved_runs

# Of the results in experiments/results; a change of these numbers is a finding, not a repair.
VERDICTS = [
    *(HOLDS, INCONCLUSIVE, HOLDS, FAILS, HOLDS, HOLDS, INCONCLUSIVE, HOLDS, HOLDS, FAILS),
    *(FAILS, HOLDS, HOLDS, HOLDS, INCONCLUSIVE, HOLDS, FAILS, INCONCLUSIVE, FAILS),
    *(INCONCLUSIVE, INCONCLUSIVE, INCONCLUSIVE),
]
ON_M = {"experiment": "s", "metric": "m"}


@pytest.fixture(scope="module")
def verdicts():
    return claims.audit(claims.collect_runs(None))


def test_holm_rejects_as_the_textbook_does():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.01, 0.02, 0.02]) == [True, True, True]
    assert holm([0.2, 0.0001]) == [False, True]
    assert holm([]) == []


def test_a_difference_is_students_test_on_the_paired_ratio_of_each_seed():
    runs = saved_runs(({"a": 1}, [1.0, 1.2, 1.1]), ({"a": 2}, [1.3, 1.5, 1.6]))
    one = Difference(**ON_M, direction="below", threshold=0.95, of={"a": 1}, against={"a": 2})
    logs = np.log([1 / 1.3, 1.2 / 1.5, 1.1 / 1.6])
    below = ttest_1samp(logs, math.log(0.95), alternative="less").pvalue
    assert one.p_values(one.values(runs)) == pytest.approx((below, 1 - below))
    low, high = ttest_1samp(logs, 0).confidence_interval()
    middle, half = mean_interval(list(logs))
    assert (middle - half, middle + half) == pytest.approx((low, high))
    estimate = math.exp(logs.mean()), math.exp(low), math.exp(high)
    assert one.estimate(one.values(runs)) == pytest.approx(estimate)


def test_a_hypothesis_says_in_words_what_it_compares():
    settings = {"of": {"preset": "model_2", "noise": "speckle"}}
    settings |= {"against": {"preset": "model_1", "noise": "speckle"}}
    on_mse = {"experiment": "s", "metric": "test/mse", "direction": "below", "threshold": 1}
    one = Difference(**on_mse, **settings)
    assert one.subject == "test MSE of model 2 over model 1 (speckle)"
    runs = saved_runs(
        (settings["of"], [1.0, 1.1]), (settings["against"], [2.0, 2.1]), metric="test/mse"
    )
    text = claims.Evidence(one, one.values(runs)).text
    assert text.startswith("test MSE of model 2 over model 1 (speckle): 0.512 [0.")
    assert "], claimed below 1 (n = 2, p = 0.0" in text
    assert "s not run" in claims.Evidence(one, []).text
    two = Difference(**on_mse, ratio=False, of={"latent": [2, 5]}, against={"latent": [32, 64]})
    assert two.subject == "test MSE of latent 2 and 5 minus latent 32 and 64"
    assert Difference(**on_mse, of={"preset": "model_2"}).subject == "test MSE of model 2"
    effect = Effect(**on_mse, of="latent", against="depth")
    assert effect.subject == "effect of latent on test MSE over that of depth"
    assert Effect(**on_mse, of="a", against="b", about="in other words").subject == "in other words"


def test_verdicts_follow_planted_effects(tmp_path):
    near = [1.0, 1.001, 0.999, 1.0005, 0.9995]
    runs = saved_runs(
        ({"a": 1}, near), ({"a": 2}, [2 * x for x in near]), ({"a": 3}, [0.5, 1.9, 1.0, 0.7, 1.6])
    )

    def entry(direction: str, of: int, against: int) -> str:
        return (
            "- claim: c\n  hypotheses:\n    - {_target_: ae_lab.reporting.Difference, "
            f"experiment: s, metric: m, direction: {direction}, threshold: 1, of: {{a: {of}}}, "
            f"against: {{a: {against}}}}}\n"
        )

    def outcomes(text: str, runs_of: dict) -> list[str]:
        file = tmp_path / "claims.yaml"
        file.write_text(text)
        return [one.outcome for one in claims.audit(runs_of, file)]

    three = entry("below", 1, 2) + entry("above", 1, 2) + entry("above", 1, 3)
    assert outcomes(three, {"s": runs}) == [HOLDS, FAILS, INCONCLUSIVE]
    both = entry("below", 1, 2) + entry("below", 1, 3).partition("hypotheses:\n")[2]
    assert outcomes(both, {"s": runs}) == [INCONCLUSIVE]  # one holds, one is open
    third = entry("above", 1, 2).partition("hypotheses:\n")[2]
    assert outcomes(both + third, {"s": runs}) == [FAILS]
    single = [run for run in runs if run.settings["seed"] == 0]
    assert outcomes(entry("below", 1, 2) * 3, {"s": single}) == [INCONCLUSIVE] * 3
    assert outcomes(entry("below", 1, 2) * 3, {}) == [NOT_RUN] * 3
    with pytest.raises(UserError, match=r"direction=beneath.*did you mean|choose from"):
        outcomes(entry("beneath", 1, 2), {"s": runs})


def test_incomplete_seeds_and_groups_that_few_seeds_have_are_left_out():
    complete = [({"a": a}, [a + 0.1, a + 0.2, a + 0.3]) for a in (1, 2)]
    values = Difference(**ON_M, direction="above", threshold=1, ratio=False, of={}).values
    assert values(saved_runs(*complete)) == pytest.approx([1.6, 1.7, 1.8])
    assert values(saved_runs(*complete, ({"a": 3}, [9.0]))) == pytest.approx([1.6, 1.7, 1.8])
    assert values(saved_runs(complete[0], ({"a": 2}, [2.1, 2.2]))) == pytest.approx([1.6, 1.7])


def test_an_interrupted_sweep_counts_its_complete_seeds_alone():
    near = [1.0, 1.01, 0.99]
    complete = saved_runs(
        ({"a": 1, "b": 1}, near), ({"a": 1, "b": 2}, near), ({"a": 2, "b": 1}, near)
    )
    one = Difference(**ON_M, direction="below", threshold=1, of={"a": 1}, against={"a": 2})
    assert one.values(complete) == []
    more = saved_runs(({"a": 2, "b": 2}, near[:2]))
    assert one.values(complete + more) == pytest.approx([0, 0])
    more = saved_runs(({"a": 2, "b": 2}, near))
    assert one.p_values(one.values(complete + more)) == (1, 1)
    with pytest.raises(UserError, match="ratio: false"):
        one.values(saved_runs(({"a": 1}, [0.0])))


def test_equal_numbers_say_no_more_than_their_resolution():
    below = {"experiment": "s", "metric": "m", "direction": "below", "threshold": 0, "of": {}}
    assert Difference(**below).p_values([-3.0]) == (1, 1)
    assert Difference(**below, ratio=False).p_values([-3.0] * 3) == (1, 1)
    t = 3 / math.sqrt(1 / 12 / 3)
    p_values = Difference(**below, ratio=False, resolution=1).p_values([-3.0] * 3)
    assert p_values == pytest.approx((student.sf(t, 2), student.cdf(t, 2)))


def test_an_effect_is_the_spread_of_a_factors_levels_over_anothers():
    groups = [
        ({"depth": depth, "latent": latent}, [scale * base, 1.1 * scale * base])
        for depth, scale in ((2, 1.0), (3, 0.9))
        for latent, base in ((2, 4.0), (32, 1.0))
    ]
    one = Effect(**ON_M, direction="above", threshold=1, of="latent", against="depth")
    expected = [(math.log(4) + math.log(0.9)) / math.sqrt(2)] * 2
    assert one.values(saved_runs(*groups)) == pytest.approx(expected)


def test_the_verdicts_on_saved_results_are_what_they_were(verdicts):
    assert [one.outcome for one in verdicts] == VERDICTS
    first = verdicts[0].evidence[0].text
    assert first.endswith("0.93 [0.91, 0.95], claimed below 1 (n = 5, p = 0.00036)")


def test_the_experiments_readme_has_the_verdicts_on_saved_results(verdicts):
    computed = claims.verdict_table(verdicts).markdown()
    assert computed in (REPOSITORY / "experiments" / "README.md").read_text()


def test_the_forest_plot_has_a_row_for_each_hypothesis(verdicts, tmp_path):
    file = forest_plot.save_forest(verdicts, tmp_path / "forest.svg")
    rows = [label for axes in _panels(verdicts) for label in axes.get_yticklabels()]
    assert len(rows) == sum(len(one.evidence) for one in verdicts)
    assert "claimed below 1" in file.read_text()
    for axes in _panels(verdicts):
        assert axes.get_xscale() == ("log" if "ratio" in axes.get_xlabel() else "linear")
    runs = claims.collect_runs(None)
    part = claims.audit({"grid": runs["grid"]})  # of the second claim, two hypotheses of three
    assert part[1].outcome == NOT_RUN
    assert len(forest_plot.draw_forest(part).get_axes()) == 1
    assert forest_plot.draw_forest(claims.audit({})) is None
    with pytest.raises(UserError, match=r"must end in \.png, \.svg or \.pdf"):
        forest_plot.check_format(tmp_path / "forest.table")


def _panels(verdicts):
    return forest_plot.draw_forest(verdicts).get_axes()


def test_the_command_prints_the_verdicts_and_draws_them(command, tmp_path):
    done = command("claims")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("does not hold") == VERDICTS.count(FAILS)
    assert command("claims", "--plot", "forest.png").returncode == 0
    assert (tmp_path / "forest.png").stat().st_size > 10_000
    refused = command("claims", "--outputs", "nowhere")
    assert refused.returncode == 2
    assert "there is no folder nowhere" in refused.stderr
