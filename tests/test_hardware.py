"""The memory of a process that trains."""

import re
import subprocess
import sys

import pytest

TENSORS = """
from ae_lab import hardware
hardware.huge_pages() or exit(3)
import torch
for tensor in [torch.ones(1 << 18) for _ in range(100)]:
    print(tensor.data_ptr())
print(open("/proc/self/smaps").read())
"""


def test_tensors_of_a_megabyte_lie_where_large_pages_are_asked_for():
    done = subprocess.run(
        [sys.executable, "-c", TENSORS], capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip("this system grants no large pages")
    assert done.returncode == 0, done.stderr
    addresses = [int(line) for line in re.findall(r"^\d+$", done.stdout, re.MULTILINE)]
    mappings = re.findall(
        r"^([0-9a-f]+)-([0-9a-f]+) .*?^VmFlags:(.*?)$", done.stdout, re.MULTILINE | re.DOTALL
    )
    advised = [(int(a, 16), int(b, 16)) for a, b, flags in mappings if "hg" in flags.split()]
    within = [any(a <= address < b for a, b in advised) for address in addresses]
    assert len(within) == 100
    assert sum(within) > 90  # the first may fill what was free before
