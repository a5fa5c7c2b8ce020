"""Studies of optuna: what is drawn from, trials as runs, pruning, going on after a kill."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from ae_lab.core.errors import UserError
from ae_lab.launching.optuna_sweeper import read_space
from ae_lab.tracking.registry import find_runs
from ae_lab.tracking.study import build_pruner, create_study, open_study
from ae_lab.tracking.sweeps import find_sweeps
from tests.test_train import TINY

optuna = pytest.importorskip("optuna", reason="pip install 'ae_lab[optuna]'")
from optuna.distributions import (  # noqa: E402
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

WORDS = ["-m", *TINY, "hidden=[16]", "batch_size=50", "hydra/sweeper=optuna", "logger=none"]
WORDS += ["hydra.sweeper.study_name=mine", "hydra.callbacks.sweep.columns=[]"]
SEARCH = ["lr=tag(log,interval(1e-4,1e-2))", "latent=choice(2,3)"]
PRUNER = OmegaConf.create({"_target_": "optuna.pruners.NopPruner"})
SPACES = {
    "x=choice(a,b)": CategoricalDistribution(["a", "b"]),
    "x=a,b": CategoricalDistribution(["a", "b"]),
    "x=interval(1e-4,1e-1)": FloatDistribution(1e-4, 1e-1),
    "x=tag(log,interval(1e-4,1e-1))": FloatDistribution(1e-4, 1e-1, log=True),
    "x=interval(2,9)": FloatDistribution(2, 9),
    "x=range(2,10,step=2)": IntDistribution(2, 10, step=2),
    "x=range(0.5,1.5,step=0.5)": FloatDistribution(0.5, 1.5, step=0.5),
    "x=tag(log,int(interval(1,100)))": IntDistribution(1, 100, log=True),
}


def parse(*words: str):
    return OverridesParser.create().parse_overrides(list(words))


@pytest.mark.parametrize("word", SPACES)
def test_the_syntax_of_hydras_plugin(word):
    fixed, spaces = read_space(parse("latent=3", word))
    assert fixed == ["latent=3"]
    assert spaces == {"x": SPACES[word]}


def test_a_search_over_nothing_is_refused():
    with pytest.raises(UserError, match="needs settings to vary"):
        read_space(parse("latent=3"))


@pytest.mark.parametrize(
    "word",
    ["tag(log,range(1,9,step=2))", "tag(log,interval(0,1))", "interval(1e-2,1e-4)"],
)
def test_what_optuna_cannot_draw_from_is_named(word):
    with pytest.raises(UserError, match="x="):
        read_space(parse(f"x={word}"))


def test_a_pruner_is_one_of_optunas():
    with pytest.raises(UserError, match=r"give a class of optuna\.pruners"):
        build_pruner({"_target_": "os.system"})


def study_of(tmp_path):
    return open_study(tmp_path / "outputs" / "studies" / "mine" / "study.log").study


def test_trials_are_runs_and_the_same_command_has_no_more_to_do(command, tmp_path):
    words = [*WORDS, *SEARCH, "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2"]
    done = command("train", *words)
    assert done.returncode == 0, done.stderr
    runs, study = find_runs(tmp_path / "outputs"), study_of(tmp_path)
    values = {min(row["val/mse"] for row in run.history) for run in runs}
    assert {trial.value for trial in study.trials} == values
    assert f"best val/mse {min(values):.4g}" in done.stdout
    for trial in study.trials:
        single = ["latent=" + trial.params["latent"], f"lr={trial.params['lr']}"]
        again = command("train", *WORDS[1:8], "logger=none", *single)
        assert "done already" in again.stdout
    again = command("train", *words)
    assert "4 of 4 trials have ended" in again.stdout
    assert "new:" not in again.stdout
    newest = find_sweeps(tmp_path / "outputs" / "sweeps")[-1]
    assert {outcome["run"].rpartition("/")[2] for outcome in newest.outcomes} == {
        run.name for run in runs
    }
    assert "sweep.trial" not in runs[0].settings

    drawn = command("report")
    assert drawn.returncode == 0, drawn.stderr
    for kind in ("trials", "importances", "parallel_coordinates"):
        assert list((tmp_path / "outputs").rglob(f"*-{kind}.png")), drawn.stdout


def test_a_pruned_trial_is_no_failure_and_goes_on_without_its_study(command, tmp_path):
    words = [*WORDS, "lr=choice(0.001,0.002)", "hydra.sweeper.n_trials=1", "epochs=2", "latent=2"]
    rule = ["hydra/sweeper/pruner=none", "+hydra.sweeper.pruner.upper=0"]
    rule += ["hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner"]
    done = command("train", *words, *rule)
    assert done.returncode == 0, done.stderr
    assert "pruned after epoch 1" in done.stdout
    [run], [trial] = find_runs(tmp_path / "outputs"), study_of(tmp_path).trials
    assert trial.state.name == "PRUNED"
    assert run.state == "interrupted"
    assert trial.intermediate_values.keys() == {0}
    lr = f"lr={trial.params['lr']}"
    alone = command("train", *WORDS[1:4], "trainer.enable_progress_bar=false", *WORDS[5:7],
                    "logger=none", lr, "epochs=2", "latent=2")  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert run.done


def test_a_study_that_was_killed_takes_its_open_trials_up_again(command, tmp_path):
    file = tmp_path / "outputs" / "studies" / "mine" / "study.log"
    sampler = OmegaConf.create({"_target_": "optuna.samplers.RandomSampler", "seed": 5})
    killed = create_study(file, "val/mse", "minimize", sampler, PRUNER)
    _, spaces = read_space(parse(*SEARCH))
    [open_trial] = killed.ask(spaces, 1)
    done = command("train", *WORDS, *SEARCH, "hydra.sweeper.n_trials=1")
    assert done.returncode == 0, done.stderr
    left, taken_up = study_of(tmp_path).trials
    assert (left.state.name, taken_up.state.name) == ("FAIL", "COMPLETE")
    assert taken_up.params == open_trial.params
    assert len(find_runs(tmp_path / "outputs")) == 1


def test_what_a_sampler_draws_depends_on_the_number_of_trials_alone(tmp_path):
    sampler = OmegaConf.create({"_target_": "optuna.samplers.RandomSampler", "seed": 0})
    _, spaces = read_space(parse(*SEARCH))
    at_once = create_study(tmp_path / "a" / "study.log", "val/mse", "minimize", sampler, PRUNER)
    expected = [at_once.ask(spaces, 1)[0].params for _ in range(3)]
    actual = []
    for _ in range(3):  # a process each
        study = create_study(tmp_path / "b" / "study.log", "val/mse", "minimize", sampler, PRUNER)
        actual.append(study.ask(spaces, 1)[0].params)
    assert actual == expected
    assert len({str(one) for one in expected}) == 3


def test_a_metric_that_runs_do_not_have_is_named(command):
    done = command("train", *WORDS, *SEARCH, "hydra.sweeper.n_trials=1",
                   "hydra.sweeper.metric=val/mse2")  # fmt: skip
    assert done.returncode != 0
    assert "val/mse2" in done.stdout + done.stderr
    assert "did you mean 'val/mse'?" in done.stdout + done.stderr
