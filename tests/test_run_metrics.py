"""Numbers of a finished run that its test does not give."""

import math

import pytest
import torch

from ae_lab import evaluation
from ae_lab.evaluation.run_metrics import gradient_energy
from ae_lab.tracking.saved_results import SavedRun


def run_with_history(values: list[float]) -> SavedRun:
    rows = [{"epoch": float(e), "val/mse": value} for e, value in enumerate(values)]
    return SavedRun({"run": "r", "data": "d", "kind": "k"}, rows)


def test_run_metrics_of_a_history_are_those_of_its_numbers():
    run = run_with_history([0.08, 0.04, 0.05, 0.04])
    assert evaluation.final_over_best(run) == 1
    assert evaluation.final_over_best(run_with_history([0.04, 0.05])) == 1.25
    assert evaluation.epochs_to_threshold(run, 0.08) == 1
    assert evaluation.epochs_to_threshold(run, 0.08 / math.sqrt(2)) == pytest.approx(1.5)
    assert evaluation.epochs_to_threshold(run, 0.01) == 5
    rows = [{"epoch": 4.0, "val/mse": 0.08}, {"epoch": 9.0, "val/mse": 0.02}]
    fifths = SavedRun({"run": "r", "data": "d", "kind": "k"}, rows)  # each fifth epoch validated
    assert evaluation.epochs_to_threshold(fifths, 0.08) == 5
    assert evaluation.epochs_to_threshold(fifths, 0.04) == pytest.approx(7.5)
    assert evaluation.epochs_to_converge(run) == 4
    assert evaluation.epochs_to_converge(run_with_history([0.08, 0.0401, 0.04])) == 2


def test_a_metric_is_scaled_and_divided():
    row = {"run": "r", "data": "d", "kind": "k", "test/mse": "0.02", "pca_mse": "0.04"}
    run = SavedRun(row, [])
    assert evaluation.scaled(run, key="test/mse", factor=4) == pytest.approx(0.08)
    assert evaluation.ratio(run, key="test/mse", over="pca_mse") == pytest.approx(0.5)
    assert evaluation.ratio(run, key="test/mse", over="nothing") is None


def test_gradient_energy_is_the_sum_of_squared_differences_of_neighbours():
    image = torch.tensor([[[[0.0, 1.0], [0.5, 0.0]]]])
    assert float(gradient_energy(image)) == pytest.approx(0.25 + 1 + 1 + 0.25)
