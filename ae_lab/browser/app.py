"""The page: a tab for each thing to do with a model."""

import os
from collections.abc import Callable
from importlib.util import find_spec

from omegaconf import DictConfig, ListConfig

from ae_lab.core import validation
from ae_lab.core.errors import UserError, check_int
from ae_lab.inference.api import load
from ae_lab.inference.model import Model
from ae_lab.tracking.registry import run_from_path


def open_app(config: DictConfig) -> None:
    """Serve the page of the runs asked for, until Ctrl-C.

    Raises:
        UserError: no run is named, or one cannot be loaded; the extra `app` is not installed; the
            port is taken.
    """
    validation.check_options(config, "app")
    named = config.run if isinstance(config.run, list | ListConfig) else [config.run]
    port = check_int("port", config.port)
    models = [load(run_from_path(path).path) for path in named or [None]]
    app = build_app(models)
    try:
        app.launch(
            server_name=config.host,
            server_port=port,
            inbrowser=config.browser,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
        )
    except OSError as error:
        raise UserError(f"port={port} is taken: give another, as port={port + 1}") from error
    print(f"http://{config.host}:{port} (Ctrl-C ends it)", flush=True)
    app.block_thread()


def build_app(models: list[Model]):
    """The page of models, a `gradio.Blocks` that can be launched.

    Raises:
        UserError: the extra `app` is not installed.
    """
    if find_spec("gradio") is None:
        raise UserError("gradio is not installed: pip install 'ae_lab[app]'")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio

    from ae_lab.browser.compare import add_compare_tab
    from ae_lab.browser.explore import add_explore_tab
    from ae_lab.browser.generate import add_generate_tab
    from ae_lab.browser.restore import add_restore_tab

    with gradio.Blocks(title="ae_lab") as app:
        gradio.Markdown(f"# {models[0].name if len(models) == 1 else 'ae_lab'}")
        with gradio.Tab("Explore"):
            add_for_each(models, add_explore_tab)
        with gradio.Tab("Restore"):
            add_for_each(models, add_restore_tab)
        with gradio.Tab("Generate"):
            add_for_each(models, add_generate_tab)
        with gradio.Tab("Compare"):
            add_compare_tab(models)
    return app


def add_for_each(models: list[Model], add: Callable[[Model], None]) -> None:
    """What a tab has for a model, in a tab of its own where there are several."""
    import gradio

    if len(models) == 1:
        add(models[0])
        return
    for model in models:
        with gradio.Tab(model.name):
            add(model)
