"""Studies, what is kept of them, the audit of claims, the page: numbers against known answers."""

import math
import re

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from ae_lab.core import configuration
from ae_lab.core.errors import UserError
from ae_lab.evaluation import run_metrics as measures
from ae_lab.reporting import claims
from ae_lab.reporting import experiments as study
from ae_lab.reporting import tables as sheets
from ae_lab.reporting.claims import HOLDS, MISSING, NOT, OPEN, Difference, Effect, holm
from ae_lab.reporting.experiments import RESULTS
from ae_lab.reporting.statistics import interval
from ae_lab.tracking import saved_results as results
from ae_lab.tracking.labels import labels
from ae_lab.tracking.saved_results import Recorded
from tests.conftest import REPOSITORY

TINY = ["data=mnist5k", "data.limit=200", "trainer.enable_progress_bar=false"]


def rows(*groups: tuple[dict, list[float]]) -> list[Recorded]:
    """Runs of which nothing is known but settings and one metric, `m`, a seed for each value."""
    made = []
    for settings, values in groups:
        for seed, value in enumerate(values):
            row = {"run": "r", "data": "d", "kind": str(settings), "m": str(value)}
            words = {f"set.{k}": str(v) for k, v in (settings | {"seed": seed}).items()}
            made.append(Recorded(row | words, []))
    return made


def history(values: list[float]) -> Recorded:
    lines = [{"epoch": float(e), "val/mse": value} for e, value in enumerate(values)]
    return Recorded({"run": "r", "data": "d", "kind": "k"}, lines)


def test_holm_rejects_as_the_textbook_does():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.01, 0.02, 0.02]) == [True, True, True]
    assert holm([0.2, 0.0001]) == [False, True]
    assert holm([]) == []


def test_a_test_is_students_on_the_paired_ratio_of_each_seed():
    runs = rows(({"a": 1}, [1.0, 1.2, 1.1]), ({"a": 2}, [1.3, 1.5, 1.6]))
    asked = {"study": "s", "value": "m", "claimed": "below", "than": 0.95}
    test = Difference(**asked, of={"a": 1}, against={"a": 2})
    logs = np.log([1 / 1.3, 1.2 / 1.5, 1.1 / 1.6])
    below = ttest_1samp(logs, math.log(0.95), alternative="less").pvalue
    assert test.p(test.numbers(runs)) == pytest.approx((below, 1 - below))
    assert f"{math.exp(logs.mean()):.3g} [" in test.evidence(test.numbers(runs))
    low, high = ttest_1samp(logs, 0).confidence_interval()
    middle, half = interval(list(logs))
    assert (middle - half, middle + half) == pytest.approx((low, high))


def test_verdicts_follow_planted_effects(tmp_path):
    near = [1.0, 1.001, 0.999, 1.0005, 0.9995]
    runs = rows(
        ({"a": 1}, near), ({"a": 2}, [2 * x for x in near]), ({"a": 3}, [0.5, 1.9, 1.0, 0.7, 1.6])
    )

    def entry(claimed: str, of: int, against: int) -> str:
        return (
            "- claim: c\n  tests:\n    - {_target_: ae_lab.reporting.claims.Difference, study: s, value: m, "
            f"claimed: {claimed}, than: 1, of: {{a: {of}}}, against: {{a: {against}}}}}\n"
        )

    file = tmp_path / "claims.yaml"
    file.write_text(entry("below", 1, 2) + entry("above", 1, 2) + entry("above", 1, 3))
    assert [one.verdict for one in claims.audit({"s": runs}, file)] == [HOLDS, NOT, OPEN]
    both = entry("below", 1, 2) + entry("below", 1, 3).partition("tests:\n")[2]
    file.write_text(both)  # one test that holds and one that is open: the claim is
    assert [one.verdict for one in claims.audit({"s": runs}, file)] == [OPEN]
    file.write_text(both + entry("above", 1, 2).partition("tests:\n")[2])
    assert [one.verdict for one in claims.audit({"s": runs}, file)] == [NOT]
    file.write_text(entry("below", 1, 2) * 3)
    single = [run for run in runs if run.settings["seed"] == 0]
    assert [one.verdict for one in claims.audit({"s": single}, file)] == [OPEN] * 3
    assert [one.verdict for one in claims.audit({}, file)] == [MISSING] * 3


