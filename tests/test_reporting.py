"""Experiments, their saved results and pictures, figures of all kinds, the page."""

import re

import pytest
from omegaconf import OmegaConf
from PIL import Image

from ae_lab.core import configuration
from ae_lab.core.errors import UserError
from ae_lab.reporting import drawing, pictures, tables
from ae_lab.reporting.experiments import (
    FOLDER,
    RESULTS,
    Experiment,
    experiment_names,
    find_experiment,
    load_experiment,
)
from ae_lab.tracking.labels import labels, preset_title
from ae_lab.tracking.quantities import QUANTITIES
from ae_lab.tracking.saved_results import load_results, save_results
from tests.saved_runs import saved_runs

TINY = ["data=mnist5k", "data.limit=200", "trainer.enable_progress_bar=false"]


def test_settings_that_follow_from_a_preset_are_left_out_of_labels():
    runs = saved_runs(
        ({"preset": "p1", "latent": 2, "noise": "none"}, [1]),
        ({"preset": "p2", "latent": 5, "noise": "none"}, [1]),
        ({"preset": "p1", "latent": 2, "noise": "speckle"}, [1]),
    )
    assert labels(runs) == ["p1, none", "p2, none", "p1, speckle"]
    assert labels(runs, by=["latent"]) == ["latent 2", "latent 5", "latent 2"]


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_has_a_header_titles_and_known_quantities(name):
    experiment = load_experiment(name, RESULTS)  # where no sweep is
    assert {"Claim", "Report", "Expected", "Command"} <= experiment.header.keys()
    assert experiment.header["Command"] == f"python -m ae_lab.train experiment={name}"
    settings = configuration.compose([f"experiment={name}"], return_hydra_config=True)
    presets = str(settings.hydra.sweeper.params.get("preset", "")).split(",")
    for preset in filter(None, presets):
        assert preset_title(preset) != preset, f"conf/preset/{preset}.yaml has no '# Title: ...'"
    numbers = {*experiment.run_metrics}
    for entry in experiment.figures:
        numbers |= {entry.get("y"), entry.get("baseline"), *(entry.get("columns") or ())}
    names = {number.rpartition("/")[2] for number in filter(None, numbers)}
    assert names <= QUANTITIES.keys()


@pytest.mark.parametrize("name", experiment_names())
def test_saved_results_still_draw(name, tmp_path, capfd):
    experiment = load_experiment(name, tmp_path)
    assert experiment.is_saved
    drawings = drawing.draw_experiment(experiment, tmp_path)
    of_numbers = [
        entry
        for entry in experiment.figures
        if not getattr(drawing.get_method(entry._target_), "needs_runs", False)
    ]
    assert len(drawings) == len(of_numbers) < len(experiment.figures)
    assert all(file.is_file() for one in drawings for file in one.files)
    assert "nothing to show" not in capfd.readouterr().out


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_has_a_small_picture_with_a_caption(name):
    file = pictures.picture_file(name)
    assert file.stat().st_size <= pictures.LARGEST
    caption = pictures.read_caption(file)
    assert f"experiment={name}" in caption
    assert ("a quick run" in caption) == ("scale=quick" in caption)  # a part of one is not quick


def test_latex_escapes_special_characters():
    text = tables.Table("t", ["run", "gain, %"], [["model_1", "1.0 ± 0.1"]]).latex()
    assert r"model\_1 & 1.0 $\pm$ 0.1 \\" in text
    assert r"gain, \% \\" in text
    assert text.startswith("\\begin{tabular}{lr}\n\\toprule\n")


def test_tables_take_formats_and_headings_from_quantities():
    runs = saved_runs(
        ({"latent": 2}, [0.04321, 0.04323]), ({"latent": 5}, [0.0212]), metric="test/mse"
    )
    table = tables.table(runs, ["test/mse"], by=["latent"])
    assert table.heading == ["run", "seeds", "test MSE (per pixel)"]
    assert table.rows[0] == ["latent 2", "2", "0.0432 ± 0.0000"]
    crossed = tables.cross_table(runs, "test/mse", "latent", by=[])
    assert crossed.heading == ["test MSE (per pixel)", "latent 2", "latent 5"]


