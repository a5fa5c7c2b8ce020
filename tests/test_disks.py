"""Disks that are full, or not ours to write to.

A full disk is simulated: the call that writes raises what the system would. One is real.
"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ae_lab.core import files
from ae_lab.core.command import explain_error
from ae_lab.core.errors import CannotWrite, UserError
from ae_lab.tracking.registry import find_runs
from ae_lab.tracking.run import Run
from tests.conftest import REPOSITORY, SMALL

WORDS = [*SMALL, "latent=2", "hidden=[16]", "data.limit=60", "run_metrics={}"]
WORDS += ["figures=[{_target_:ae_lab.reporting.table,columns:[test/mse]}]"]
WORDS += ["hydra.callbacks.sweep.columns=[]"]


@pytest.fixture
def full(monkeypatch):
    """Make writing of a file fail after so many times: `full("last.ckpt", 1)`."""

    def _full(name: str, times: int = 0, number: int = errno.ENOSPC) -> None:
        left = [times]

        def refuse(path) -> None:
            if name in str(path):
                left[0] -= 1
                if left[0] < 0:
                    Path(path).touch()  # what was written before the disk was full
                    raise OSError(number, os.strerror(number))

        def write_text(self, *arguments, real=Path.write_text, **options):
            refuse(self)
            return real(self, *arguments, **options)

        def save(content, file, *arguments, real=torch.save):
            refuse(file.name)
            return real(content, file, *arguments)

        monkeypatch.setattr(Path, "write_text", write_text)
        monkeypatch.setattr(torch, "save", save)

    return _full


@pytest.fixture
def closed(monkeypatch):
    """Make a folder one that we may not write to, which root may: `closed(folder)`."""

    def _closed(folder: Path) -> None:
        def access(path, mode, real=os.access) -> bool:
            here = Path(path).absolute()
            return folder not in (here, *here.parents) and real(path, mode)

        def make(self, *arguments, real=Path.mkdir, **options):
            if folder in self.absolute().parents and not self.exists():
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
            return real(self, *arguments, **options)

        def acquire(self, *arguments, real=files.FileLock.acquire, **options):
            if folder in Path(self.lock_file).absolute().parents:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), self.lock_file)
            return real(self, *arguments, **options)

        monkeypatch.setattr(os, "access", access)
        monkeypatch.setattr(Path, "mkdir", make)
        monkeypatch.setattr(files.FileLock, "acquire", acquire)

    return _closed


def check_refused(done, code: int, *words: str) -> None:
    errors = done.stderr.strip().splitlines()
    assert done.returncode == code, done.stderr
    assert len(errors) == 1, done.stderr
    assert all(word in errors[0] for word in words), errors


def test_a_file_that_could_not_be_written_is_as_it_was_and_leaves_no_part(tmp_path, full):
    file = tmp_path / "a.json"
    files.write_json(file, 1)
    full("a.json")
    with pytest.raises(CannotWrite, match=r"a\.json \(No space left on device\): free some space"):
        files.write_json(file, 2)
    assert json.loads(file.read_text()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_libraries_raise_after_a_full_disk_is_known(tmp_path):
    def write() -> None:
        with files.replace_atomically(tmp_path / "x"):
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            finally:
                raise RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64")

    with pytest.raises(CannotWrite, match="No space left"):
        write()


def test_an_error_that_is_raised_again_is_explained():
    """TensorBoard keeps the error of its thread, and raises it again at each call."""
    kept = OSError(errno.ENOSPC, "No space left on device", "events")

    def call_twice() -> None:
        try:
            raise RuntimeError("the writer has ended") from kept
        except RuntimeError:
            raise kept  # noqa: B904

    with pytest.raises(OSError, match="No space left") as raised:
        call_twice()
    assert raised.value.__context__.__cause__ is raised.value
    assert explain_error(raised.value).startswith("cannot write events (No space left")


@pytest.mark.parametrize("file", ["last.ckpt", "best.ckpt", "history.csv"])
def test_a_disk_that_fills_while_training_is_named(command, full, tmp_path, monkeypatch, file):
    full(file)
    done = command("train", *WORDS)
    check_refused(done, 1, "cannot write outputs/runs/", file, "No space left", "free some space")
    [run] = find_runs(tmp_path / "outputs")
    assert run.status["state"] == "failed"
    assert not list(run.path.rglob("*.part"))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert command("train", *WORDS).returncode == 0
    assert Run(run.path).done


def test_a_disk_without_room_for_the_status_leaves_no_run_that_runs(command, full, tmp_path):
    full("status.json", times=1)
    done = command("train", *WORDS)
    check_refused(done, 1, "status.json", "free some space")
    [run] = find_runs(tmp_path / "outputs")
    assert run.state == "interrupted"
    assert not (run.path / "status.json").exists()


def test_evaluations_and_figures_on_a_full_disk(command, full, tmp_path):
    assert command("train", "-m", *WORDS).returncode == 0
    run = find_runs(tmp_path / "outputs")[0]
    for name in (".json", ".csv", ".tex"):
        full(name)
    for words in (("evaluate", f"run={run.path}"), ("report",)):
        check_refused(command(*words), 2, "cannot write", "No space left", "free some space")
    assert not list(tmp_path.rglob("*.part"))


def test_what_cannot_be_written_is_refused_before_the_work(command, closed, tmp_path, monkeypatch):
    assert command("train", "-m", *WORDS).returncode == 0
    run = find_runs(tmp_path / "outputs")[0]
    assert command("evaluate", f"run={run.path}", "seed=3").returncode == 0
    closed(tmp_path)

    def work(*_, **__):
        raise AssertionError("it worked in vain")

    monkeypatch.setattr("ae_lab.inference.loaded_run.load_data", work)
    monkeypatch.setattr("ae_lab.reporting.drawing.draw_figure", work)
    monkeypatch.setattr("pytorch_lightning.Trainer.fit", work)
    for words in (
        ("train", *WORDS, "seed=7"),
        ("train", "-m", "seed=7,8", *WORDS),
        ("evaluate", f"run={run.path}", "noise=speckle"),
        ("generate", f"run={run.path}"),
        ("generate", f"run={run.path}", f"file={tmp_path}/x.png"),
        ("report",),
        ("report", "--all"),
    ):
        check_refused(
            command(*words),
            2,
            "cannot write to",
            "that you can write to" if "evaluate" in words else "choose",
        )
    # What is there already is read.
    done = command("train", *WORDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("done already")
    assert command("evaluate", f"run={run.path}", "seed=3").returncode == 0
    assert command("runs").returncode == 0


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to"):
        files.check_writable(tmp_path / "file" / below)
    files.check_writable(tmp_path / "new" / below)


# A disk of 4 MB, below the size of a checkpoint, that has room for it when the run is resumed.
SMALL_DISK = """
import os
from ae_lab.train import main

def train():
    try:
        main()
    except SystemExit as stop:
        return stop.code
    return 0

if os.system("mount -t tmpfs -o size=4m tmpfs outputs"):
    raise SystemExit(77)
print("first:", train())
os.system("find outputs -name '*.part'; mount -o remount,size=100m outputs")
print("second:", train())
"""


def test_a_run_goes_on_when_a_real_disk_has_room_again(tmp_path):
    (tmp_path / "outputs").mkdir()
    words = [*SMALL, "data.limit=60", "run_metrics={}"]
    disk = ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        done = subprocess.run(
            [*disk, sys.executable, "-c", SMALL_DISK, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare, which makes a disk of our own")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system lets us make no disk of our own")
    assert "first: 1" in done.stdout
    assert ".part" not in done.stdout
    [line] = done.stderr.strip().splitlines()
    assert "cannot write outputs/runs/" in line
    assert "No space left on device): free some space there and rerun the command" in line
    assert "second: 0" in done.stdout
