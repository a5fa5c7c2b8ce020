"""Whatever value a setting is given: it is of the type, or one line says what it must be."""

import inspect
import math
import types
import typing
from collections.abc import Iterator, Sequence

import pytest
from hydra.utils import get_object
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from ae_lab.core import configuration, validation
from ae_lab.core.command import explain_error
from ae_lab.core.errors import UserError
from ae_lab.core.options import OPTIONS

PLAIN = (bool, int, float, str, type(None))
WORDS = {
    "train": ["model=vae", "noise=gaussian", "data=folder"],
    "convolutional": ["model=cnn_skip", "noise=mixed", "data=mnist5k", "scheduler=warmup_cosine"],
}


def compose(name: str) -> DictConfig:
    return configuration.compose(WORDS[name])


def list_settings(config: DictConfig) -> Iterator[tuple[str, object]]:
    """All keys of options and of parts whose annotation is made of plain types, with it."""
    yield from typing.get_type_hints(OPTIONS["config"]).items()
    for path, node in validation.find_parts(OmegaConf.to_container(config, resolve=False), ""):
        target = get_object(node["_target_"])
        function = target.__init__ if inspect.isclass(target) else target
        hints = typing.get_type_hints(function)
        for key in node:
            if not path.startswith(("run_metrics", "trainer")):
                yield f"{path}{key}", hints.get(key)


def is_plain(hint: object) -> bool:
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (list, Sequence, tuple, typing.Union, types.UnionType):
        return all(is_plain(part) for part in parts if part is not ...)
    return hint in PLAIN


def belongs(value: object, hint: object) -> bool:
    """Whether a value is of a type, told without a library."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(belongs(value, part) for part in parts)
    if origin is tuple and ... not in parts and isinstance(value, list):
        return len(value) == len(parts) and all(map(belongs, value, parts))
    if origin in (list, Sequence, tuple):
        return isinstance(value, list) and all(belongs(item, parts[0]) for item in value)
    if hint is float:
        return type(value) in (int, float)
    if hint is str:  # a number may be the name of a folder
        return type(value) in (str, int)
    return type(value) is hint


CONFIGS = {name: compose(name) for name in WORDS}
KEYS = [(name, *row) for name in WORDS for row in list_settings(CONFIGS[name]) if is_plain(row[1])]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="$\x00"), max_size=8)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT.filter(lambda text: text != "???")
)
VALUES = (
    SCALARS | st.lists(SCALARS, max_size=3) | st.lists(st.lists(SCALARS, max_size=2), max_size=2)
)


def test_there_are_settings_of_each_type():
    hints = [hint for _, _, hint in KEYS]
    assert len(KEYS) > 60
    assert {bool, int, float, str | None, int | None} <= set(hints)


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(KEYS), VALUES)
def test_a_value_passes_if_and_only_if_it_is_of_the_type(setting, value):
    name, key, hint = setting
    config = CONFIGS[name].copy()
    OmegaConf.update(config, key, value)
    if belongs(value, hint):
        validation.check_key(config, key, key, hint)
        kept = OmegaConf.select(config, key)
        kept = OmegaConf.to_container(kept) if OmegaConf.is_config(kept) else kept
        is_same = kept == value or (isinstance(kept, float) and math.isnan(kept))
        assert is_same or kept == str(value)
        return
    with pytest.raises(UserError) as refused:
        validation.check_key(config, key, key, hint)
    [line] = explain_error(refused.value).splitlines()
    assert line.startswith(f"{key} must be ")


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(key=st.sampled_from(["force", "conditional", "data.random_flip"]), text=TEXT)
def test_any_text_on_the_command_line_is_answered_by_one_line(key, text, command):
    words = ["data=mnist5k", "data.limit=64", "epochs=1"]
    if text.strip().lower() in ("true", "false", "yes"):
        return
    done = command("train", *words, f"{key}={text}")
    assert done.returncode == 2, done.stdout
    [line] = done.stderr.strip("\n").split("\n")
    assert line.startswith("error: ")