def test_an_experiment_is_run_saved_and_drawn_again_from_numbers(main, tmp_path):
    words = ["preset=model_1,model_4", "output=sigmoid", "seed=0,1", "epochs=2"]
    assert main("experiment=mlp_reconstruction", "scale=quick", *words, *TINY) == 0
    one = find_experiment("mlp_reconstruction", tmp_path / "outputs")
    assert len(one.runs) == 4
    assert "2 seeds" in one.describe()
    assert "MNIST-5k" in one.describe()
    first = drawing.draw_experiment(one, tmp_path / "first")
    numbers = {"gradient_energy_ratio", "val_train_loss_ratio", "final_over_best", "pca_mse"}
    assert numbers <= one.runs[0].metrics.keys()
    assert all(file.is_file() for drawn in first for file in drawn.files)
    captions = [drawn.caption for drawn in first if drawn.caption]
    assert len(captions) == len(set(captions)) == 2
    save_results(one.runs, tmp_path / "results", one.name)
    picture = pictures.save_picture(one, first, tmp_path)
    assert "a quick run, `python -m ae_lab.train experiment=" in pictures.read_caption(picture)
    assert Image.open(picture).width <= max(pictures.WIDTHS)

    again = load_experiment("mlp_reconstruction", tmp_path / "nothing", tmp_path / "results")
    assert again.is_saved
    assert [run.name for run in again.runs] == [run.name for run in one.runs]
    for run, before in zip(again.runs, one.runs, strict=True):
        assert run.metrics == pytest.approx(before.metrics, rel=1e-5)
        assert run.settings == before.settings
        assert len(run.history) == 2
    assert again.describe() == one.describe()
    second = drawing.draw_experiment(again, tmp_path / "second")
    assert [d.caption for d in second] == [d.caption for d in first if not d.of_images]
    assert second[0].table == first[0].table
    assert second[1].files[0].read_bytes() == first[1].files[0].read_bytes()
    with pytest.raises(UserError, match="saved results alone"):
        pictures.save_picture(again, second, tmp_path)


def test_an_experiment_gathers_its_sweeps_unless_their_settings_or_data_differ(main, tmp_path):
    def seeds_found(outputs: str = "outputs") -> list[int]:
        runs = find_experiment("mlp_conditional", tmp_path / outputs).runs
        return [run.settings["seed"] for run in runs]

    def seeds(*words: str) -> list[int]:
        words = ("experiment=mlp_conditional", "scale=quick", "preset=model_1", *words)
        assert main(*words, "conditional=false", "data=mnist5k", *TINY[2:]) == 0
        return seeds_found()

    once, fewer = ("epochs=1", "data.limit=100"), "data.limit=90"
    assert seeds("seed=0", *once) == [0]
    assert seeds("seed=2,1", *once) == [0, 2, 1]
    assert sorted(seeds("seed=2", *once)) == [0, 1, 2]
    assert seeds("seed=0", "epochs=2", fewer) == [0]
    assert seeds("seed=3", "lr=0.001,0.01", "epochs=2", fewer) == [3, 3]
    words = ["experiment=mlp_conditional", "scale=quick", "data=mnist5k", "preset=model_1"]
    assert main(*words, "seed=4", "lr=-1", *TINY[1:]) == 1  # which makes no run
    assert seeds_found() == [3, 3]
    assert sorted(seeds("seed=0", *once)) == [0, 1, 2]
    (tmp_path / "outputs").rename(tmp_path / "moved")
    assert sorted(seeds_found("moved")) == [0, 1, 2]


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_runs_and_draws_all_its_figures(name, main, tmp_path, capfd):
    """Its first job at least, on a few embedded images."""
    request = [f"experiment={name}", "scale=quick"]
    settings = configuration.compose(request, return_hydra_config=True)
    params = settings.hydra.sweeper.params
    first = {key: str(values).split(",")[0] for key, values in params.items()}
    several = [key for key, values in params.items() if "," in str(values)]
    swept = "latent" if "latent" in several else several[0]
    first[swept] = ",".join(str(params[swept]).split(",")[:2])
    words = [f"{key}={value}" for key, value in first.items()]
    offline = [f"paths.data={tmp_path}", f"paths.cache={tmp_path / 'cache'}"]
    offline += ["data.limit=100", "epochs=1"]
    if "download" in settings.data.source:
        offline += ["data.source.download=false"]
    assert main(*request, *words, *offline, "trainer.enable_progress_bar=false") == 0
    experiment = find_experiment(name, tmp_path / "outputs")
    drawings = drawing.draw_experiment(experiment, tmp_path / "drawings")
    capfd.readouterr()
    kinds = [drawing.kind_of(entry) for entry in experiment.figures]
    assert len(kinds) - kinds.count("random_images") <= len(drawings) <= len(kinds)
    assert all(file.is_file() for one in drawings for file in one.files)


def test_a_run_that_two_experiments_share_has_the_choices_of_each(main, tmp_path):
    words = ["scale=quick", "seed=0", "epochs=1", *TINY]
    assert main("experiment=grid", "depth=3", "activation=relu", "latent=32", *words) == 0
    assert main("experiment=mlp_conditional", "preset=model_5", "conditional=false", *words) == 0
    grid, six = (find_experiment(n, tmp_path / "outputs") for n in ("grid", "mlp_conditional"))
    assert grid.runs[0].path == six.runs[0].path
    assert six.runs[0].settings["preset"] == "model_5"
    assert "preset" not in grid.runs[0].settings


