"""The READMEs: their links lead somewhere, and they name what there is."""

import re

import pytest

from ae_lab.core import configuration
from tests.conftest import REPOSITORY

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "*/*.md", ".github/*.md")
    for path in REPOSITORY.glob(pattern)
    if path.parts[len(REPOSITORY.parts)] in ("README.md", "ae_lab", "conf", "experiments", "tests")
    or ".github" in path.parts
)
LINK = re.compile(r"\]\(([^)#\s]+)")
GROUPS = sorted({path.parent for path in configuration.CONF.glob("*/*.yaml")})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document):
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_first_page_links_to_every_other():
    first = (REPOSITORY / "README.md").read_text()
    others = {str(path.relative_to(REPOSITORY)) for path in DOCUMENTS} - {"README.md"}
    assert len(others) >= 5
    assert others <= set(LINK.findall(first))


@pytest.mark.parametrize("group", GROUPS, ids=lambda path: path.name)
def test_every_choice_of_a_group_is_explained(group):
    text = (configuration.CONF / "README.md").read_text()
    assert f"**`{group.name}`**" in text
    if group.name in ("experiment", "paths", "trainer", "scale"):
        return
    words = set(re.findall(r"`([^`]+)`", text))
    words |= {f"model_{number}" for number in range(1, 7)}
    assert {path.stem for path in group.glob("*.yaml")} <= words


def test_commands_of_the_documents_exist():
    written = "".join(document.read_text() for document in DOCUMENTS)
    modules = set(re.findall(r"python -m ((?:ae_lab|tests)[.\w]*)", written))
    assert {"ae_lab.train", "ae_lab.evaluate", "ae_lab.report"} <= modules
    missing = [
        name for name in modules if not (REPOSITORY / f"{name.replace('.', '/')}.py").is_file()
    ]
    assert missing == []


def test_the_first_page_fits_one_reading():
    assert (REPOSITORY / "README.md").stat().st_size <= 9_000
