"""Values on the command line that Hydra's grammar reads as something else."""

import os
import re
import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def explain_override(override: str) -> str:
    """What to type in place of an override that Hydra cannot read.

    >>> explain_override("data.source.path=/a(1)")
    "cannot read data.source.path=/a(1): quote the value, as in 'data.source.path=\\"/a(1)\\"'"
    """
    key, equals, value = override.partition("=")
    if not override.isprintable():
        return f"cannot read {override!r}: leave out what is no letter and no sign"
    if not equals:
        return f"cannot read '{override}': expected key=value, as in latent=10; --help lists all"
    if value[:1] in ("[", "{") or value[:1] in ("'", '"') or not is_readable(quote(key, value)):
        return f"cannot read {override}: a bracket or a quotation mark is open, or left over"
    return f"cannot read {override}: quote the value, as in {shlex.quote(quote(key, value))}"


def quote(key: str, value: str) -> str:
    """An override whose value Hydra takes as it is: backslashes count before a quote alone."""
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + m[2].replace('"', r"\""), value)
    return f'{key}="{escaped}"'


def write_override(key: str, value: object) -> str:
    """`key=value` as it is typed, from a value of Python.

    >>> write_override("hidden", [64, 32]), write_override("output", None)
    ('hidden=[64,32]', 'output=null')
    >>> write_override("data.source.path", "/a(1)")
    'data.source.path="/a(1)"'
    """
    return f"{key}={_write_value(value)}"


def _write_value(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_write_value, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_write_value(one)}' for key, one in value.items())}}}"
    text = str(value)
    if not isinstance(value, str | os.PathLike) or _reads_as(text):
        return text
    return quote("", text)[1:]


def _reads_as(text: str) -> bool:
    """Whether Hydra's grammar takes a text, within a list too, for itself."""
    try:
        value = OverridesParser.create().parse_override(f"x=[{text}]").value()
    except HydraException:
        return False
    return value == [text] and isinstance(value[0], str)


def is_readable(override: str) -> bool:
    """Whether Hydra's grammar has it."""
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
