"""The guide in ae_lab/README.md: its steps are taken word for word, in an empty folder."""

import re
import shlex
import sys

import pytest

from ae_lab.tracking.registry import find_runs
from tests.conftest import REPOSITORY

GUIDE = (REPOSITORY / "ae_lab" / "README.md").read_text().partition("## Add a part of your own")[2]
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", GUIDE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"```(python|yaml|bash)\n(.*?)```", re.DOTALL)
STEPS = {name: BLOCK.findall(text) for name, text in SECTIONS.items() if "```bash" in text}
TINY = ["data.limit=60", "epochs=1", "hidden=[16]", "trainer.enable_progress_bar=false"]
# The lines of YAML that a part may take at most, where there is a bound.
YAML_LINES = {"A data set": 8, "A metric": 1, "An activation": 0, "A kind of figure": 0}


@pytest.fixture
def folder(tmp_path):
    """An empty folder with the files of a section, and of those before that it builds on."""

    def write(section: str):
        for name in list(STEPS)[: list(STEPS).index(section) + 1]:
            for language, text in STEPS[name]:
                if language != "bash":
                    file = tmp_path / re.match(r"# (\S+)\n", text)[1]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with file.open("a" if language == "python" else "w") as stream:
                        stream.write(text.partition("\n")[2])
        return tmp_path

    return write


@pytest.fixture
def type_command(command, monkeypatch):
    """What a command of the guide prints; trainings are small ones."""

    def _type_command(line: str, run: str = "") -> str:
        words = shlex.split(line.replace("$RUN", run))
        if words[0].startswith("AE_LAB_TRUST="):
            monkeypatch.setenv(*words.pop(0).split("="))
        assert words[:2] == ["python", "-m"]
        module = words[2].removeprefix("ae_lab.")
        if module == "train":
            words += [*TINY, *([] if "data=stripes" in words else ["data=mnist5k"])]
        # Nothing is left of another section.
        monkeypatch.delitem(sys.modules, "my_parts", raising=False)
        result = command(module, *words[3:])
        assert result.returncode == 0, result.stderr
        return result.stdout

    return _type_command


@pytest.mark.parametrize("section", STEPS)
def test_the_steps_of_the_guide_lead_to_a_run(section, folder, run, type_command):
    there = folder(section)
    commands = [
        line for kind, text in STEPS[section] if kind == "bash" for line in text.split("\n")
    ]
    needs_run = any("$RUN" in line for line in commands)
    trained = str(run("hidden=[16]", "latent=3", "data.limit=60").path) if needs_run else ""
    printed = "".join(type_command(line, trained) for line in commands if line)
    yaml = [text for kind, text in STEPS[section] if kind == "yaml"]
    lines = sum(1 for text in yaml for line in text.splitlines() if not line.startswith("#"))
    assert len(yaml) <= 1
    assert lines <= YAML_LINES.get(section, 8)
    if not needs_run:
        assert all(one.done for one in find_runs(there / "outputs"))
    shown = {
        "A data set": "Stripes",
        "A metric": "log_error",
        "An evaluator": "Brightness on the test set",
        "A kind of figure": "bars.png",
        "A sampler": "bootstrap",
    }
    assert shown.get(section, "") in printed


def test_the_guide_adds_each_kind_of_part():
    kinds = ["corruption", "activation", "body", "bottleneck", "prior", "term", "data set"]
    kinds += ["metric", "callback", "evaluator", "figure", "sampler"]
    assert all(any(kind in name for name in STEPS) for kind in kinds)


def test_a_term_without_what_it_requires_is_refused_in_a_line(folder, type_command):
    folder("A term of the objective")
    words = "objective=commitment hydra.searchpath=[file://my_conf]"
    with pytest.raises(AssertionError, match="the objective requires distance of the bottleneck"):
        type_command(f"python -m ae_lab.train {words}")
