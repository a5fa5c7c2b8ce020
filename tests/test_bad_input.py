"""What a person may type wrong: one line that names the cure, exit code 2, nothing written."""

import pytest

from ae_lab.core.errors import UserError
from ae_lab.training.dry_run import check_size

TINY = "data=mnist5k data.limit=64 epochs=1 trainer.enable_progress_bar=false"
TRAIN = {
    # types
    "force=no": "force must be true or false, got 'no'",
    "compile=no": "compile must be true or false, got 'no'",
    "compile=5": "compile must be true or false, got 5",
    "fast_path=maybe": "fast_path must be true or false",
    "data.random_flip=no": "data.random_flip must be true or false, got 'no'",
    "data.binarize=yes": "data.binarize must be true or false, got 'yes'",
    "noise=gaussian noise.clip=no": "noise.clip must be true or false",
    "noise=salt_pepper noise.per_channel=1": "noise.per_channel must be true or false, got 1",
    "conditional=5": "conditional must be true or false, got 5",
    "condition_encoder=no": "condition_encoder must be true or false",
    "trainer.enable_progress_bar=no": "trainer.enable_progress_bar must be true or false",
    "optimizer.betas=0.9": "optimizer.betas must be a list of numbers, got 0.9",
    "optimizer.betas=[0.9,abc]": "optimizer.betas must be a list of numbers",
    "optimizer.fast_path=no": "optimizer.fast_path must be true or false",
    "hidden=1.5": "hidden must be a list of integers or null, got 1.5",
    "hidden=abc": "hidden must be a list of integers or null, got 'abc'",
    "hidden=[1,null]": "hidden must be a list of integers or null",
    "hidden=[2.5]": "hidden must be a list of integers or null, got [2.5]",
    "checkpoint_seconds=abc": "checkpoint_seconds must be a number, got 'abc'",
    "seed=abc": "seed must be an integer, got 'abc'",
    "seed=1.5": "seed must be an integer, got 1.5",
    "seed=true": "seed must be an integer, got true",
    "latent=2.5": "latent must be an integer, got 2.5",
    "latent=null": "latent must be an integer, got null",
    "latent=": "latent must be an integer, got ''",
    "latent=two": "latent must be an integer, got 'two'",
    "latent=[2]": "latent must be an integer, got [2]",
    "lr=abc": "lr must be a number, got 'abc'",
    "lr=true": "lr must be a number, got true",
    "lr=[0.1]": "lr must be a number, got [0.1]",
    "weight_decay=abc": "weight_decay must be a number",
    "dropout=abc": "dropout must be a number, got 'abc'",
    "batch_size=2.5": "batch_size must be an integer, got 2.5",
    "batch_size=abc": "batch_size must be an integer, got 'abc'",
    "epochs=abc": "epochs must be an integer, got 'abc'",
    "epochs=true": "epochs must be an integer, got true",
    "epochs=1.5": "epochs must be an integer, got 1.5",
    "depth=two": "depth must be an integer, got 'two'",
    "activation=5": "activation=5 is not known: choose from: gelu",
    "norm=5": "norm=5 is not known: choose from: batch, layer, none",
    "early_stopping=abc": "early_stopping must be an integer or null",
    "early_stopping=1.5": "early_stopping must be an integer or null, got 1.5",
    "gradient_clip=abc": "gradient_clip must be a number or null",
    "extend=[1]": "extend must be text or null, got [1]",
    "init_from=[1]": "init_from must be text or null, got [1]",
    "run_metrics=5": "run_metrics must be a group, got 5",
    "figures=5": "figures must be a list",
    "run=5": "run must be a group, got 5",
    "data.limit=abc": "data.limit must be an integer or null, got 'abc'",
    "data.random_shift=abc": "data.random_shift must be an integer, got 'abc'",
    "data.shape=5": "data.shape must be a list of integers, got 5",
    "data.classes=ten": "data.classes must be an integer, got 'ten'",
    "scheduler.warmup=abc": "scheduler.warmup must be a number, got 'abc'",
    "noise=gaussian noise.sigma=abc": "noise.sigma must be a number or a list of numbers",
    "noise=gaussian noise.sigma=[a,b]": "noise.sigma must be a number or a list of numbers",
    "model=vae objective.kl.weight=abc": "objective.kl.weight must be a number, got 'abc'",
    "model.encoder=5": "model.encoder must be a part with a _target_, got 5",
    "model.bottleneck=null": "model.bottleneck must be a part with a _target_, got null",
    "data.source=null": "data.source must be a part with a _target_, got null",
    "trainer.log_every_n_steps=abc": "trainer.log_every_n_steps must be an integer or null",
    "+trainer.accumulate_grad_batches=two": "trainer.accumulate_grad_batches must be an integer",
    # ranges
    "epochs=-1": "epochs must be an integer >= 1, got -1",
    "early_stopping=0": "early_stopping must be an integer >= 1, got 0",
    "trainer.max_epochs=0": "trainer.max_epochs must be an integer >= 1, got 0",
    "trainer.devices=0": "devices",
    "trainer.devices=-3": "devices",
    "trainer.devices=abc": "devices",
    "trainer.accelerator=5": "accelerator",
    "data.limit=0": "data.limit must be an integer >= 1, got 0",
    "data.random_shift=-1": "data.random_shift must be an integer >= 0, got -1",
    "data.random_shift=10000": "moves images of 28×28 out of sight",
    "weight_decay=-1": "weight_decay must be a finite number >= 0, got -1",
    "scheduler.warmup=2": "scheduler.warmup must be a finite number >= 0 and <= 1, got 2",
    "model=vae objective.kl.warmup=2": "warmup must be a finite number >= 0 and <= 1, got 2",
    "noise=gaussian noise.sigma=[0.5,0.1]": "noise.sigma must be a number or [lowest, highest]",
    "noise=salt_pepper noise.amount=2": "noise.amount must be a finite number >= 0 and <= 1",
    # what does not exist
    "activation=relo": "activation=relo is not known: did you mean 'relu'?",
    "activation=torch.nn.Nope": "activation=torch.nn.Nope is not a class",
    "output=relu": "output=relu is not known: did you mean 'residual'?",
    "output=5": "output=5 is not known: choose from: linear",
    "likelihood=poisson": "likelihood=poisson is not known: choose from: bernoulli, gaussian",
    "preset=/etc/passwd": "preset=/etc/passwd is not known",
    "preset=../x": "preset=../x is not known",
    "preset=cnn_ablation/dens128": "did you mean 'cnn_ablation/dense128'?",
    "objective.kl.weight=2": "objective.kl.weight needs objective=elbo",
    "model.bottleneck.samples=3": "model.bottleneck.samples needs model=iwae",
    "data.source.path=nowhere": "data.source.path needs data=folder",
    "hydra.foo=1": "Hydra has no setting 'hydra.foo'",
    "+model.encoder.typo=3": "model.encoder has no 'model.encoder.typo'",
    "+optimizer.lrr=3": "did you mean",
    "+foo=1": "there is no key 'foo'",
    **{
        f"{group}=null": f"{group}=null is no choice: choose from: "
        for group in ("model", "data", "noise", "optimizer", "scheduler", "trainer", "logger")
    },
    **{
        f"{group}=null": f"{group}=null is no choice: choose from: "
        for group in ("objective", "body", "bottleneck", "likelihood", "metrics", "callbacks")
    },
    "metrics=[]": "metrics=[] is no choice: choose from: default",
    "noise=0.2": "noise=0.2 is no choice: choose from: gaussian",
    "model=5": "model=5 is no choice",
    # what does not fit
    "model=cnn_skip model.encoder.depth=2": "the parts do not fit each other or images of",
    "model=unet data=photos64 model.decoder.width=16": "the parts do not fit each other",
    "latent=1000000000000": "parameters, which take 3,216,000 GB to train, and this machine has",
    "hidden=[1000000,1000000]": "choose a smaller latent, hidden or depth",
    "depth=40": "depth must be 2 or 3, got 40",
    "model=cnn depth=40": "the model cannot be built",
    # words
    "=5": "write key=value, as in latent=5",
    "latent=range(2,1)": "requires --multirun",
    "latent=2,3": "several values, as of a sweep, need -m",
    "-m latent=range(2,1)": "the sweep has no job: latent=range(2,1) stands for no value",
    "~latent": "latent must be an integer, got null",
    "~trainer.devices": "the configuration lacks 'devices': leave out what takes it away",
    "~model": "the configuration lacks",
}
EVALUATE = {
    "": "which run? Give run=outputs/runs/...",
    "run=5": "5 is not a run folder",
    "run=nowhere": "nowhere is not a run folder",
    "run=[1]": "run must be text or null, got [1]",
    "run=nowhere seed=abc": "seed must be an integer, got 'abc'",
    "run=nowhere force=no": "force must be true or false, got 'no'",
    "run=nowhere batch_size=abc": "batch_size must be an integer",
    "run=nowhere +foo=1": "there is no key 'foo'",
    "run=nowhere evaluator=[]": "evaluator=[] is no choice",
    "run=nowhere evaluator=smples": "did you mean 'samples'?",
    "run=nowhere noise=null": "noise=null is no choice",
}
GENERATE = {
    "": "which run? Give run=outputs/runs/...",
    "run=nowhere n=abc": "n must be an integer, got 'abc'",
    "run=nowhere columns=1.5": "columns must be an integer, got 1.5",
    "run=nowhere label=[1]": "label must be text or null, got [1]",
    "run=nowhere file=[x]": "file must be text or null",
    "run=nowhere figure=plane": "'figure=plane' is called 'figure=latent_grid' now",
    "run=nowhere sampler=gm": "did you mean 'gmm'?",
    "run=nowhere +foo=1": "there is no key 'foo'",
}
CASES = [("train", words, TINY, part) for words, part in TRAIN.items()]
CASES += [("evaluate", words, "", part) for words, part in EVALUATE.items()]
CASES += [("generate", words, "", part) for words, part in GENERATE.items()]


