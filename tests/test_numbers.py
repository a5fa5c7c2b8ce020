"""Numbers of tiny runs are those of before, to a tolerance that other machines keep.

`python -m tests.digests` compares all of them to the bit, on one machine.
"""

import json
from pathlib import Path

import pytest

from tests.digests import CASES, digest

FILE = Path(__file__).with_name("numbers.json")
NUMBERS = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", NUMBERS)
def test_a_tiny_run_has_the_numbers_of_before(name, tmp_path):
    actual = digest([*CASES[name], "lr=0.01"], tmp_path, epochs=6)
    expected = NUMBERS[name]
    assert actual.keys() - {"weights"} == expected.keys()
    for metric, value in expected.items():
        assert actual[metric] == pytest.approx(value, rel=0.01, abs=1e-4), metric
