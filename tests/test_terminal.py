"""Any terminal, any pipe, any environment: nothing is lost, and what is wrong is one line."""

import io
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf
from rich.table import Table

from ae_lab.core import configuration
from ae_lab.core.console import print_table
from ae_lab.core.quoting import explain_override
from ae_lab.core.streams import lasting_output
from ae_lab.tracking.registry import find_runs
from tests.conftest import REPOSITORY

TINY = ["data=mnist5k", "data.limit=64", "epochs=1", "hidden=[8]", "latent=2"]


def start(folder, module: str, *words: str, stdout=None, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", f"ae_lab.{module}", *words],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def test_a_run_whose_reader_is_gone_trains_on_in_ascii(tmp_path):
    reading, writing = os.pipe()
    run = start(tmp_path, "train", *TINY, stdout=writing, PYTHONIOENCODING="ascii")
    os.close(writing)
    assert os.read(reading, 4) == b"new:"
    os.close(reading)
    assert run.communicate()[1] == b""
    assert run.returncode == 0
    [done] = find_runs(tmp_path / "outputs")
    assert done.state == "done"
    assert done.metrics["epochs"] == 1


def test_a_full_disk_behind_a_command_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        claims = start(tmp_path, "claims", "--markdown", stdout=full)
        [line] = claims.communicate()[1].decode().splitlines()
    assert claims.returncode == 1
    assert "cannot write to standard output (No space left on device)" in line


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_streams_replace_what_they_cannot_write(encoding, tmp_path, monkeypatch):
    file = (tmp_path / "out").open("w", encoding=encoding)
    monkeypatch.setattr(sys, "stdout", file)
    with lasting_output():
        print("• ± \udcff")
        table = Table(title="± [red]")
        table.add_column("a • b")
        table.add_row("σ [/] :cat:")
        print_table(table)
    assert sys.stdout is file
    text = (tmp_path / "out").read_text(encoding)
    assert "?" in text
    assert "[red]" in text
    assert "[/] :cat:" in text


def test_streams_without_a_file_stay_as_they_are(monkeypatch):
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        with lasting_output():
            assert sys.stdout is stream


@pytest.fixture
def one_run(tmp_path):
    """The record of a run with a long name with brackets."""
    folder = tmp_path / "outputs" / "runs" / "mnist-[bold]mlp-hidden[64]-1234567"
    folder.mkdir(parents=True)
    record = {
        "format": 2,
        "data": {"name": "mnist", "title": "MNIST [/red]", "fingerprint": "f"},
        "metrics": {"mse": False, "psnr": True, "ssim": True},
        "choices": {"model": "mlp"},
        "configuration": {"latent": 2, "seed": 0},
        "identity": {"model.seed": 0},
    }
    numbers = {"test/mse": 0.0426, "test/psnr": 13.7, "parameters": 886386, "seconds": 39.1}
    contents = {"run": record, "metrics": numbers, "status": {"state": "done"}}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / ".hydra").mkdir()
    OmegaConf.save(configuration.compose(["latent=2"]), folder / ".hydra" / "config.yaml")
    (folder / "history.csv").write_text("epoch,step\n0,1\n")
    (folder / "environment.json").write_text("{}")
    (folder / "checkpoints").mkdir()
    for name in ("last", "best"):
        torch.save({"state_dict": {}}, folder / "checkpoints" / f"{name}.ckpt")
    return folder


@pytest.mark.parametrize("width", [20, 40, 60, 85, 200])
def test_a_table_of_runs_shows_everything_at_any_width(width, one_run, command):
    shown = command("runs", COLUMNS=str(width), TTY_COMPATIBLE="1", NO_COLOR="1").stdout
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= width
    letters = re.sub(r"[^\w\[\].,/]", "", plain)
    for text in (one_run.name, "0.0426", "13.70", "886,386", "MNIST [/red]"):
        assert re.sub(r"[^\w\[\].,/]", "", text) in letters


def test_a_table_in_a_pipe_is_as_wide_as_it_needs(one_run, command):
    assert one_run.name in command("runs", COLUMNS="20").stdout


# What the command line and the environment hold

ODD = ["/a(1)", "/Bücher", "/a=b", "/a#b", "/a~b", '/a"b', "/it's", "/x[1]", "/{a}", "/a,b"]


@pytest.mark.parametrize("path", ODD)
def test_a_path_that_hydra_cannot_read_is_shown_as_it_can(path, command, tmp_path):
    words = ["data=folder", f"data.source.path=no{path}"]
    refused = command("train", *words)
    assert refused.returncode == 2
    [line] = refused.stderr.strip().splitlines()
    word = line.partition("quote the value, as in ")[2].partition(";")[0]
    [word] = subprocess.check_output(["printf", "%s\\0", word], text=True).split("\0")[:1]
    shown = subprocess.check_output(["sh", "-c", f"printf %s {word}"], text=True)
    again = command("train", words[0], shown)
    [line] = again.stderr.strip().splitlines()
    assert line == f"error: data.source.path=no{path} is not a folder"


def test_words_that_are_no_settings_are_named():
    assert "expected key=value" in explain_override("latent")
    assert "bracket" in explain_override("hidden=[1,2")


ENVIRONMENTS = {
    "RANK": "abc",
    "LOCAL_RANK": "-1",
    "NODE_RANK": "1.5",
    "SLURM_PROCID": "one",
    "WORLD_SIZE": "two",
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("module", ["train", "runs"])
def test_ranks_that_are_no_numbers_are_named(name, module, command, tmp_path):
    refused = command(module, **{name: ENVIRONMENTS[name]})
    assert refused.returncode == 2
    [line] = refused.stderr.strip().splitlines()
    assert f"{name}={ENVIRONMENTS[name]}" in line
    assert f"`unset {name}`" in line
    assert not list(tmp_path.iterdir())


def test_an_empty_variable_is_none(command, tmp_path):
    empty = dict.fromkeys(("RANK", "LOCAL_RANK", "NODE_RANK", "AE_LAB_CACHE", "AE_LAB_DATA"), "")
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    printed = command("train", "--cfg", "job", "--resolve", "--package", "paths", **empty, **home)
    assert printed.returncode == 0, printed.stderr
    assert f"data: {tmp_path}/cache/ae_lab\n" in f"{printed.stdout}\n".replace("'", "")


@pytest.mark.parametrize("name", ["AE_LAB_AUTO_DATA", "AE_LAB_AUTO_PHOTOGRAPHS"])
def test_a_choice_of_data_that_is_none_is_named(name, command, tmp_path):
    data = "auto" if name == "AE_LAB_AUTO_DATA" else "auto64"
    refused = command("train", f"data={data}", **{name: "nonsense"})
    assert refused.returncode == 2
    [line] = refused.stderr.strip().splitlines()
    assert f"{name}=nonsense is not known: choose from: no, yes" in line


def test_a_folder_of_data_with_markup_is_named_as_it_is(command, tmp_path):
    words = ["data=auto", "data.source.download=false"]
    told = command("prepare_data", *words, AE_LAB_DATA=str(tmp_path / "[red]x[/"))
    assert "[red]x[/" in told.stdout.replace("\n", "").replace("│", "")


def test_a_home_that_cannot_be_written_to_names_the_cure(command, tmp_path):
    from tests.tiny_coco import picture

    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    words = ["data=folder", "data.source.path=.", "data.source.size=16"]
    refused = command("train", *words, HOME="/proc/nowhere", XDG_CACHE_HOME="", AE_LAB_CACHE="")
    assert refused.returncode == 2
    [line] = refused.stderr.strip().splitlines()
    assert "set AE_LAB_CACHE (or paths.cache=...)" in line