def test_seeds_in_part_and_kinds_that_few_seeds_have_are_left_out():
    whole = [({"a": a}, [a + 0.1, a + 0.2, a + 0.3]) for a in (1, 2)]
    numbers = Difference("s", "m", "above", 1, ratio=False, of={}).numbers
    assert numbers(rows(*whole)) == pytest.approx([1.6, 1.7, 1.8])
    assert numbers(rows(*whole, ({"a": 3}, [9.0]))) == pytest.approx([1.6, 1.7, 1.8])
    assert numbers(rows(whole[0], ({"a": 2}, [2.1, 2.2]))) == pytest.approx([1.6, 1.7])


def test_numbers_all_alike_say_no_more_than_their_resolution():
    assert Difference("s", "m", "below", 0, of={}).p([-3.0] * 3) == (1, 1)
    below, above = Difference("s", "m", "below", 0, ratio=False, resolution=1, of={}).p([-3.0] * 3)
    t = 3 / math.sqrt(1 / 12 / 3)
    assert (below, above) == pytest.approx((student.sf(t, 2), student.cdf(t, 2)))


def test_an_effect_is_the_reach_of_a_factors_levels_over_anothers():
    groups = [
        ({"depth": depth, "latent": latent}, [scale * base, 1.1 * scale * base])
        for depth, scale in ((2, 1.0), (3, 0.9))
        for latent, base in ((2, 4.0), (32, 1.0))
    ]
    asked = {"study": "s", "value": "m", "claimed": "above", "than": 1}
    found = Effect(**asked, of="latent", against="depth").numbers(rows(*groups))
    assert found == pytest.approx([(math.log(4) + math.log(0.9)) / math.sqrt(2)] * 2)


def test_measures_of_a_history_are_those_of_its_numbers():
    run = history([0.08, 0.04, 0.05, 0.04])
    assert measures.rise(run) == 1
    assert measures.rise(history([0.04, 0.05])) == 1.25
    assert measures.epochs_to(run, 0.08) == 1
    assert measures.epochs_to(run, 0.08 / math.sqrt(2)) == pytest.approx(1.5)
    assert measures.epochs_to(run, 0.01) == 5
    assert measures.settled(run) == 4
    assert measures.settled(history([0.08, 0.0401, 0.04])) == 2


def test_energy_is_the_sum_of_squared_differences():
    image = torch.tensor([[[[0.0, 1.0], [0.5, 0.0]]]])
    assert float(measures.energy(image)) == pytest.approx(0.25 + 1 + 1 + 0.25)


def test_what_follows_from_a_preset_is_not_said_again():
    runs = rows(
        ({"preset": "p1", "latent": 2, "noise": "none"}, [1]),
        ({"preset": "p2", "latent": 5, "noise": "none"}, [1]),
        ({"preset": "p1", "latent": 2, "noise": "speckle"}, [1]),
    )
    assert labels(runs) == ["p1, none", "p2, none", "p1, speckle"]
    assert labels(runs, by=["latent"]) == ["latent 2", "latent 5", "latent 2"]


def test_latex_has_its_signs_escaped():
    made = sheets.Sheet("t", ["run", "gain, %"], [["model_1", "1.0 ± 0.1"]]).latex()
    assert r"model\_1 & 1.0 $\pm$ 0.1 \\" in made
    assert r"gain, \% \\" in made
    assert made.startswith("\\begin{tabular}{lr}\n\\toprule\n")


