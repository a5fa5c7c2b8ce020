"""Exported folders on the Hugging Face hub: pushed, and loaded by their name."""

import re
from importlib.util import find_spec
from pathlib import Path

from ae_lab.core.errors import UserError
from ae_lab.inference.exported_folder import APP, CARD, CONFIG, PICTURES, REQUIREMENTS, WEIGHTS

# Of a folder these are pushed, and nothing else that may lie there.
EXPORTED = [WEIGHTS, CONFIG, CARD, f"{PICTURES}/*.png", APP, REQUIREMENTS]
EXPORTED += ["*.onnx", "*.pt2", "explorer.html"]


def is_hub_name(text: str) -> bool:
    """Whether it has the form user/name."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) is not None


def check_hub(why: str) -> None:
    """Check that the hub's library is there.

    Raises:
        UserError: it is not.
    """
    if find_spec("huggingface_hub") is None:
        raise UserError(f"{why} huggingface_hub: pip install 'ae_lab[hub]'")


def check_push(name: str) -> None:
    """Check what can be known before a folder is written.

    Raises:
        UserError: it is no name, or the hub's library is not there.
    """
    if not is_hub_name(name):
        raise UserError(f"push={name} is no name on the hub: give user/name")
    check_hub(f"push={name} takes")


def push_folder(folder: Path, name: str) -> str:
    """Put an exported folder on the hub, as a Space where it has an app, else as a model; returns
    its address, after `check_push`. `hf auth login`, or the variable HF_TOKEN, says who you are.

    Raises:
        UserError: the hub is not reached, or does not let you.
    """
    from huggingface_hub import HfApi

    kind = "space" if (folder / APP).is_file() else "model"
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    hub = HfApi()
    try:
        address = hub.create_repo(name, repo_type=kind, exist_ok=True, **sdk)
        hub.upload_folder(
            repo_id=name, folder_path=folder, repo_type=kind, allow_patterns=EXPORTED,
            commit_message="Export of ae_lab",
        )  # fmt: skip
    except Exception as error:  # of several libraries, as the way to the hub breaks
        raise UserError(
            f"push={name}: the hub did not take it ({describe(error)}); the folder {folder} is "
            "written. Is HF_TOKEN set to a token that may write?"
        ) from error
    return str(address)


def fetch_folder(name: str) -> Path:
    """An exported folder of the hub, downloaded once: its weights and its configuration.

    Raises:
        UserError: the hub is not reached and the folder not here, or has none of this name.
    """
    check_hub(f"{name} is no folder here, and the hub takes")
    from huggingface_hub import constants, snapshot_download

    # A folder of real files: the hub's own cache holds links, which an exported folder may not.
    folder = Path(constants.HF_HUB_CACHE) / "ae_lab" / name
    try:
        snapshot_download(name, local_dir=folder, allow_patterns=[WEIGHTS, CONFIG])
    except Exception as error:  # see above
        if not (folder / WEIGHTS).is_file():
            raise UserError(
                f"{name} is no folder here, and the hub does not give it: {describe(error)}"
            ) from error
    return folder


def describe(error: Exception) -> str:
    """The first line of what the hub says."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
