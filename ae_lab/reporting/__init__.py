"""Experiments and what is drawn, tabulated and concluded from their runs.

`experiments` finds an experiment with its runs; `drawing` writes its figures: `plots` draws
numbers, `tuning` searches over settings, `image_figures` images, `code_figures` looks into models,
`explorer` is a page to move through codes in, `tables` makes tables; `statistics` compares seeds.
`hypotheses` and `claims` are the audit, `forest_plot` draws it; `pictures` keeps an image of each
experiment; `page` is the report. What configuration names is listed below. Nothing here imports
torch before it draws images.
"""

from ae_lab.reporting.code_figures import (
    first_layer_weights,
    jacobian_spectrum,
    kl_per_dimension,
)
from ae_lab.reporting.explorer import Page, explorer
from ae_lab.reporting.hypotheses import Difference, Effect
from ae_lab.reporting.image_figures import codes, needs_runs, random_images, reconstructions
from ae_lab.reporting.plots import curve, dots, effects, history
from ae_lab.reporting.tables import Table, cross_table, table
from ae_lab.reporting.tuning import importances, parallel_coordinates, trials

__all__ = [
    "Difference",
    "Effect",
    "Page",
    "Table",
    "codes",
    "cross_table",
    "curve",
    "dots",
    "effects",
    "explorer",
    "first_layer_weights",
    "history",
    "importances",
    "jacobian_spectrum",
    "kl_per_dimension",
    "needs_runs",
    "parallel_coordinates",
    "random_images",
    "reconstructions",
    "table",
    "trials",
]
