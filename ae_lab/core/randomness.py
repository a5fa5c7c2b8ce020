"""Randomness is derived, not consumed.

Every random draw comes from a generator seeded by what it is for, `(seed, purpose, index, ...)`,
never from the state an earlier draw left behind. A run that resumes at batch s therefore draws
exactly what it would have drawn without the interruption.
"""

import hashlib

import torch


def derive(*key: int | str) -> int:
    """A 63-bit seed that depends on every part of the key and on nothing else."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`, seeded by the key."""
    return torch.Generator(device).manual_seed(derive(*key))


def reseed(device: torch.device, *key: int | str) -> None:
    """Seed the generators that dropout and the like draw from, on the CPU and on `device`.

    `torch.manual_seed` would do, but visits every kind of device, which takes some 2 ms where
    CUDA has not been started.
    """
    seed = derive(*key)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
