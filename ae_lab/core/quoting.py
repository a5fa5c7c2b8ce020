"""Values on the command line that Hydra's grammar reads as something else."""

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


def is_readable(override: str) -> bool:
    """Whether Hydra's grammar has it."""
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
