"""What a run is made with: the code, versions, the machine."""

import subprocess
import sys
import time
from functools import cache
from hashlib import blake2b
from pathlib import Path


@cache
def digest_code() -> str:
    """A digest of the package's source: two runs with the same one were made by the same code."""
    content = blake2b(digest_size=6)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()


def describe_environment(device: str) -> dict[str, str]:
    """The versions and the machine that a run was made with."""
    from importlib.metadata import version

    names = ["torch", "pytorch-lightning", "hydra-core", "numpy"]
    git = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "code": digest_code(),
        "commit": commit or "unknown",
        "python": sys.version.split()[0],
        **{name: version(name) for name in names},
        "device": device,
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
