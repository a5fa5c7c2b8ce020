"""Runs: made once, found again, resumed bit for bit, never mistaken for one another."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ae_lab.core.errors import RunFailed, UserError
from ae_lab.tracking.identity import run_name
from ae_lab.tracking.registry import find_runs, select_runs, tabulate_averages
from tests.conftest import REPOSITORY
from tests.steps import load_tensors


def test_a_run_folder_holds_what_the_layout_says(run):
    finished = run("latent=3", "noise=gaussian")
    names = {str(p.relative_to(finished.path)) for p in finished.path.rglob("*") if p.is_file()}
    expected = {
        *("run.json", "status.json", "metrics.json", "history.csv", "environment.json"),
        *("checkpoints/last.ckpt", "checkpoints/best.ckpt", ".hydra/config.yaml"),
    }
    assert expected <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".part") for name in names)
    assert finished.state == "done"
    assert {
        "test/mse",
        "test/psnr",
        "test/ssim",
        "parameters",
        "seconds",
    } <= finished.metrics.keys()
    assert [row["epoch"] for row in finished.history] == [0]
    environment = json.loads((finished.path / "environment.json").read_text())
    assert {"torch", "device", "commit", "code"} <= environment.keys()
    checkpoint = torch.load(finished.last, weights_only=True)
    assert not any("_orig_mod" in key for key in checkpoint["state_dict"])


def test_the_same_run_is_found_and_force_trains_it_again(run):
    first = run("latent=3")
    stamp = first.last.stat().st_mtime_ns
    again = run("latent=3")
    assert again.path == first.path
    assert again.last.stat().st_mtime_ns == stamp
    forced = run("latent=3", "force=true")
    assert forced.path == first.path
    assert forced.last.stat().st_mtime_ns > stamp
    assert forced.metrics["test/mse"] == first.metrics["test/mse"]


@pytest.mark.parametrize(
    "difference",
    [
        *("latent=4", "seed=1", "epochs=2", "noise=speckle", "lr=0.002", "batch_size=64"),
        *("data.limit=128", "depth=3", "conditional=true", "trainer.precision=32-true"),
        "+trainer.limit_train_batches=1",
    ],
)
def test_what_changes_the_result_is_another_run(run, difference):
    assert run("latent=3", "trainer.precision=64-true").path != run("latent=3", difference).path


def test_what_does_not_change_the_result_is_the_same_run(run, tmp_path):
    paths = {
        run("latent=3", *more).path
        for more in (
            (),
            ("logger=none",),
            ("trainer.log_every_n_steps=7",),
            ("checkpoint_seconds=1",),
            ("data=auto", "data.source.download=false", f"paths.data={tmp_path}"),
        )
    }
    assert len(paths) == 1


def test_a_preset_and_its_settings_are_the_same_run(run):
    spelled = run("depth=2", "latent=2", "activation=relu")
    assert run("preset=model_1").path == spelled.path


def test_a_new_key_with_its_default_does_not_orphan_old_runs(run):
    finished = run("latent=3")
    record = finished.record
    record["identity"].pop("model.condition_encoder")
    old = finished.path.with_name("from-an-older-version-00000000")
    shutil.move(finished.path, old)
    (old / "run.json").write_text(json.dumps(record))
    assert run("latent=3").path == old
    assert run("latent=3", "condition_encoder=true").path != old
    assert run("latent=4").path != old


def test_names_can_be_read_and_typed_back():
    choices = {"model": "mlp", "preset": "strong", "noise": "gaussian"}
    overrides = ["preset=strong", "noise=gaussian", "noise.sigma=0.3", "hidden=[4,5]", "force=true"]
    overrides += ["paths.outputs=/x", "data=mnist", "trainer.devices=2"]
    assert run_name(overrides, choices, "mnist") == "mnist-mlp-strong-gaussian-sigma0.3-hidden_4_5"


def test_two_processes_do_not_share_a_run(run):
    finished = run("latent=3")
    with finished.lock(), pytest.raises(UserError, match="by another process"):
        run("latent=3", "force=true")


def test_a_run_of_different_code_is_flagged(run, capsys):
    finished = run("latent=3")
    file = finished.path / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"code": "older"}))
    run("latent=3")
    assert "trained with different code" in capsys.readouterr().out


def test_a_damaged_checkpoint_is_named_and_stays(run):
    finished = run("latent=3")
    finished.set_status("interrupted")
    for content in (finished.last.read_bytes()[:5000], b"", b"not a checkpoint"):
        finished.last.write_bytes(content)
        with pytest.raises(RunFailed, match=r"last.ckpt is damaged.*delete it"):
            run("latent=3")
        assert finished.last.read_bytes() == content
        assert finished.best.stat().st_size > 0
    finished.last.unlink()
    assert run("latent=3").done


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(run, tmp_path, monkeypatch):
    from ae_lab.data.loaders import TrainLoader

    def poisoned(self, whole=TrainLoader.__iter__):
        for batch in whole(self):
            yield batch._replace(corrupted=batch.corrupted / (self.position()[0] == 0))

    monkeypatch.setattr(TrainLoader, "__iter__", poisoned)
    with pytest.raises(RunFailed, match=r"became (nan|inf) in epoch 1.*lower lr than 0.001, or"):
        run("latent=3", "epochs=2")
    [finished] = find_runs(tmp_path / "outputs")
    assert finished.state == "failed"
    assert "became" in finished.status["error"]
    weights = torch.load(finished.last, weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in weights.values())
    monkeypatch.undo()
    assert run("latent=3", "epochs=2").done  # goes on where it was well


def test_killed_and_resumed_is_bitwise_the_same_as_undisturbed(tmp_path):
    """SIGKILL in the middle of an epoch and between two; `make kills` does this 30 times."""
    command = [
        *(sys.executable, "-m", "ae_lab.train", "data=mnist5k", "data.limit=1000", "latent=5"),
        *("noise=gaussian", "dropout=0.1", "epochs=3", "checkpoint_seconds=0.1"),
        "trainer.enable_progress_bar=false",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}

    def start(outputs: Path) -> subprocess.Popen:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        words = [*command, f"paths.outputs={outputs}"]
        return subprocess.Popen(words, cwd=tmp_path, env=environment, **quiet)

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(undisturbed).wait() == 0
    for number in range(2):
        process = start(killed)
        known = {path: path.stat().st_mtime_ns for path in killed.glob("runs/*/checkpoints/*.ckpt")}
        for _ in range(2 + number):  # so many new checkpoints later
            while process.poll() is None:
                now = {p: p.stat().st_mtime_ns for p in killed.glob("runs/*/checkpoints/*.ckpt")}
                if now != known:
                    known = now
                    break
                time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        [run] = find_runs(killed)
        assert run.state == "interrupted"
    assert start(killed).wait() == 0
    [one], [two] = find_runs(undisturbed), find_runs(killed)
    expected, actual = load_tensors(one), load_tensors(two)
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    same = [{k: v for k, v in row.items() if k != "seconds"} for row in one.history]
    assert same == [{k: v for k, v in row.items() if k != "seconds"} for row in two.history]
    assert {k: v for k, v in one.metrics.items() if k != "seconds"} == {
        k: v for k, v in two.metrics.items() if k != "seconds"
    }


def test_filters_are_typed_as_settings_are(run):
    finished = [run("latent=3"), run("latent=3", "conditional=true", "hidden=[32,16]")]
    for filters, expected in (
        (["conditional=false"], finished[:1]),
        (["hidden=null", "lr=1e-3"], finished[:1]),
        (["hidden=[32,16]"], finished[1:]),
        (["conditional=false,true"], finished),
    ):
        assert [r.path for r in select_runs(finished, filters)] == [r.path for r in expected]


def test_runs_that_differ_in_their_seed_alone_share_a_row(run):
    from ae_lab.reporting.plots import dots

    finished = [run(f"seed={s}", f"latent={n}", "data.limit=64") for s in (0, 1) for n in (2, 3)]
    table = tabulate_averages(finished, "seed")
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["runs"] == ["latent 2", "latent 3"]
    assert columns["n"] == ["2", "2"]
    assert columns["decoder inputs"] == ["2", "3"]
    both = [run.metrics["test/mse"] for run in finished if run.settings["latent"] == 2]
    assert columns["MSE"][0] == f"{sum(both) / 2:.4f}"
    figure = dots(finished, "test/psnr")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
        "latent 2  (2)",
        "latent 3  (3)",
    ]
