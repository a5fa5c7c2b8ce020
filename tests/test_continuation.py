"""Runs that begin with others: `extend` and `init_from`."""

import pytest
import pytorch_lightning as pl
import torch

from ae_lab.core.errors import UserError
from ae_lab.tracking.registry import find_runs
from tests.steps import SETTING, check_kills, results, train_in_child
from tests.test_train import TINY


def test_a_finished_run_goes_on(command, tmp_path):
    words = ["latent=3", *TINY, "epochs=2", "early_stopping=3", "checkpoint_seconds=0"]
    assert command("train", *words, "scheduler=constant").returncode == 0
    [parent] = find_runs(tmp_path / "outputs")
    done = command("train", f"extend={parent.path}", "epochs=4")
    assert done.returncode == 0, done.stderr
    assert f"extends {parent.path} at step {parent.history[-1]['step']:.0f}" in done.stdout
    [child] = [run for run in find_runs(tmp_path / "outputs") if run.path != parent.path]
    assert [row["epoch"] for row in child.history] == [0, 1, 2, 3]
    assert child.history[:2] == parent.history
    assert child.settings["extend"] == str(parent.path)
    assert parent.path.name[-8:] in child.name
    assert child.name in command("runs").stdout
    # What goes on is the run itself: as if it had been asked for four epochs from the start.
    assert command("train", *words, "scheduler=constant", "epochs=4").returncode == 0
    found = {run.path: run for run in find_runs(tmp_path / "outputs")}
    [whole] = [found[path] for path in found.keys() - {parent.path, child.path}]
    assert child.metrics["test/mse"] == whole.metrics["test/mse"]
    refused = command("train", f"extend={parent.path}", "latent=4")
    assert "goes on with the run's settings, and model." in refused.stderr
    refused = command("train", f"extend={parent.path}", "model=vae")
    assert "keeps the run's model: leave out model=vae" in refused.stderr


def test_a_run_starts_from_the_weights_of_another_and_survives_a_kill(run, tmp_path):
    words = [word for word in SETTING if "epochs" not in word]
    parent = run(*SETTING, "epochs=2", f"paths.outputs={tmp_path / 'parent'}")
    words += ["epochs=2", f"init_from={parent.path}", "lr=1e-9"]
    code, child = train_in_child(words, tmp_path / "child", None)
    assert code == 0
    before, after = (torch.load(r.best, weights_only=True)["state_dict"] for r in (parent, child))
    for name in before:
        torch.testing.assert_close(before[name], after[name], atol=1e-5, rtol=1e-3)
    assert list(check_kills(words, child, tmp_path, ["training"])) == ["training"]
    with pytest.raises(UserError, match="has weights of another model"):
        run(*SETTING, f"init_from={parent.path}", "latent=5")


def test_an_extended_run_survives_a_kill(command, tmp_path, monkeypatch):
    kill = "+callbacks.kill._target_=tests.test_continuation.Stop"
    words = ["latent=3", *TINY, "batch_size=32", "epochs=1", "checkpoint_seconds=0", kill]
    assert command("train", *words).returncode == 0
    [parent] = find_runs(tmp_path / "outputs")
    longer = ["train", f"extend={parent.path}", "epochs=3", "trust=[tests.test_continuation]"]
    assert command(*longer, "paths.outputs=undisturbed").returncode == 0
    monkeypatch.setattr(Stop, "at", 11)
    assert command(*longer, "paths.outputs=killed").returncode == 1
    monkeypatch.undo()
    resumed = command(*longer, "paths.outputs=killed")
    assert "resumed at step 10" in resumed.stdout
    [one], [two] = find_runs(tmp_path / "undisturbed"), find_runs(tmp_path / "killed")
    assert results(one) == results(two)


class Stop(pl.Callback):
    """Breaks off at a step, as a fault in training would."""

    at: int | None = None

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if module.steps == self.at:
            raise RuntimeError("broken off")