OUTSIDE = """
from matplotlib.figure import Figure
from ae_lab.reporting import Table, needs_runs

def bars(runs, y, colour_map="viridis"):
    figure = Figure()
    figure.subplots().bar([run.name for run in runs], [run.metrics[y] for run in runs])
    return figure

def listing(runs):
    return Table("runs", ["run"], [[run.name] for run in runs])

@needs_runs
def sizes(runs):
    figure = Figure()
    figure.subplots().plot([run.best.stat().st_size for run in runs])
    return figure

def nonsense(runs):
    return 7
"""


def test_kinds_of_figures_may_come_from_outside_the_package(main, tmp_path, monkeypatch, capsys):
    (tmp_path / "outside_figures.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    kinds = "{_target_: outside_figures.bars, y: test/mse}", "{_target_: outside_figures.listing}"
    kinds = f"figures=[{', '.join(kinds)}, {{_target_: outside_figures.sizes}}]"
    assert main("-m", "latent=2,3", "epochs=1", kinds, *TINY) == 0
    sweep = find_experiment(None, tmp_path / "outputs")
    bars, listing, sizes = drawing.draw_experiment(sweep, tmp_path / "drawings")
    assert [bars.of_images, listing.of_images, sizes.of_images] == [False, False, True]
    assert bars.files[0].name == "1-bars.png"
    assert listing.files[0].read_text().count("\n") == 3

    save_results(sweep.runs, tmp_path, "outside")
    saved = Experiment(
        "s", sweep.figures, OmegaConf.create({}), runs=load_results(tmp_path, "outside")
    )
    assert [one.kind for one in drawing.draw_experiment(saved, tmp_path)] == ["bars", "listing"]
    saved.figures = [OmegaConf.create({"_target_": "outside_figures.nonsense"})]
    with pytest.raises(UserError, match="nonsense returned int: a kind of figure returns"):
        drawing.draw_experiment(saved, tmp_path)


def test_the_page_is_one_file_with_every_experiment_and_every_claim(command, tmp_path):
    words = ["preset=model_1,model_2", "output=sigmoid", "seed=0", "epochs=1"]
    done = command("train", "experiment=mlp_reconstruction", "scale=quick", *words, *TINY)
    assert done.returncode == 0, done.stderr
    done = command("report", "--all")
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "outputs" / "report" / "index.html").read_text()
    for name in experiment_names():
        assert f'id="{name}"' in html
    captions = html.count("saved from a quick run") + html.count("saved from `")
    num_pictures = len(experiment_names()) - 1  # the one with runs here shows its own images
    assert captions == 2 * num_pictures  # below the picture, and in place of it
    assert html.count('class="open"') + html.count('class="yes"') + html.count('class="no"') > 19
    addresses = re.findall(r'(?:src|href)="([^"]{0,12})', html)
    assert addresses
    assert all(a.startswith(("data:", "#")) for a in addresses)
    assert "Deeper (model 2) reconstructs better" in html
    assert "claimed below 1" in html
    for file in ("claims.tex", "claims.svg"):
        assert (tmp_path / "outputs" / "report" / file).is_file()


def test_an_unknown_experiment_is_named_with_the_nearest(command):
    done = command("report", "mlp_reconstructoin")
    assert done.returncode == 2
    assert "did you mean 'mlp_reconstruction'?" in done.stderr
    assert load_results(RESULTS, "mlp_reconstructoin") == []
    done = command("train", "experiment=claims", *TINY)
    assert done.returncode == 2
    assert "experiment=claims is not an experiment" in done.stderr


@pytest.mark.parametrize(
    "mistyped",
    [{"x": "latnt", "y": "m"}, {"y": "test/mse"}, {"columns": ["m"], "by": ["a"]}],
)
def test_a_figure_that_names_what_no_run_has_is_refused(mistyped, tmp_path):
    figures = [OmegaConf.create({"_target_": "ae_lab.reporting.curve", **mistyped})]
    runs = saved_runs(({"latent": 2}, [1.0]), ({"latent": 5}, [0.5]))
    experiment = Experiment("s", figures, OmegaConf.create({}), runs=runs)
    with pytest.raises(UserError, match=r"no run has a .* of that name: (did you|choose)"):
        drawing.draw_experiment(experiment, tmp_path)


def test_saved_results_do_not_become_fewer(command, tmp_path):
    done = command("train", "-m", "latent=2", *TINY, "epochs=1")
    assert done.returncode == 0, done.stderr
    refused = command("report", "--save-results")
    assert refused.returncode == 2
    assert "is not an experiment" in refused.stderr
    grid = load_experiment("grid", tmp_path)
    with pytest.raises(UserError, match="run the whole experiment first"):
        drawing.check_complete(grid)
    assert (FOLDER / "results" / "grid.csv").is_file()
