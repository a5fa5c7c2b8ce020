"""Numbers of tiny runs are those of before.

In 64 bits: what processors round differently stays below a thousandth of what is compared here. In
32 bits a convolutional VAE of six epochs ends up to 5 % elsewhere from one set of vector
instructions to the next. `python -m tests.digests` compares 32 bits to the bit, on one machine.
"""

import json
from pathlib import Path

import pytest

from tests.digests import CASES, digest

FILE = Path(__file__).with_name("numbers.json")
NUMBERS = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", NUMBERS)
def test_a_tiny_run_has_the_numbers_of_before(name, tmp_path):
    actual = digest(["lr=0.01", *CASES[name]], tmp_path, epochs=6, bits=64)
    expected = NUMBERS[name]
    assert actual.keys() - {"weights"} == expected.keys()
    for metric, value in expected.items():
        assert actual[metric] == pytest.approx(value, rel=1e-3, abs=1e-4), metric