@pytest.mark.parametrize(("module", "words", "more", "part"), CASES)
def test_a_mistake_is_one_line(module, words, more, part, command, tmp_path):
    keys = {word.partition("=")[0] for word in words.split()}
    usual = [word for word in more.split() if word.partition("=")[0] not in keys]
    done = command(module, *usual, *words.split())
    assert done.returncode == 2, done.stdout
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert part in line
    assert "Error in call to target" not in line
    assert not list((tmp_path / "outputs").glob("runs/*"))


def test_a_number_may_be_the_name_of_a_folder(command, tmp_path):
    done = command("train", "data=folder", "data.source.path=2024", "epochs=1")
    assert "data.source.path=2024 is not a folder" in done.stderr


def test_flags_may_stand_behind_the_words(command):
    done = command("train", *TINY.split(), "latent=2,3", "hidden=[16]", "-m")
    assert done.returncode == 0
    assert done.stdout.count("new:") == 2


def test_a_sweep_says_first_which_jobs_cannot_run(command):
    done = command("train", "-m", *TINY.split(), "hidden=[16]", "latent=2,0")
    assert done.returncode == 1
    announced = done.stdout.index("job 1 cannot run")
    assert "latent must be an integer >= 1, got 0" in done.stdout[announced:]
    assert announced < done.stdout.index("new:")


def test_the_size_of_a_model_is_told_in_words():
    check_size(10**6)
    with pytest.raises(UserError, match="10,000,000,000,000 parameters, which take 160,000 GB"):
        check_size(10**13)
