"""Arguments of Lightning's trainer, precisions, ranks, callbacks, several processes."""

import inspect
import os
import socket
import sys
from typing import ClassVar

import pytest
import pytorch_lightning as pl
import torch

from ae_lab.core import configuration
from ae_lab.core.errors import UserError
from ae_lab.core.hardware import PRECISIONS
from ae_lab.data.corruptions import Corruption
from ae_lab.data.images import Split
from ae_lab.data.loaders import TrainLoader
from ae_lab.launching.process import JobProcess
from ae_lab.tracking.identity import WITHOUT_EFFECT
from ae_lab.tracking.registry import find_runs
from ae_lab.training.job import train
from ae_lab.training.trainer import REFUSED, build_trainer
from tests.conftest import REPOSITORY
from tests.steps import SETTING, check_kills, train_in_child
from tests.test_train import TINY

# Arguments that reach Lightning, each with a value and what the trainer then says of it.
USED = {
    "fast_dev_run": (1, lambda t: t.fast_dev_run == 1),
    "max_epochs": (7, lambda t: t.max_epochs == 7),
    "min_epochs": (3, lambda t: t.min_epochs == 3),
    "max_steps": (9, lambda t: t.max_steps == -1),  # the model stops: see test_steps
    "min_steps": (5, lambda t: t.min_steps == 5),
    "limit_train_batches": (3, lambda t: t.limit_train_batches == 3),
    "limit_val_batches": (4, lambda t: t.limit_val_batches == 4),
    "limit_test_batches": (5, lambda t: t.limit_test_batches == 5),
    "val_check_interval": (0.25, lambda t: t.val_check_interval == 0.25),
    "check_val_every_n_epoch": (3, lambda t: t.check_val_every_n_epoch == 3),
    "num_sanity_val_steps": (2, lambda t: t.num_sanity_val_steps == 2),
    "accumulate_grad_batches": (2, lambda t: t.accumulate_grad_batches == 2),
    "gradient_clip_val": (0.5, lambda t: t.gradient_clip_val == 0.5),
    "gradient_clip_algorithm": ("value", lambda t: t.gradient_clip_algorithm == "value"),
    "deterministic": (True, lambda t: torch.are_deterministic_algorithms_enabled()),
    "benchmark": (True, lambda t: torch.backends.cudnn.benchmark),
    "inference_mode": (False, lambda t: t.test_loop.inference_mode is False),
    "detect_anomaly": (True, lambda t: t._detect_anomaly),
    "sync_batchnorm": (True, lambda t: t._accelerator_connector._layer_sync is not None),
    "precision": ("64-true", lambda t: t.precision == "64-true"),
}


def test_every_argument_of_the_trainer_is_used_refused_or_without_effect():
    arguments = inspect.signature(pl.Trainer.__init__).parameters.keys() - {"self"}
    without = {name.removeprefix("trainer.") for name in WITHOUT_EFFECT if "trainer." in name}
    groups = [set(USED), set(REFUSED), without & arguments]
    assert set().union(*groups) == arguments
    assert sum(map(len, groups)) == len(arguments)  # each in one of them


@pytest.mark.parametrize("name", USED)
def test_arguments_reach_lightning(name, tmp_path):
    value, holds = USED[name]
    config = configuration.compose([f"++trainer.{name}={value}"])
    try:
        from hydra.utils import instantiate

        from ae_lab.data.module import load_data
        from ae_lab.tracking.run import Run

        load_data(config)
        model = instantiate(config.model)
        assert holds(build_trainer(config, Run(tmp_path), 0, model))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_that_runs_cannot_use_are_refused(name, run, tmp_path):
    with pytest.raises(UserError, match=f"trainer.{name} is not for runs: "):
        run("latent=3", f"+trainer.{name}=1")
    assert not find_runs(tmp_path / "outputs")


def test_arguments_without_effect_leave_the_run_the_same(run):
    usual = run("latent=3")
    words = ["+trainer.use_distributed_sampler=false", "+trainer.limit_predict_batches=1"]
    words += ["+trainer.reload_dataloaders_every_n_epochs=1", "callbacks=checkpoint_every"]
    again = run("latent=3", *words, "force=true")
    assert again.path == usual.path
    assert again.metrics["test/mse"] == usual.metrics["test/mse"]
    assert (again.checkpoints / "epoch=0.ckpt").is_file()


