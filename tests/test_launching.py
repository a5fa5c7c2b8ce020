"""Jobs in processes of their own: what they get of the machine, how they end, who trains what."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from filelock import FileLock
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from ae_lab.core import command, configuration
from ae_lab.core.errors import UserError
from ae_lab.launching import process, resources
from ae_lab.launching.fork_server import ForkServer
from ae_lab.launching.local import LocalSweep
from ae_lab.launching.plugins import register_plugins
from ae_lab.launching.process import JobProcess
from ae_lab.launching.resources import Resources
from ae_lab.tracking.facts import Facts
from ae_lab.tracking.finished import find_finished_run
from ae_lab.tracking.registry import find_runs
from ae_lab.tracking.run import Run
from ae_lab.tracking.sweeps import find_sweeps
from tests.conftest import SMALL
from tests.test_train import TINY

DONE, KILLED, FAILED, LONG = "be_done", "be_killed", "fail", "take_long"  # of a scripted job


class ScriptedJob(JobProcess):
    script = DONE

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.scripted_job", str(self.target), self.script]

    @property
    def target(self) -> Path:
        return self.folder.parent / "runs" / str(self.number)


@pytest.fixture(params=[True, False], ids=["forked", "started"])
def sweep(request, tmp_path, monkeypatch):
    """A sweep whose jobs are scripts: `sweep(DONE, KILLED, n_parallel=2)`, in processes of either
    kind."""
    monkeypatch.setattr(process, "may_fork", lambda share: request.param)

    def _sweep(*scripts: str, words=(), **options) -> LocalSweep:
        folder = tmp_path / "sweep"
        folder.mkdir(exist_ok=True)
        (tmp_path / "runs").mkdir(exist_ok=True)
        started = {"started": "", "key": "", "data": {}, "jobs": {}}
        (folder / "sweep.json").write_text(json.dumps(started))
        config = configuration.compose(list(words), return_hydra_config=True)
        jobs = []
        for number, script in enumerate(scripts):
            job = ScriptedJob(number, [], folder, f"job {number}")
            job.script = script
            jobs.append(job)
        machine = Resources.of_machine(**{"n_parallel": 2, "gpus": [], **options})
        return LocalSweep(jobs, machine, ForkServer(), lambda job: config)

    return _sweep


def wait_for_start(job: ScriptedJob) -> None:
    while not Path(f"{job.target}.json").exists():
        time.sleep(0.01)


def variables(sweep: LocalSweep) -> list[dict[str, str]]:
    return [json.loads(Path(f"{job.target}.json").read_text()) for job in sweep.jobs]


def test_cores_are_divided_among_the_jobs(monkeypatch):
    monkeypatch.setattr(resources, "count_cores", lambda: 8)
    assert Resources.of_machine(gpus=[]).n_parallel == 8
    assert Resources.of_machine(gpus=[]).threads == 1
    assert Resources.of_machine(n_parallel=3, gpus=[]).threads == 2
    machine = Resources.of_machine(gpus=[0, 1])
    assert (machine.n_parallel, machine.threads) == (2, 4)
    assert machine.take(2, on_gpu=False).threads == 2  # of each of two processes
    for wrong in ({"n_parallel": 0}, {"threads": 0}):
        with pytest.raises(UserError, match="must be an integer >= 1"):
            Resources.of_machine(gpus=[], **wrong)


def test_gpus_are_handed_out_and_taken_back():
    machine = Resources(n_parallel=4, threads=1, gpus=["3", "5", "7"])
    one, two = machine.take(1, on_gpu=True), machine.take(2, on_gpu=True)
    assert [one.gpus, two.gpus] == [["3"], ["5", "7"]]
    assert two.environment["CUDA_VISIBLE_DEVICES"] == "5,7"
    assert machine.take(1, on_gpu=True) is None
    assert machine.take(1, on_gpu=False).gpus == []
    machine.give_back(two)
    assert machine.take(2, on_gpu=True).gpus == ["5", "7"]
    with pytest.raises(UserError, match=r"trainer\.devices=4 is more than the 3 GPUs"):
        machine.take(4, on_gpu=True)


def test_gpus_are_those_that_the_environment_names(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5f")
    assert resources.find_gpus() == ["2", "GPU-5f"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, -1, 4")
    assert resources.find_gpus() == ["3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert resources.find_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resources.find_gpus() == []


def test_each_job_gets_its_share(sweep):
    jobs = sweep(DONE, DONE, DONE, threads=3, gpus=[4, 6], n_parallel=2)
    jobs.run()
    assert {job.state for job in jobs.jobs} == {process.DONE}
    assert {one["OMP_NUM_THREADS"] for one in variables(jobs)} == {"3"}
    assert {one["CUDA_VISIBLE_DEVICES"] for one in variables(jobs)} == {"4", "6"}
    both = sweep(DONE, gpus=[4, 6], threads=3, words=["trainer.devices=2"])
    both.jobs[0].number = 9
    both.run()
    [one] = variables(both)
    assert (one["CUDA_VISIBLE_DEVICES"], one["OMP_NUM_THREADS"]) == ("4,6", "1")


def test_a_job_that_is_killed_is_one_failed_row(sweep, capsys):
    jobs = sweep(KILLED, FAILED, DONE)
    jobs.run()
    killed, failed, done = jobs.jobs
    assert [job.state for job in jobs.jobs] == [process.FAILED, process.FAILED, process.DONE]
    assert "killed by SIGKILL" in killed.why
    assert "exit code 3: the disk is on fire" in failed.why
    [record] = find_sweeps(killed.folder)
    assert [("error" in one, "run" in one) for one in record.outcomes] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert capsys.readouterr().out.count("failed: ") == 2
    assert done.run.done


def test_a_job_that_cannot_be_started_leaves_its_share_to_others(sweep):
    jobs = sweep(DONE, DONE, DONE, n_parallel=1)
    (jobs.jobs[0].folder / "job_0.log").mkdir()
    jobs.run()
    assert [job.state for job in jobs.jobs] == [process.FAILED, process.DONE, process.DONE]


def test_a_kill_for_want_of_memory_is_named(sweep, monkeypatch):
    kills = iter(range(10))
    monkeypatch.setattr(process, "count_oom_kills", lambda: next(kills))
    jobs = sweep(KILLED)
    jobs.run()
    assert "killed by the kernel, which was out of memory" in jobs.jobs[0].why


def test_fail_fast_interrupts_what_runs_and_starts_no_more(sweep):
    jobs = sweep(LONG, FAILED, DONE)
    jobs.fail_fast = True
    jobs.run()
    states = [job.state for job in jobs.jobs]
    assert states == [process.INTERRUPTED, process.FAILED, process.WAITING]
    assert Path(f"{jobs.jobs[0].target}.interrupted").exists()


def test_one_ctrl_c_interrupts_the_jobs_and_ends_the_sweep(sweep, capsys):
    jobs = sweep(LONG, LONG, DONE)

    def press() -> None:
        for job in jobs.jobs[:2]:
            wait_for_start(job)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(SystemExit) as stop:
        jobs.run()
    assert stop.value.code == 130
    assert [job.state for job in jobs.jobs][:2] == [process.INTERRUPTED] * 2
    assert all(Path(f"{job.target}.interrupted").exists() for job in jobs.jobs[:2])
    assert "interrupted: 0 of 3 jobs are done; rerun the command" in capsys.readouterr().out


def test_a_run_that_another_process_trains_is_left_to_it(sweep, tmp_path, capsys, monkeypatch):
    jobs = sweep(FAILED, DONE)  # the first finds its run locked, and fails
    [other, _] = jobs.jobs
    other.target.mkdir(parents=True)
    (other.target / "status.json").write_text('{"state": "running"}')

    def train_elsewhere(held: threading.Event) -> None:
        with FileLock(other.target / ".lock", thread_local=False):
            held.set()
            while not (tmp_path / "runs" / "1").exists() or other.state != process.ELSEWHERE:
                time.sleep(0.01)
            (other.target / "status.json").write_text('{"state": "done"}')

    held = threading.Event()
    thread = threading.Thread(target=train_elsewhere, args=(held,))
    thread.start()
    held.wait()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "faults", [])  # nothing but a status was written
        jobs.run()
    thread.join()
    assert [job.state for job in jobs.jobs] == [process.DONE] * 2
    assert f"another process trains {other.target}" in capsys.readouterr().out


@pytest.mark.parametrize("sweep", [True], indirect=True)
def test_jobs_outlive_what_forked_them(sweep, monkeypatch):
    """Those that wait are forked by another server, each with the environment of its start."""
    monkeypatch.setattr(Run, "faults", [])  # nothing but a status is written
    monkeypatch.setenv("AE_LAB_TEST", "before")
    jobs = sweep("be_done_when_told", "be_killed_when_told", DONE, n_parallel=2)
    first, killed, last = jobs.jobs

    def kill_server() -> None:
        wait_for_start(first)
        wait_for_start(killed)
        os.environ["AE_LAB_TEST"] = "after"
        jobs.server.process.kill()
        jobs.server.process.wait()
        Path(f"{killed.target}.told").touch()
        while last.state not in process.ENDED:
            time.sleep(0.01)
        Path(f"{first.target}.told").touch()

    thread = threading.Thread(target=kill_server)
    thread.start()
    jobs.run()
    thread.join()
    assert [job.state for job in jobs.jobs] == [process.DONE, process.FAILED, process.DONE]
    assert "killed by SIGKILL" in killed.why
    before, _, after = variables(jobs)
    assert (before["AE_LAB_TEST"], after["AE_LAB_TEST"]) == ("before", "after")
    assert before["session"] == before["pid"] != after["session"]


def test_a_forked_job_trains_what_a_single_run_does(command, tmp_path):
    words = [*TINY, "dropout=0.1", "noise=gaussian", "trainer.precision=32-true"]
    alone = command("train", "seed=1", *words, "paths.outputs=alone")
    assert alone.returncode == 0, alone.stderr
    local = ["hydra/launcher=local", f"hydra.launcher.threads={torch.get_num_threads()}"]
    swept = command("train", "-m", "seed=1,2", *words, *local, "hydra.launcher.gpus=[]")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    [one] = find_runs(tmp_path / "alone")
    [same] = [run for run in find_runs(tmp_path / "outputs") if run.name == one.name]
    expected, actual = (torch.load(run.last, weights_only=True) for run in (one, same))
    assert expected["state_dict"].keys() == actual["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        assert torch.equal(actual["state_dict"][name], value), name


def test_a_finished_run_is_found_unless_its_data_is_another(run, tmp_path):
    words = [*SMALL, f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={tmp_path / 'cache'}"]
    config = configuration.compose([*words, "latent=2"])
    assert find_finished_run(config) is None
    finished = run("latent=2", f"paths.cache={tmp_path / 'cache'}")
    assert find_finished_run(config).path == finished.path
    for other in ("latent=3", "force=true", "data.limit=255", "batch_size=0", "lr=nan"):
        assert find_finished_run(configuration.compose([*words, "latent=2", other])) is None
    [file] = (tmp_path / "cache" / "facts").glob("data-*.json")
    facts = json.loads(file.read_text())
    facts["files"] = {path: [size, time + 1] for path, (size, time) in facts["files"].items()}
    file.write_text(json.dumps(facts))
    assert find_finished_run(config) is None
    assert Facts(config).recall_data(256) is None


def test_facts_of_a_changed_file_are_not_recalled(tmp_path, monkeypatch):
    from ae_lab.tracking.facts import DataFacts

    config = configuration.compose([f"paths.cache={tmp_path}"])
    facts, file, absent = Facts(config), tmp_path / "images", tmp_path / "more"
    file.write_text("images")
    known = DataFacts("f", [1, 28, 28], 10)
    facts.remember_data(None, known, [file, absent])
    assert facts.recall_data(None) == known
    assert facts.recall_data(5) is None
    absent.write_text("images")
    assert facts.recall_data(None) is None
    facts.remember_data(5, known, None)  # of a source that does not say which files it reads
    assert facts.recall_data(5) is None
    with monkeypatch.context() as patch:
        patch.setenv("AE_LAB_AUTO_DATA", "no")
        facts.remember_data(7, known, [file])  # of embedded data that stand in for others
    assert facts.recall_data(7) is None


def test_ctrl_c_saves_what_was_trained(run, tmp_path):
    # A suite that runs in a shell's background was told to ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words = ["latent=2", "hidden=[16]", "epochs=3", "batch_size=32", "checkpoint_seconds=1000"]
    words += ["trainer.log_every_n_steps=1"]
    undisturbed = run(*words)
    expected = torch.load(undisturbed.last, weights_only=True)
    with pytest.raises(SystemExit):
        run(*words, "+callbacks.stop._target_=tests.test_launching.PressCtrlC")
    [stopped] = [one for one in find_runs(tmp_path / "outputs") if one.path != undisturbed.path]
    assert stopped.state == "interrupted"
    assert torch.load(stopped.last, weights_only=True)["global_step"] == PressCtrlC.step
    PressCtrlC.step = 10**9
    resumed = run(*words, "+callbacks.stop._target_=tests.test_launching.PressCtrlC")
    assert resumed.path == stopped.path
    actual = torch.load(resumed.last, weights_only=True)
    for name, value in expected["state_dict"].items():
        assert torch.equal(actual["state_dict"][name], value)


class PressCtrlC(pl.Callback):
    step = 11

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGINT)


LAUNCHERS = sorted(p.stem for p in (configuration.CONF / "hydra" / "launcher").glob("*.yaml"))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_composes_with_what_its_plugin_knows(name):
    config = configuration.compose([f"hydra/launcher={name}"], return_hydra_config=True)
    settings = OmegaConf.to_container(config.hydra.launcher, resolve=False)
    register_plugins()
    known = Plugins.instance().class_name_to_class.get(settings.pop("_target_"))
    if known is None:
        pytest.skip(f"hydra's plugin is not installed: pip install 'ae_lab[{name.split('_')[0]}]'")
    if name.startswith("submitit"):
        from hydra_plugins.hydra_submitit_launcher import config as plugin

        schema = plugin.SlurmQueueConf if name == "submitit_slurm" else plugin.LocalQueueConf
        OmegaConf.merge(OmegaConf.structured(schema), settings)
    else:
        known(**settings)


def test_a_launcher_that_is_not_installed_names_its_extra(main, capfd, monkeypatch):
    plugins = Plugins.instance()
    target = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
    monkeypatch.delitem(plugins.class_name_to_class, target, raising=False)
    assert main("-m", *TINY, "latent=2,3", "hydra/launcher=joblib") == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert line.endswith("is not installed: pip install 'ae_lab[joblib]'")


def test_fail_fast_ends_a_sweep_in_one_process(command, tmp_path):
    done = command("train", "-m", "latent=0,2", *TINY, "sweep.fail_fast=true")
    assert done.returncode == 1
    assert "sweep.fail_fast: later jobs are not started" in done.stderr
    assert not find_runs(tmp_path / "outputs")


def test_errors_of_plugins_name_the_extra():
    error = RuntimeError("Unknown plugin class : 'hydra_plugins.hydra_ray_launcher.x.RayLauncher'")
    assert "pip install 'ae_lab[ray]'" in command.explain_error(error)
