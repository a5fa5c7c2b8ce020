"""The model card of an exported run: README.md, whose text is the template `model_card.md`."""

import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ae_lab import __version__
from ae_lab.core.intervals import mean_interval
from ae_lab.inference.loaded_run import LoadedRun
from ae_lab.models.conditioning import label_settings
from ae_lab.tracking import run_files
from ae_lab.tracking.identity import is_within
from ae_lab.tracking.quantities import quantity
from ae_lab.tracking.registry import find_runs
from ae_lab.tracking.run import Run

# Choices that say what a model is; the others how it was trained.
PARTS = ("model", "body", "bottleneck", "objective", "likelihood", "noise")
PRIVATE = ("paths", "data.source.path", "force", "trust", "run", "logger")  # of one machine
CAPTIONS = {
    "reconstructions.png": "Test images over what the model makes of them",
    "samples.png": "Random images, from codes of the prior",
}


def describe_model(
    loaded: LoadedRun, pictures: list[str], license: str, space: bool = False
) -> str:
    """The card's text: what the model is, its data and numbers, how it was trained, how to load
    it. A number of several seeds has the interval that holds their mean with 95 % confidence."""
    run, model = loaded.run, loaded.model
    folder = Path(__file__).parent
    # No HTML: the titles and names in it are text of Markdown.
    template = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment = run_files.read_json(
        run.path / "environment.json", run_files.ENVIRONMENT, run_files.DELETE
    )
    seeds = runs_of_other_seeds(run)
    return template.get_template("model_card.md").render(
        name=run.name,
        family=run.choices.get("model", "autoencoder"),
        license=license,
        space=space,
        parts={part: run.choices[part] for part in PARTS if part in run.choices},
        shape="×".join(map(str, loaded.data.shape)),
        code="×".join(map(str, model.bottleneck.shape)),
        conditional=model.conditional,
        takes_label=model.conditional or model.condition_encoder,
        decodes_code_alone=model.decodes_code_alone,
        any_size=model.stride is not None and not label_settings(model),
        side=model.side,
        class_names=loaded.data.images.class_names,
        data=run.record["data"],
        rows=[describe_metric(name, run, seeds) for name in run.metrics if "test/" in name],
        num_seeds=len(seeds),
        metrics=run.metrics,
        command=training_command(run),
        environment=environment or {},
        version=__version__,
        pictures={name: CAPTIONS[name] for name in pictures},
    )


def runs_of_other_seeds(run: Run) -> list[Run]:
    """The finished runs beside a run that differ from it in nothing but the seed, itself too."""
    others = [one for one in find_runs(run.path.parent.parent) if not one.faults and one.done]
    key = run.group_key("seed")
    same = [one for one in others if one.path != run.path and one.group_key("seed") == key]
    return [run, *same]


def describe_metric(name: str, run: Run, seeds: list[Run]) -> tuple[str, str, str]:
    """A number's heading, its value of this run, and its mean over seeds with the interval."""
    known = quantity(name, [run])
    values = [one.metrics[name] for one in seeds if name in one.metrics]
    interval = "–"
    if len(values) > 1:
        mean_text, half_text = (format(value, known.format) for value in mean_interval(values))
        interval = f"{mean_text} ± {half_text}"
    return known.text, format(run.metrics[name], known.format), interval


def training_command(run: Run) -> str:
    """What a person types to train the run again, without what is of one machine alone."""
    words = [
        word
        for word in run.overrides
        if not is_within(word.lstrip("+~").partition("=")[0], PRIVATE)
    ]
    return shlex.join(["python", "-m", "ae_lab.train", *words])
