"""The main job as a person runs it: commands, what they print, their exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from ae_lab.tracking.labels import group_by_all_but, labels
from ae_lab.tracking.registry import find_runs
from tests.conftest import REPOSITORY

TINY = ["data=mnist5k", "data.limit=200", "epochs=1", "trainer.enable_progress_bar=false"]


def test_a_sweep_from_the_first_run_to_the_figures(command, tmp_path):
    sweep = ["-m", "model=mlp", "latent=2,5", *TINY]
    first = command("train", *sweep)
    assert first.returncode == 0, first.stderr
    assert len(re.findall(r"mnist5k-mlp-latent[25]-\S+ .*0\.\d{4}", first.stdout)) == 2
    assert "PCA MSE" in first.stdout
    assert "MNIST-5k" in first.stdout

    again = command("train", *sweep)
    assert again.returncode == 0
    assert again.stdout.count("done already") == 2

    drawn = command("report")
    assert drawn.returncode == 0, drawn.stderr
    pictures = [tmp_path / line.strip() for line in drawn.stdout.splitlines() if ".png" in line]
    assert len(pictures) == 3
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert all(path.with_suffix(".svg").is_file() for path in pictures)
    assert "tensorboard --logdir outputs" in drawn.stdout

    listed = command("runs", "latent=5")
    assert "latent5" in listed.stdout
    assert "latent2" not in listed.stdout
    table = command("runs", "--csv").stdout.splitlines()
    assert len(table) == 3
    assert {"run", "state", "latent", "test/mse"} <= set(table[0].split(","))


def test_a_failing_job_does_not_stop_a_sweep(command, tmp_path):
    done = command("train", "-m", "latent=0,2", *TINY)
    assert done.returncode == 1
    assert "1 of 2 jobs failed" in done.stdout
    assert "latent must be an integer >= 1, got 0" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    [run] = find_runs(tmp_path / "outputs")
    assert run.done


OFFLINE = ["data.source.mirrors=[]", "paths.data=nowhere"]


def test_missing_data_fails_once_before_a_sweep_starts(main, capfd, tmp_path):
    assert main("-m", "latent=2,5", "data=mnist", *OFFLINE) == 2
    printed = capfd.readouterr()
    assert printed.err.count("MNIST is not there") == 1
    assert "nowhere/MNIST/raw" in printed.err
    assert "job 0" not in printed.out
    assert not list((tmp_path / "outputs").glob("runs/*"))


def test_nested_settings_distinguish_runs(main, tmp_path):
    assert main("-m", "model=vae", "objective.kl.weight=0,4", *TINY) == 0
    finished = find_runs(tmp_path / "outputs")
    names = [f"weight {weight}" for weight in (0, 4)]
    assert sorted(labels(finished, ("seed",))) == names
    assert len(group_by_all_but("objective.kl.weight", finished)) == 1
    assert len(group_by_all_but("seed", finished)) == 2


def test_a_sweep_on_a_folder_of_images(main, tmp_path):
    from PIL import Image

    (tmp_path / "mine").mkdir()
    for number in range(6):
        Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(tmp_path / "mine" / f"{number}.png")
    words = [
        "data=folder",
        f"data.source.path={tmp_path / 'mine'}",
        "data.source.size=16",
        "model=cnn",
    ]
    words += [f"paths.cache={tmp_path / 'cache'}", "batch_size=2", *TINY[2:]]
    assert main("-m", *words, "lr=0.001,0.002") == 0
    assert len(find_runs(tmp_path / "outputs")) == 2


def test_auto_prints_once_a_sweep_that_it_fell_back(main, capfd):
    assert main("-m", "latent=2,3", *OFFLINE, *TINY[1:]) == 0
    printed = capfd.readouterr().out
    assert printed.count("using MNIST-5k") == 1
    assert "MNIST-5k (embedded subset)" in printed


ERRORS = {
    "latnt=2": "no key 'latnt': did you mean 'latent'?",
    "experiments=grid": "'experiments' is called 'experiment' now",
    "model=cnn_vae": "'model=cnn_vae' is called 'model=vae body=cnn' now",
    "model=mpl": "model=mpl is not known: did you mean 'mlp'?",
    "metrics=[default,l2]": "metrics=l2 is not known: did you mean 'l1'?",
    "preset=model_7": "did you mean 'model_",
    "noise.sigma=0.1": "noise.sigma needs noise=blur or noise=gaussian or",
    "+model.typo=1": "model has no 'model.typo'",
    "+typo=1": "no key 'typo'",
    "activation=rellu": "did you mean 'relu'?",
    "latent=0": "latent must be an integer >= 1, got 0",
    "latent=two": "latent must be an integer, got 'two'",
    "noise=gaussian noise.sigma=-1": "noise.sigma must be a finite number >= 0, got -1",
    "batch_size=0": "batch_size must be an integer >= 1, got 0",
    "epochs=0": "epochs must be an integer >= 1, got 0",
    "lr=nan": "lr must be a finite number > 0, got nan",
    "gradient_clip=-1": "gradient_clip must be a finite number > 0, got -1",
    "objective=likelihood likelihood=bernoulli output=linear": "needs output=sigmoid",
    "dropout=2": "dropout must be a finite number >= 0 and <= 1, got 2",
    "hidden=[500,abc]": "hidden must be a list of integers or null, got [500, 'abc']",
    "depth=7": "depth must be 2 or 3, got 7; set hidden=[...] for other sizes",
    "seed=-1": "seed must be an integer >= 0, got -1",
    "trainer.accelerator=abacus": "abacus",
    "paths.outputs=/proc/nowhere": "cannot write to /proc/nowhere",
    "trainer.accelerator=cuda": "finds no such device on this machine; take",
    "trainer.precision=16-mixed": "does not run on this device (cpu): take auto, or one of 32-true",
    "trainer.precision=fp32": "trainer.precision=fp32 is not known",
    "trainer.fast_dev_run=true": "arguments of Lightning's trainer are added as +trainer.",
    "trainer.max_epoch=3": "did you mean 'trainer.max_epochs'?",
    "hydra/launcher=rq": "not installed: pip install hydra-rq-launcher",
    "callbacks=emma": "callbacks=emma is not known: did you mean 'ema'?",
    "norm=batch batch_size=1": "batch normalisation needs two images",
    "extend=nowhere epochs=2": "extend=nowhere is not a finished run",
    "+trainer.limit_train_batches=0": "trains nothing",
    "+trainer.limit_val_batches=0 early_stopping=2": "early_stopping needs validation",
    "+trainer.val_check_interval='00:01:00'": "must be a number of batches, or a share of an epoch",
    "+trainer.max_steps=0": "trainer.max_steps must be an integer >= 1",
    "+trainer.max_steps=9 +trainer.min_epochs=2": "may disagree: give one of them",
}


@pytest.mark.parametrize("words", ERRORS)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(words, main, capfd, tmp_path):
    assert main(*TINY, *words.split()) == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert ERRORS[words] in line
    assert not list((tmp_path / "outputs").glob("runs/*"))


def test_a_mistyped_choice_in_a_sweep_is_one_line_too(main, capfd):
    assert main("-m", "model=mlp,mpl", *TINY) == 2
    assert "did you mean 'mlp'?" in capfd.readouterr().err


def test_the_traceback_is_there_for_who_asks(main, monkeypatch, capfd):
    monkeypatch.setenv("AE_LAB_TRACEBACK", "1")
    for words in (["latent=0"], ["-m", "latent=0,2"]):
        assert main(*words, *TINY) in (1, 2)
        errors = capfd.readouterr().err
        assert "Traceback (most recent call last)" in errors
        assert "error: latent must be an integer >= 1, got 0" in errors


def test_generation_from_a_conditional_run(command, tmp_path):
    assert command("train", "conditional=true", "preset=model_1", *TINY).returncode == 0
    [run] = find_runs(tmp_path / "outputs")
    generated = command("generate", f"run={run.path}", "label=7", "n=20")
    assert generated.returncode == 0, generated.stderr
    from PIL import Image

    picture = Image.open(generated.stdout.split()[0])
    assert picture.size == (8 * 28 * 3, 3 * 28 * 3)
    refused = command("generate", f"run={run.path}", "label=12")
    assert refused.returncode == 2
    assert "label=12 is not known" in refused.stderr


def test_generation_names_what_it_needs(command, tmp_path):
    assert "which run?" in command("generate").stderr
    assert "not a run folder" in command("generate", "run=nowhere").stderr
    command("train", *TINY)
    [run] = find_runs(tmp_path / "outputs")
    assert "not conditional" in command("generate", f"run={run.path}", "label=1").stderr


def test_tensorboard_has_scalars_images_hyperparameters_and_the_codes(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    finished = run("latent=3", "data.limit=512", "trainer.log_every_n_steps=2", "epochs=2")
    events = EventAccumulator(str(finished.path)).Reload()
    scalars = set(events.Tags()["scalars"])
    expected = {
        "train/loss",
        "val/mse",
        "val/psnr",
        "val/ssim",
        "test/mse",
        "test/psnr",
        "test/ssim",
    }
    assert expected <= scalars
    assert any("lr" in name for name in scalars)
    assert len(events.Images(events.Tags()["images"][0])) == 2
    assert "_hparams_/session_start_info" in events.summary_metadata
    [final] = {event.value for event in events.Scalars("test/mse")}
    assert final == pytest.approx(finished.metrics["test/mse"])
    projector = (finished.path / "projector_config.pbtxt").read_text()
    assert "metadata_path" in projector
    assert "sprite" in projector


def test_history_and_events_are_cut_back_to_the_checkpoint(run):
    """A run that is resumed from epoch 1 of 3 shows each epoch once."""
    import shutil

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from ae_lab.training.callbacks import Checkpoints

    saved = []
    save = Checkpoints.save

    def copy_the_first(self, trainer):
        save(self, trainer)
        if not saved:
            saved.append(shutil.copy(self.folder / "last.ckpt", self.folder / "first"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", copy_the_first)
        finished = run("latent=3", "epochs=3")
    before = finished.history
    shutil.move(saved[0], finished.last)
    finished.set_status("interrupted")
    finished = run("latent=3", "epochs=3")
    assert [row["epoch"] for row in finished.history] == [0, 1, 2]
    assert [row["val/mse"] for row in finished.history] == [row["val/mse"] for row in before]
    events = EventAccumulator(str(finished.path)).Reload()
    assert [event.step for event in events.Scalars("val/mse")] == [1, 3, 5]


def test_options_of_training_do_what_they_say(run):
    stopped = run("early_stopping=1", "epochs=9", "lr=1e-9")
    assert stopped.metrics["epochs"] < 9
    [early_stopping] = (
        state
        for name, state in torch.load(stopped.last, weights_only=True)["callbacks"].items()
        if "EarlyStopping" in name
    )
    assert early_stopping["wait_count"] == 1  # so that a run which goes on from here would not
    clipped = run("gradient_clip=1e-6", "weight_decay=0", "trainer.precision=32-true")
    free = run("weight_decay=0", "trainer.precision=32-true")
    assert clipped.metrics["test/mse"] != free.metrics["test/mse"]


def test_compiled_training_gives_the_same_model_to_rounding(run):
    plain = run("hidden=[32]", "latent=3", "trainer.precision=32-true")
    before = torch.load(plain.best, weights_only=True)["state_dict"]
    compiled = run(
        "hidden=[32]", "latent=3", "trainer.precision=32-true", "compile=true", "force=true"
    )
    assert compiled.path == plain.path
    after = torch.load(compiled.best, weights_only=True)["state_dict"]
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_marked_and_says_how_to_resume(sent, code, tmp_path):
    # A suite that runs in a shell's background was told to ignore the signal, and so would the run.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ae_lab.train", "data=mnist5k", "epochs=500", "logger=none"),
            "checkpoint_seconds=0",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("outputs/runs/*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(sent)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == code if code else process.returncode != 0
    assert "rerun the command to resume" in printed
    [run] = find_runs(tmp_path / "outputs")
    assert json.loads((run.path / "status.json").read_text())["state"] == "interrupted"
