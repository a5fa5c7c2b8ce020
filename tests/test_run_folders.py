"""Run folders are foreign input: whatever their files hold, one line, and other runs go on."""

import builtins
import io
import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from ae_lab.core.configuration import CONF
from ae_lab.tracking.registry import find_runs
from ae_lab.tracking.run import Run
from ae_lab.tracking.run_files import find_mismatch
from tests.conftest import SMALL

WORDS = [*SMALL, "latent=2", "hidden=[16]", "data.limit=60", "figures=[]", "run_metrics={}"]
FILES = ["run.json", "status.json", "metrics.json", "history.csv", "environment.json"]
FILES += [".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml"]
FILES += ["evaluations/run_metrics.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"]
DAMAGES = {
    "nothing": None,
    "empty": b"",
    "truncated": "half",
    "text": b"this is \xff no such file\n",
    "list": b"[1, 2]\n",
    "wrong types": b'{"state": 1, "data": 2, "model": [], "test/mse": "a", "metrics": 1}\n',
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An outputs folder with two finished runs and a sweep of them."""
    from ae_lab.training.job import train

    outputs = tmp_path_factory.mktemp("trained") / "outputs"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = [f"paths.outputs={outputs}", *WORDS]
        jobs = [[], ["seed=1"]]
        runs = [train(compose("config", overrides=[*words, *more])) for more in jobs]
        hydra = compose("config", overrides=words, return_hydra_config=True).hydra
    from omegaconf import OmegaConf

    sweep = outputs / "sweeps" / "some"
    for number, run in enumerate(runs):
        run.add_metric("number", {}, lambda: 1.0)
        for name, content in (
            ("overrides", []),
            ("hydra", {"hydra": {"overrides": hydra.overrides}}),
        ):
            OmegaConf.save(content, run.path / ".hydra" / f"{name}.yaml")
        job = {"overrides": jobs[number], "choices": {}, "run": f"../../runs/{run.name}"}
        file = sweep / "sweep.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(file.read_text())["jobs"] if file.exists() else {}
        content = {"started": "2026", "key": "k", "data": {}, "jobs": known | {str(number): job}}
        file.write_text(json.dumps(content))
    table = {"_target_": "ae_lab.reporting.table", "columns": ["test/mse"]}
    OmegaConf.save({"figures": [table]}, sweep / "multirun.yaml")
    return outputs


@pytest.fixture
def folders(trained, tmp_path):
    """A copy of that folder; its two runs."""
    shutil.copytree(trained, tmp_path / "outputs")
    return find_runs(tmp_path / "outputs")


def damage(run: Run, file: str, content: bytes | str | None) -> None:
    path = run.path / file
    if content is None:
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)


def check_one_line(done) -> None:
    assert "Traceback" not in done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == (done.returncode != 0), done.stderr
    assert done.returncode in (0, 1, 2)
    assert not any(word in done.stderr for word in ("TypeError", "KeyError", "ValueError"))


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_a_row_whatever_it_holds(file, folders, command):
    whole, other = folders
    content = (whole.path / file).read_bytes()
    for kind in DAMAGES:
        (whole.path / file).write_bytes(content)
        damage(whole, file, DAMAGES[kind])
        done = command("runs")
        check_one_line(done)
        assert other.name in done.stdout
        faults = Run(whole.path).faults
        assert [fault.path for fault in faults] in ([], [whole.path / file])
        assert all(f"damaged: {fault.why}" in done.stdout for fault in faults)
        # What is not damage then: a run that has no status yet, and what not each run has.
        assert faults or kind == "nothing" or "last.ckpt" in file
        assert "delete the folder" not in str(faults)


@pytest.mark.parametrize(
    ("file", "kind"), [(file, list(DAMAGES)[n % len(DAMAGES)]) for n, file in enumerate(FILES)]
)
def test_a_damaged_file_is_named_and_the_same_command_recovers(file, kind, folders, command):
    whole, other = folders
    if whole.record["identity"]["model.seed"] != 0:
        whole, other = other, whole
    before = whole.metrics
    damage(whole, file, DAMAGES[kind])
    listed, report = command("runs"), command("report", "some")
    evaluated = command("evaluate", f"run={whole.path}", "seed=1")
    for done in (listed, report, evaluated):
        check_one_line(done)
    assert (listed.returncode, report.returncode) == (0, 0), report.stderr
    assert other.name in listed.stdout
    if faults := whole.faults:
        assert f"damaged: {faults[0].why}" in listed.stdout
        assert report.stderr.count(f"skipped: {faults[0]}") <= 1
        assert "delete the folder" not in str(faults)
    trained = command("train", *WORDS)
    check_one_line(trained)
    if trained.returncode:  # a checkpoint: what the advice says leads out
        assert f"{file} is damaged" in trained.stderr
        assert "delete it" in trained.stderr
        (whole.path / file).unlink()
        assert command("train", *WORDS).returncode == 0
    again = Run(whole.path)
    assert again.done
    assert not again.faults
    assert again.metrics["test/mse"] == before["test/mse"]
    assert [row["epoch"] for row in again.history] == [0]


@pytest.mark.parametrize("state", ["done", "interrupted"])
def test_a_run_that_lost_its_best_checkpoint_trains_again_to_the_same(state, folders, command):
    [run] = [one for one in folders if one.record["identity"]["model.seed"] == 0]
    metrics = run.metrics
    run.set_status(state)
    run.best.unlink()
    done = command("train", *WORDS)
    assert done.returncode == 0, done.stderr
    assert "best.ckpt is missing: the run starts again" in done.stdout
    assert Run(run.path).metrics["test/mse"] == metrics["test/mse"]


def test_half_a_folder_is_a_row_and_blocks_nothing(folders, command, tmp_path):
    half = tmp_path / "outputs" / "runs" / "half-copied"
    (half / "checkpoints").mkdir(parents=True)
    (half / "run.json").write_text('{"format": 2, "iden')
    (half.parent / "a file").touch()
    (half.parent / "notes").mkdir()
    listed = command("runs")
    assert "half-copied" in listed.stdout
    assert "damaged: " in listed.stdout
    assert "notes" not in listed.stdout
    assert "half-copied" in command("runs", "state=damaged").stdout
    assert "half-copied" not in command("runs", "latent=2").stdout
    done = command("train", *WORDS, "seed=2", "lr=0.002")
    assert done.returncode == 0
    assert done.stderr.count("half-copied") == 1
    assert [name for name in command("runs", "--csv").stdout.split("\n") if "half" in name]


@pytest.fixture
def forbid(monkeypatch):
    """Make a file one that we may not read, which root may: `forbid(path)`."""

    def _forbid(path: Path) -> None:
        def closed(file, *arguments, real=io.open, **options):
            if not isinstance(file, int) and Path(file).absolute() == path.absolute():
                raise PermissionError(13, "Permission denied", str(file))
            return real(file, *arguments, **options)

        monkeypatch.setattr(io, "open", closed)
        monkeypatch.setattr(builtins, "open", closed)

    return _forbid


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_we_may_not_read_stops_no_other_run(file, folders, command, forbid):
    closed, other = folders
    if closed.record["identity"]["model.seed"] != 0:
        closed, other = other, closed
    forbid(closed.path / file)
    listed, report = command("runs"), command("report", "some")
    for done in (listed, report, command("evaluate", f"run={closed.path}", "seed=1")):
        check_one_line(done)
    assert (listed.returncode, report.returncode) == (0, 0), report.stderr
    assert other.name in listed.stdout
    done = command("train", *WORDS)
    check_one_line(done)
    for output in (listed.stdout, report.stderr, done.stderr):
        assert "damaged" not in output
    if done.returncode:
        assert "cannot be read (Permission denied): make it readable" in done.stderr
    assert (closed.path / file).is_file()


def test_a_file_that_we_may_not_read_is_not_called_damaged(folders, command, forbid):
    [run] = [one for one in folders if one.record["identity"]["model.seed"] == 0]
    forbid(run.path / "metrics.json")
    assert "unreadable: " in command("runs").stdout
    done = command("train", *WORDS)
    assert done.returncode == 2
    assert "cannot be read (Permission denied): make it readable" in done.stderr
    assert "damaged" not in done.stderr


@pytest.mark.parametrize("content", ["", "[]", '{"started": 1}', '{"jobs": {"0": 5}}', "text"])
def test_a_damaged_sweep_is_named(folders, command, tmp_path, content):
    (tmp_path / "outputs" / "sweeps" / "some" / "sweep.json").write_text(content)
    done = command("report", "some")
    check_one_line(done)
    assert done.returncode == 2
    assert "sweep.json is damaged" in done.stderr


def test_checkpoints_of_another_run_are_refused_in_a_line(folders, command, run):
    other = run("latent=3", "hidden=[16]", "data.limit=60")
    shutil.copy(other.best, folders[0].best)
    done = command("evaluate", f"run={folders[0].path}")
    assert done.returncode == 2
    assert "is not of the model" in done.stderr


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        ({"a": 1}, {"a": int}, ""),
        ({}, {"a": int}, "'a' is missing"),
        ({}, {"a?": int}, ""),
        ({"a": "1"}, {"a?": int}, "'a' is not a whole number"),
        ({"x": [1, "2"]}, {str: [int]}, "'x' is not a whole number"),
        ([], {"a": int}, "it is not a mapping"),
        ({"a": {}}, {"a": [str]}, "'a' is not a list"),
    ],
)
def test_what_does_not_have_the_shape_is_said(value, shape, expected):
    assert find_mismatch(value, shape) == expected
