"""Our plugins of Hydra.

Hydra builds plugins of the package `hydra_plugins` alone, all of whose modules it imports at each
start. Ours are told to it by names as if they lay there.
"""

import warnings

from hydra.core.plugins import Plugins

PACKAGE = "hydra_plugins.ae_lab"


def register_plugins() -> None:
    # Files of ours take the names of plugins' own, which have the types of their settings.
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore")
    plugins = Plugins.instance()  # which imports Hydra's own anew: before ours, that build on them
    from ae_lab.launching.local import LocalLauncher
    from ae_lab.launching.optuna_sweeper import OptunaSweeper
    from ae_lab.launching.sweep_check import CheckedSweeper

    for plugin in (LocalLauncher, OptunaSweeper, CheckedSweeper):
        plugins.register(plugin)
        plugins.class_name_to_class[f"{PACKAGE}.{plugin.__name__}"] = plugin
