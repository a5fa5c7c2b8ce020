"""Our plugins of Hydra.

Hydra builds plugins of the package `hydra_plugins` alone, all of whose modules it imports at each
start. Ours are told to it by names as if they lay there.
"""

from hydra.core.plugins import Plugins

from ae_lab.launching.local import LocalLauncher
from ae_lab.launching.optuna_sweeper import OptunaSweeper
from ae_lab.launching.sweep_check import CheckedSweeper

OURS = (LocalLauncher, CheckedSweeper, OptunaSweeper)
PLUGINS = {f"hydra_plugins.ae_lab.{one.__name__}": one for one in OURS}


def register_plugins() -> None:
    for one in PLUGINS.values():
        Plugins.instance().register(one)
    Plugins.instance().class_name_to_class.update(PLUGINS)