def test_a_study_is_run_kept_and_drawn_again_from_numbers(main, tmp_path):
    words = ["preset=model_1,model_4", "output=sigmoid", "seed=0,1", "epochs=2"]
    assert main("experiments=mlp_reconstruction", "scale=quick", *words, *TINY) == 0
    one = study.find("mlp_reconstruction", tmp_path / "outputs")
    assert len(one.runs) == 4
    first = report.draw(one, tmp_path / "first")
    assert {"sharpness", "gap", "rise", "pca_mse"} <= one.runs[0].metrics.keys()
    assert all(file.is_file() for drawn in first for file in drawn.files)
    assert "2 seeds" in first[0].caption
    assert "The report: Table 2.1" in first[0].caption
    assert "MNIST-5k" in first[0].caption
    results.keep(one.runs, tmp_path / "results", one.name)

    again = study.study("mlp_reconstruction", tmp_path / "nothing", tmp_path / "results")
    assert again.recorded
    assert [run.name for run in again.runs] == [run.name for run in one.runs]
    for run, before in zip(again.runs, one.runs, strict=True):
        assert run.metrics == pytest.approx(before.metrics, rel=1e-5)
        assert run.settings == before.settings
        assert len(run.history) == 2
    second = report.draw(again, tmp_path / "second")
    assert [drawn.caption for drawn in second] == [d.caption for d in first if not d.of_images]
    assert second[0].sheet == first[0].sheet
    assert second[1].files[0].read_bytes() == first[1].files[0].read_bytes()


def test_a_study_gathers_its_sweeps_unless_their_settings_or_data_differ(main, tmp_path):
    def found(outputs: str = "outputs") -> list[int]:
        return [
            run.settings["seed"] for run in study.find("mlp_conditional", tmp_path / outputs).runs
        ]

    def seeds(*words: str) -> list[int]:
        words = ("experiments=mlp_conditional", "scale=quick", "preset=model_1", *words)
        assert main(*words, "conditional=false", "data=mnist5k", *TINY[2:]) == 0
        return found()

    once, twice, fewer = (
        ("epochs=1", "data.limit=100"),
        ("epochs=2", "data.limit=100"),
        "data.limit=90",
    )
    assert seeds("seed=0", *once) == [0]
    assert seeds("seed=2,1", *once) == [0, 2, 1]
    assert seeds("seed=2", *once) == [0, 1, 2]
    assert seeds("seed=1", *twice) == [1]
    assert seeds("seed=0", "epochs=2", fewer) == [0]
    assert seeds("seed=3", "epochs=2", fewer) == [0, 3]
    assert seeds("seed=3", "lr=0.001,0.01", "epochs=2", fewer) == [3, 3]
    words = ["experiments=mlp_conditional", "scale=quick", "data=mnist5k", "preset=model_1"]
    assert main(*words, "seed=4", "lr=-1", *TINY[1:]) == 1  # which makes no run
    assert found() == [3, 3]
    assert seeds("seed=0", *once) == [1, 2, 0]
    (tmp_path / "outputs").rename(tmp_path / "moved")
    assert found("moved") == [1, 2, 0]


@pytest.mark.parametrize("name", study.names())
def test_every_study_runs_and_draws_all_its_figures(name, main, tmp_path, capfd):
    """Its first job at least, on a few embedded images."""
    asked = [f"experiments={name}", "scale=quick"]
    whole = configuration.compose(asked, return_hydra_config=True)
    params = whole.hydra.sweeper.params
    first = {key: str(values).split(",")[0] for key, values in params.items()}
    swept = "latent" if "latent" in first else "preset"
    first[swept] = ",".join(str(params[swept]).split(",")[:2])
    figures = list(whole.figures)
    words = [f"{key}={value}" for key, value in first.items()]
    offline = [f"paths.data={tmp_path}", f"paths.cache={tmp_path / 'cache'}"]
    offline += ["data.source.download=false", "data.limit=100", "epochs=1"]
    assert main(*asked, *words, *offline, "trainer.enable_progress_bar=false") == 0
    drawn = report.draw(study.find(name, tmp_path / "outputs"), tmp_path / "drawn")
    capfd.readouterr()
    random = sum(str(entry._target_).endswith("random_images") for entry in figures)
    assert len(figures) - random <= len(drawn) <= len(figures)
    assert all(file.is_file() for one in drawn for file in one.files)


