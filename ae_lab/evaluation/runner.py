"""Evaluate a run by one evaluator or several; results are cached in the run's folder.

    <run>/evaluations/<evaluator>-<data>-<split>-<noise>-<digest>.json    numbers
                                                                 .csv     a row an image
                                                                 .<figure>.png

The digest is of the evaluator's settings, the data, the noise and the checkpoint's content.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.table import Table
from torch import Tensor

from ae_lab.core import configuration, validation
from ae_lab.core.console import print_table
from ae_lab.core.errors import UserError, check_choice
from ae_lab.core.files import check_writable, replace_atomically, write_csv, write_json
from ae_lab.core.images import save_png
from ae_lab.core.trust import check_trusted
from ae_lab.evaluation.evaluator import ERROR_SUFFIX, Evaluation
from ae_lab.inference.loaded_run import (
    LoadedRun,
    NotApplicable,
    check_done,
    load_run,
    replace_data,
)
from ae_lab.tracking import run_files
from ae_lab.tracking.identity import digest
from ae_lab.tracking.quantities import quantity
from ae_lab.tracking.registry import print_skipped, run_from_path
from ae_lab.tracking.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def evaluate(config: DictConfig) -> dict[str, Evaluation]:
    """Evaluate a run by each evaluator of a configuration; print a table of each.

    Raises:
        UserError: no run is named, a setting is unknown, or the run cannot be evaluated so.
    """
    if not config.evaluator:
        raise UserError("name at least one evaluator, as in evaluator=reconstruction")
    subject = Subject(run_from_path(config.run), config.data, config.noise)
    validation.check_options(config, "evaluate")
    validation.check_parts(config)
    evaluations = {}
    for name, settings in config.evaluator.items():
        results = Results(subject, str(name), settings)
        if is_cached := results.file.is_file() and not config.force:
            evaluation = results.read()
        else:
            evaluation = results.compute()
        print_table(tabulate(subject.run, evaluation, results.rows_of_same_title(evaluation)))
        note = "read, not computed again (force=true computes): " if is_cached else ""
        print(f"{note}{results.file}")
        evaluations[name] = evaluation
    return evaluations


@dataclass
class Subject:
    """A finished run, with its own data and noise or with others; loaded when first asked for.

    Raises:
        UserError: the run is not done.
    """

    run: Run
    data: DictConfig | None = None
    noise: DictConfig | None = None

    def __post_init__(self):
        check_done(self.run)

    @cached_property
    def loaded(self) -> LoadedRun:
        return load_run(self.run, self.data, self.noise)

    @cached_property
    def about_data(self) -> tuple[str, str]:
        """The name and the fingerprint of the data."""
        if self.data is None:
            return self.run.record["data"]["name"], self.run.record["data"]["fingerprint"]
        return self.loaded.data.images.name, self.loaded.data.images.fingerprint

    @cached_property
    def content(self) -> list:
        """What the result of an evaluation depends on, but for the evaluator's own settings."""
        config = replace_data(self.run.config, self.data, self.noise)
        weights = blake2b(self.run.best.read_bytes(), digest_size=8).hexdigest()
        noise = result_settings(config.noise)
        return [self.about_data[1], config.data.binarize, noise, weights]

    @cached_property
    def noise_name(self) -> str:
        noise = self.content[2]["_target_"].lower().removesuffix("noise")
        return "clean" if noise == "corruption" else noise


@dataclass
class Results:
    """The files of one evaluation."""

    subject: Subject
    evaluator: str
    settings: DictConfig

    @cached_property
    def file(self) -> Path:
        """Where the numbers are."""
        settings = result_settings(self.settings)
        split = [str(settings["split"])] if "split" in settings else []
        subject = self.subject
        parts = [self.evaluator, subject.about_data[0], *split, subject.noise_name]
        name = "-".join([*parts, digest([self.evaluator, settings, *subject.content])])
        return subject.run.path / "evaluations" / f"{name}.json"

    def read(self) -> Evaluation:
        """The evaluation's numbers; per-image values and figures are in files beside them.

        Raises:
            UserError: the file is damaged.
        """
        content = run_files.read_json(self.file, run_files.EVALUATION, run_files.DELETE)
        return Evaluation(content["title"], content["rows"], content["note"])

    def compute(self) -> Evaluation:
        """Evaluate and write everything, the numbers last: where they are, the rest is complete.

        Raises:
            UserError: the run's folder cannot be written to.
        """
        check_writable(self.file.parent, "copy the run to a folder that you can write to")
        evaluation = instantiate(self.settings).evaluate(self.subject.loaded)
        if evaluation.per_image:
            write_csv(self.file.with_suffix(".csv"), image_rows(evaluation.per_image))
        for name, figure in evaluation.figures.items():
            write_figure(figure, self.file.with_suffix(f".{name}.png"))
        content = {key: getattr(evaluation, key) for key in ("title", "note", "rows")}
        content["settings"] = result_settings(self.settings)
        content["subject"] = digest(self.subject.content)
        write_json(self.file, content)
        return evaluation

    def rows_of_same_title(self, evaluation: Evaluation) -> dict[str, dict[str, float]]:
        """The evaluation's rows, and those of others under the same title, as of other samplers."""
        key, rows = digest(self.subject.content), {}
        files = self.file.parent.glob(f"{self.evaluator}-*.json")
        for file in sorted(files, key=lambda file: file.stat().st_mtime):
            try:
                content = run_files.read_json(file, run_files.EVALUATION, run_files.DELETE)
            except run_files.UnusableFile as fault:
                print_skipped(str(fault))
                continue
            if content.get("subject") == key and content["title"] == evaluation.title:
                rows |= content["rows"]
        return rows | evaluation.rows