def test_a_profiler_prints_its_table(run, caplog):
    run("latent=3", "+trainer.profiler=simple")
    assert "FIT Profiler Report" in caplog.text  # pytest has the log's handler


@pytest.mark.parametrize("by", ["norm", "value"])
def test_gradients_are_clipped_as_asked(run, by):
    clipped = run(
        *("latent=3", "gradient_clip=1e-4", f"+trainer.gradient_clip_algorithm={by}"),
        "+callbacks.gradients._target_=tests.test_trainer.LargestGradient",
    )
    assert clipped.done
    largest, norm = LargestGradient.seen
    assert (largest if by == "value" else norm) == pytest.approx(1e-4, rel=1e-3)
    assert by == "norm" or norm > 1e-3


class LargestGradient(pl.Callback):
    """The largest gradient of a step, and the norm of all."""

    seen = (0.0, 0.0)

    def on_before_zero_grad(self, trainer, module, optimizer) -> None:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if gradients:
            every = torch.cat([g.flatten() for g in gradients])
            LargestGradient.seen = (float(every.abs().max()), float(every.norm()))


def test_precisions_do_not_touch_each_other_in_one_process(run):
    supported = [name for name in PRECISIONS if name not in ("16-mixed", "16-true")]
    words = ["latent=3", "norm=batch", "conditional=true"]
    alone = {p: run(*words, f"trainer.precision={p}").metrics for p in supported}
    for precision in (*reversed(supported), *supported):
        again = run(*words, f"trainer.precision={precision}", "force=true").metrics
        assert {k: v for k, v in again.items() if k != "seconds"} == {
            k: v for k, v in alone[precision].items() if k != "seconds"
        }
    close = [alone[p]["test/mse"] for p in supported]
    assert close == pytest.approx([close[0]] * len(close), rel=0.05)
    assert run(*words, "trainer.precision=32").path == run(*words, "trainer.precision=32-true").path


def test_a_left_over_rank_is_named(process, tmp_path):
    done = process("train", *TINY, RANK="1")
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert "RANK=1" in line
    assert "`unset RANK` if it is left over" in line
    assert not list((tmp_path / "outputs").glob("runs/*"))


def test_two_processes_train_as_one(command, tmp_path, monkeypatch):
    """DDP on the CPU: same images, same steps; rank 1 writes nothing. In a sweep it takes a process
    for the job, which is started as a single run; another one finds it finished without."""
    overrides = ["latent=3", "hidden=[32]", *TINY, "trainer.precision=32-true", "data.limit=256"]
    alone = command("train", *overrides, "paths.outputs=alone")
    assert alone.returncode == 0, alone.stderr
    words = ["-m", *overrides, "trainer.accelerator=cpu", "trainer.devices=2"]
    words += ["paths.outputs=both", "hydra.launcher.gpus=[]"]
    path = os.pathsep.join([str(REPOSITORY), *sys.path])
    both = command("train", *words, "hydra/launcher=local", PYTHONPATH=path)
    assert both.returncode == 0, both.stdout + both.stderr
    [one], [two] = find_runs(tmp_path / "alone"), find_runs(tmp_path / "both")
    assert one.record["identity"] == two.record["identity"]
    assert two.metrics["test/mse"] == pytest.approx(one.metrics["test/mse"], rel=1e-3)
    [log] = (tmp_path / "both" / "sweeps").glob("*/job_0.log")
    assert log.read_text().count("new:") == 1

    monkeypatch.setattr(JobProcess, "start", None)
    again = command("train", *words, "hydra/launcher=local")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("done already") == 1
    refused = command("train", "-m", *overrides, "seed=1,2", *words[-4:-2])
    assert refused.returncode == 1
    assert "add hydra/launcher=local" in refused.stderr