def test_a_run_that_two_studies_share_is_known_to_each_by_its_own_choices(main, tmp_path):
    words = ["scale=quick", "seed=0", "epochs=1", *TINY]
    assert main("experiments=grid", "depth=3", "activation=relu", "latent=32", *words) == 0
    assert main("experiments=mlp_conditional", "preset=model_5", "conditional=false", *words) == 0
    grid, six = (study.find(n, tmp_path / "outputs") for n in ("grid", "mlp_conditional"))
    assert grid.runs[0].path == six.runs[0].path
    assert six.runs[0].settings["preset"] == "model_5"
    assert "preset" not in grid.runs[0].settings


def test_the_page_is_one_file_with_every_study_and_every_claim(command, tmp_path):
    words = ["preset=model_1,model_2", "output=sigmoid", "seed=0", "epochs=1"]
    done = command("train", "experiments=mlp_reconstruction", "scale=quick", *words, *TINY)
    assert done.returncode == 0, done.stderr
    made = command("report", "--all")
    assert made.returncode == 0, made.stderr
    html = (tmp_path / "outputs" / "report" / "index.html").read_text()
    for name in study.names():
        assert f'id="{name}"' in html
    assert html.count('class="open"') + html.count('class="yes"') + html.count('class="no"') > 19
    addresses = re.findall(r'(?:src|href)="([^"]{0,12})', html)
    assert addresses
    assert all(a.startswith(("data:", "#")) for a in addresses)
    assert "Deeper (model 2) reconstructs better" in html
    assert (tmp_path / "outputs" / "report" / "claims.tex").is_file()


def test_the_readme_has_the_verdicts_that_the_kept_numbers_give():
    computed = claims.sheet(claims.audit(claims.evidence(None)), "").markdown()
    assert computed in (REPOSITORY / "README.md").read_text()


def test_an_unknown_study_is_named_with_the_nearest(command):
    done = command("report", "mlp_reconstructoin")
    assert done.returncode == 2
    assert "did you mean 'mlp_reconstruction'?" in done.stderr
    assert results.kept(RESULTS, "mlp_reconstructoin") == []
    done = command("train", "experiments=claims", *TINY)
    assert done.returncode == 2
    assert "experiments=claims is no study" in done.stderr


def test_a_sweep_in_part_counts_its_whole_seeds_alone():
    near = [1.0, 1.01, 0.99]
    whole = rows(({"a": 1, "b": 1}, near), ({"a": 1, "b": 2}, near), ({"a": 2, "b": 1}, near))
    asked = {"study": "s", "value": "m", "claimed": "below", "than": 1}
    test = Difference(**asked, of={"a": 1}, against={"a": 2})
    assert test.numbers(whole) == []
    assert test.numbers(whole + rows(({"a": 2, "b": 2}, near[:2]))) == pytest.approx([0, 0])
    assert test.p(test.numbers(whole + rows(({"a": 2, "b": 2}, near)))) == (1, 1)
    with pytest.raises(UserError, match="ratio: false"):
        test.numbers(rows(({"a": 1}, [0.0])))


@pytest.mark.parametrize(
    "mistyped",
    [{"x": "latnt", "y": "m"}, {"y": "test/mse"}, {"columns": {"m": ".2f"}, "by": ["a"]}],
)
def test_a_figure_that_names_what_no_run_has_is_refused(mistyped, tmp_path):
    figures = [OmegaConf.create({"_target_": "ae_lab.reporting.plots.curve", **mistyped})]
    runs = rows(({"latent": 2}, [1.0]), ({"latent": 5}, [0.5]))
    with pytest.raises(UserError, match=r"no run has a .* of that name: (did you|choose)"):
        report.draw(study.Study("s", figures, OmegaConf.create({}), runs=runs), tmp_path)


def test_numbers_kept_do_not_become_fewer(command):
    done = command("train", "-m", "latent=2", *TINY, "epochs=1")
    assert done.returncode == 0, done.stderr
    refused = command("report", "--keep")
    assert refused.returncode == 2
    assert "run the whole study first" in refused.stderr
