"""Types at the boundary: each value is checked against the annotation of what it goes to."""

import inspect
import json
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError

from ae_lab.core.errors import UserError, suggest
from ae_lab.core.options import NESTED, OPTIONS, Part
from ae_lab.core.trust import check_installed

NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    dict: "a group",
}
NAMES |= {type(None): "null", list: "a list"}
PART = "a part with a _target_"
# Not what a person gives a part: resolved first, and filled in later.
OURS = ("trainer.precision", "run.path", "run.name", "run.step")


def check_options(config: DictConfig, config_name: str) -> None:
    """Check the keys at the top of a configuration, and the folders it names.

    Raises:
        UserError: names the key and what it must be.
    """
    hints = typing.get_type_hints(OPTIONS[config_name])
    paths = {f"paths.{name}": str for name in config.get("paths", {})}
    for name, hint in (hints | paths | NESTED.get(config_name, {})).items():
        check_key(config, name, name, hint)


def check_parts(config: DictConfig) -> None:
    """Check each part's keys and values against the parameters of its class or function.

    Raises:
        UserError: no parameter has the name, and which is the nearest; or a value is of another
            type.
    """
    parts = OmegaConf.to_container(config, resolve=False)
    parts.pop("run_metrics", None)  # computed after the runs, by packages that are slow to import
    for path, node in find_parts(parts, ""):
        target = find_target(path, node["_target_"])
        parameters, hints = signature(target), annotations(target)
        rest = [name for name, p in parameters.items() if p.kind is p.VAR_KEYWORD]
        for key, value in node.items():
            if key.startswith("_"):
                continue
            if key not in parameters and not rest:
                usable = [name for name in parameters if name != "self"]
                cure = suggest(key, usable) if usable else "it takes nothing"
                raise UserError(f"{path[:-1]} has no '{path}{key}': {cure}")
            name = typed_name(f"{path}{key}", value)
            # null is judged where it is set
            is_open = name != f"{path}{key}" and OmegaConf.select(config, name) is None
            parameter = key if key in parameters else rest[0]
            if parameter in hints and name not in OURS and not is_open:
                check_key(config, f"{path}{key}", name, hints[parameter])


def find_target(path: str, name: object) -> Any:
    """The class or function that a `_target_` names.

    Raises:
        UserError: Python does not find it.
    """
    check_installed(str(name))
    try:
        return get_object(name)
    except Exception as error:
        raise UserError(
            f"{path}_target_={name} names nothing that Python finds: give a class by its package, "
            "as in ae_lab.models.Autoencoder, and run the command where it can be imported"
        ) from error


def find_parts(node: object, path: str) -> Iterator[tuple[str, dict]]:
    """The nodes that have a `_target_`, with their dotted paths."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from find_parts(value, f"{path}{key}.")


def is_made_of_parts(value: object) -> bool:
    """Whether a value is a part, or parts in a group or list: those are checked alone."""
    if isinstance(value, dict) and "_target_" in value:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(inner) and all(map(is_made_of_parts, inner))


def typed_name(name: str, value: object) -> str:
    """The key that a person typed: of `latent: ${latent}` in a part, `latent`."""
    inner = value[2:-1] if isinstance(value, str) and value.startswith("${") else ""
    return inner if inner.replace(".", "").replace("_", "").isalnum() else name


def constructors(target: Any) -> list[Any]:
    """A function itself; of a class its `__init__`, and those of its parents that `**parts`, which
    has no annotation, hands arguments on to."""
    if not inspect.isclass(target):
        return [target]
    found = []
    for kind in target.__mro__:
        if "__init__" in vars(kind):
            found.append(kind.__init__)
            parameters = inspect.signature(kind.__init__).parameters.values()
            if not any(p.kind is p.VAR_KEYWORD and p.annotation is p.empty for p in parameters):
                break
    return found


@cache
def signature(target: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a class or function, with those that it hands on to a parent."""
    *children, parent = constructors(target)
    if not children:
        return dict(inspect.signature(target).parameters)
    parameters = dict(inspect.signature(parent).parameters)
    for function in reversed(children):
        named = inspect.signature(function).parameters
        parameters |= {name: p for name, p in named.items() if p.kind is not p.VAR_KEYWORD}
    del parameters["self"]
    return parameters


@cache
def annotations(target: Any) -> dict[str, Any]:
    """The annotations of these parameters; none where they cannot be resolved."""
    try:
        hints = [typing.get_type_hints(function) for function in constructors(target)]
    except (NameError, TypeError, AttributeError):
        return {}
    return {name: hint for one in reversed(hints) for name, hint in one.items()}


def check_key(config: DictConfig, key: str, name: str, hint: Any) -> None:
    """Check one value; an integer where text is wanted, as in `run=5`, becomes its text.

    Raises:
        UserError: it is of another type.
    """
    value = OmegaConf.select(config, key)
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    if is_made_of_parts(value):
        return
    if type(value) is int and not accepts(hint, value) and accepts(hint, str(value)):
        OmegaConf.update(config, key, str(value))
    elif not accepts(hint, value):
        several = isinstance(value, list) and value and all(accepts(hint, one) for one in value)
        cure = f": for a sweep write -m {name}={','.join(map(str, value))}" if several else ""
        raise UserError(f"{name} must be {describe(hint)}, got {show(value)}{cure}")


def accepts(hint: Any, value: object) -> bool:
    """Whether a value of a configuration is of an annotated type: true is no integer, 'no' is not
    false, a list will do for a tuple."""
    adapter = make_adapter(hint)
    if adapter is None:  # a class that no plain value can be, or a mixture that one may
        return not inspect.isclass(hint)
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


@cache
def make_adapter(hint: Any) -> TypeAdapter | None:
    """pydantic's validator of an annotation; None for those that it has no schema for."""
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, SchemaError):
        return None


def describe(hint: Any) -> str:
    """An annotation in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(describe, arguments)))
    if origin is Literal:
        return " or ".join(map(show, arguments))
    if hint is Part:
        return PART
    if origin is dict and arguments:
        return f"a group of {plural(describe(arguments[1]))}"
    if inspect.isclass(origin or hint) and issubclass(origin or hint, str | dict):
        return NAMES[str if issubclass(origin or hint, str) else dict]
    inner = [describe(argument) for argument in arguments if argument is not ...]
    if inspect.isclass(origin) and hasattr(origin, "__iter__"):
        count = f"{len(inner)} " if origin is tuple and ... not in arguments else ""
        return f"a list of {count}{plural(inner[0])}" if inner else "a list"
    return NAMES.get(hint, PART)


def plural(words: str) -> str:
    """'an integer' → 'integers'."""
    article, _, noun = words.partition(" ")
    noun, *rest = noun.split(" ", 1)
    return " ".join([f"{noun}s", *rest]) if article in ("a", "an") else words


def show(value: object) -> str:
    """A value as a configuration writes it."""
    return json.dumps(value, ensure_ascii=False).replace('"', "'")