def test_two_processes_of_srun_train_one_run(command, processes, tmp_path):
    words = ["latent=3", "hidden=[32]", *TINY, "trainer.precision=32-true", "data.limit=256"]
    assert command("train", *words, "paths.outputs=alone").returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
    shared |= {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NODEID": "0"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words += ["paths.outputs=both", "trainer.accelerator=cpu", "trainer.devices=2"]
    ranks = ({"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)} for n in range(2))
    done = processes("train", *((words, shared | rank) for rank in ranks))
    assert [one.returncode for one in done] == [0, 0], done[0].stderr + done[1].stderr
    assert [one.stdout.count("new:") for one in done] == [1, 0]
    [one], [two] = find_runs(tmp_path / "alone"), find_runs(tmp_path / "both")
    assert two.metrics["test/mse"] == pytest.approx(one.metrics["test/mse"], rel=1e-3)


def test_equal_sweeps_at_once_train_each_job_once(processes, tmp_path):
    words = ["-m", "latent=2,3,4", *TINY]
    done = processes("train", (words, {}), (words, {}))
    assert [one.returncode for one in done] == [0, 0], done[0].stdout + done[1].stdout
    assert sum(one.stdout.count("new:") for one in done) == 3
    assert sum(one.stdout.count("done already") for one in done) == 3
    assert all(run.done for run in find_runs(tmp_path / "outputs"))


def test_a_sweep_that_changes_folder_keeps_its_table_and_exit_code(command, tmp_path):
    done = command("train", "-m", "latent=0,2", *TINY, "hydra.job.chdir=true")
    assert done.returncode == 1
    assert "1 of 2 jobs failed" in done.stdout
    [run] = find_runs(tmp_path / "outputs")
    assert run.done
    assert run.name in done.stdout


def test_train_is_a_function_that_may_be_called_again(tmp_path, capsys):
    words = [*TINY, f"paths.outputs={tmp_path}"]
    first = train(configuration.compose([*words, "latent=2"]))
    again = train(configuration.compose([*words, "latent=2"]))
    other = train(configuration.compose([*words, "latent=3"]))
    assert first.path == again.path != other.path
    assert capsys.readouterr().out.count("done already") == 1


class Weights(pl.Callback):
    """The first layer's weights after each step."""

    seen: ClassVar[list[torch.Tensor]] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.seen.append(next(module.encoder.parameters()).detach().clone())


def test_the_moving_average_is_what_is_saved_and_tested(run):
    words = ["latent=3", "hidden=[16]", "batch_size=64", "callbacks=ema", "callbacks.ema.decay=0.8"]
    Weights.seen.clear()
    averaged = run(*words, "+callbacks.weights._target_=tests.test_trainer.Weights", "lr=0.01")
    expected = Weights.seen[0]
    for weights in Weights.seen[1:]:
        expected = 0.8 * expected + 0.2 * weights
    best = torch.load(averaged.best, weights_only=True)["state_dict"]
    name = next(name for name in best if name.startswith("encoder"))
    torch.testing.assert_close(best[name], expected)
    assert not torch.equal(best[name], Weights.seen[-1])
    plain = run("latent=3", "hidden=[16]", "batch_size=64", "lr=0.01")
    assert averaged.path != plain.path


def test_a_killed_run_with_a_moving_average_ends_the_same(tmp_path):
    words = [*SETTING, "callbacks=ema", "callbacks.ema.decay=0.9"]
    code, undisturbed = train_in_child(words, tmp_path / "undisturbed", None)
    assert code == 0
    phases = ["training", "between fit and test"]
    assert list(check_kills(words, undisturbed, tmp_path, phases)) == phases


@pytest.mark.parametrize(("count", "world"), [(257, 1), (256, 1), (258, 2), (259, 2), (1, 1)])
def test_no_batch_of_one_image_is_left(count, world):
    split = Split(torch.zeros(count, 1, 11, 11, dtype=torch.uint8), torch.zeros(count, 1))
    seen = []
    for rank in range(world):
        loader = TrainLoader(split, Corruption(), 64, 0, lambda: (0, 0), rank, world)
        batches = [batch.index for batch in loader]
        assert len(batches) == len(loader)
        assert count == 1 or min(map(len, batches)) > 1
        seen += torch.cat(batches).tolist()
    assert len(seen) == len(set(seen)) == count - count % world


def test_batch_normalisation_trains_with_one_image_over(run):
    assert run("latent=3", "norm=batch", "data.limit=129").done


@pytest.mark.parametrize(
    "words", [["+trainer.limit_val_batches=0"], ["+trainer.check_val_every_n_epoch=2", "epochs=3"]]
)
def test_runs_that_are_not_validated_each_epoch_are_drawn(command, words, tmp_path):
    done = command("train", "-m", "latent=2,3", *TINY, *words)
    assert done.returncode == 0, done.stderr
    drawn = command("report")
    assert drawn.returncode == 0, drawn.stderr
    assert any("history" in path.name for path in tmp_path.rglob("*.png")) == (len(words) > 1)
