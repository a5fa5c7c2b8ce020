"""What a person may type wrong: one line that names the cure, exit code 2, nothing written."""

import re

import pytest

from ae_lab.core.errors import UserError
from ae_lab.training.dry_run import check_size
from tests.mistakes import MISTAKES

BARE_CLASS = re.compile(r"\b\w+(Error|Exception|Warning)\b")
TINY = "data=mnist5k data.limit=64 epochs=1 trainer.enable_progress_bar=false"
CASES = [(name, *row) for name, rows in MISTAKES.items() for row in rows.items()]


@pytest.mark.parametrize(("module", "words", "part"), CASES)
def test_a_mistake_is_one_line(module, words, part, command, tmp_path):
    keys = {word.partition("=")[0] for word in words.split()}
    usual = TINY.split() if module == "train" else []
    usual = [word for word in usual if word.partition("=")[0] not in keys]
    done = command(module, *usual, *words.split())
    assert done.returncode == 2, done.stdout
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert part in line
    assert "Error in call to target" not in line
    assert not BARE_CLASS.search(line)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


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
