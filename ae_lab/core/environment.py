"""Environment variables that this package or Lightning reads."""

import os

from ae_lab.core.errors import UserError

# What Lightning reads, in its order, of who it is among the processes of a run on several devices.
# Those of srun and torchrun are set before a command starts, the others by Lightning.
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
NUMBERS = (*RANK_VARIABLES, "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


def check_environment() -> None:
    """Check the variables that number processes; unset those that are empty, and our own: to
    libraries and to the configuration an empty variable is a value.

    Raises:
        UserError: a number is none.
    """
    ours = [name for name in os.environ if name.startswith("AE_LAB_")]
    for name in (*NUMBERS, *ours, "XDG_CACHE_HOME"):
        if not os.environ.get(name, "").strip():
            os.environ.pop(name, None)
    for name in NUMBERS:
        value = os.environ.get(name, "0")
        if not value.isdecimal():
            raise UserError(
                f"{name}={value} in the environment must be a whole number: it counts the "
                f"processes of a run on several devices; `unset {name}` if it is left over"
            )


def read_rank() -> tuple[str, int]:
    """The variable that says which of a run's processes this is, and its number.

    What is no number is 0 here: `check_environment` refuses it.
    """
    name = next((name for name in RANK_VARIABLES if os.environ.get(name)), "")
    numbers = [os.environ.get(key, "") for key in (name or "RANK", "NODE_RANK")]
    return name, next((int(number) for number in numbers if number.isdecimal() and int(number)), 0)