def result_settings(settings: DictConfig) -> dict[str, object]:
    """Settings that determine a result, flat: classes by their names, and nothing that comes from
    `paths`, which says where things are."""
    written = configuration.flatten(OmegaConf.to_container(settings, resolve=False))
    places = {key for key, value in written.items() if str(value).startswith("${paths.")}
    return {
        key: value.rpartition(".")[2] if key.rpartition(".")[2] == "_target_" else value
        for key, value in configuration.flatten(settings).items()
        if key not in places
    }


def image_rows(per_image: dict[str, Tensor]) -> list[dict[str, float]]:
    """Columns (N,) by name as one row for each image."""
    table = zip(*(values.tolist() for values in per_image.values()), strict=True)
    return [
        {"index": index} | dict(zip(per_image, row, strict=True)) for index, row in enumerate(table)
    ]


def write_figure(figure: Tensor | Figure, file: Path) -> None:
    if isinstance(figure, Tensor):
        save_png(figure, file)
        return
    with replace_atomically(file) as beside:
        figure.savefig(beside, format="png", dpi=150)


def tabulate(run: Run, evaluation: Evaluation, rows: dict[str, dict[str, float]]) -> Table:
    """A table of rows of numbers, each with its standard error if that is known."""
    table = Table(title=evaluation.title, title_justify="left")
    table.caption, table.caption_justify = evaluation.note, "left"
    names = dict.fromkeys(name for row in rows.values() for name in row)
    columns = [name for name in names if not name.endswith(ERROR_SUFFIX)]
    table.add_column("", overflow="fold")
    for name in columns:
        table.add_column(quantity(name, [run]).heading, justify="right")
    for label, row in rows.items():
        table.add_row(label, *(format_number(run, row, name) for name in columns))
    return table


def format_number(run: Run, row: dict[str, float], name: str) -> str:
    if name not in row:
        return "–"
    form = quantity(name, [run]).format
    error = row.get(name + ERROR_SUFFIX)
    return f"{row[name]:{form}}" + (f" ± {error:{form.lstrip('+')}}" if error is not None else "")


def evaluator_number(
    run: Run,
    evaluator: str,
    number: str,
    row: str | None = None,
    overrides: tuple[str, ...] | list[str] = (),
) -> float | None:
    """A number of a run by an evaluator, from the cache or computed now.

    `overrides` is what the command `evaluate` would be given beside `run` and `evaluator`, as
    [sampler=gmm, evaluator.samples.n=2000]. `row` is the run's own if it is not given. None where
    the evaluator does not apply to the run, or the row has no such number.

    Raises:
        UserError: there is no such row or number, or the run cannot be evaluated so.
    """
    typed = _typed_search_path()
    config = _compose((f"evaluator=[{evaluator}]", *overrides), typed or tuple(run.search_path))
    if typed is None:
        check_trusted(config, run.path, ("evaluator", "data", "noise"))
    [(name, settings)] = config.evaluator.items()
    try:
        results = Results(Subject(run, config.data, config.noise), str(name), settings)
        evaluation = results.read() if results.file.is_file() else results.compute()
    except NotApplicable:
        return None
    numbers = check_choice("row", row, evaluation.rows) if row else [*evaluation.rows.values()][-1]
    return check_choice("number", number, dict.fromkeys(_names(evaluation)) | numbers)


def _names(evaluation: Evaluation) -> list[str]:
    return [name for row in evaluation.rows.values() for name in row]


def _typed_search_path() -> tuple[str, ...] | None:
    """Where a person says that configuration outside the package is: the command running now, or
    the sweep that has just ended; None where there was none, as in reports."""
    if HydraConfig.initialized():
        return tuple(configuration.search_path(HydraConfig.get()))
    return tuple(word for word in sys.argv if word.startswith("hydra.searchpath=")) or None


@cache
def _compose(overrides: tuple[str, ...], search_path: tuple[str, ...]) -> DictConfig:
    return configuration.compose([*overrides, *search_path], "evaluate")
