"""Trained models in the browser: explore codes, restore photographs, generate, compare.

python -m ae_lab.app run=outputs/runs/...
python -m ae_lab.app run=[outputs/runs/a,outputs/runs/b] port=7861
"""

from ae_lab.core import command


def run(config) -> None:
    from ae_lab.browser.app import open_app

    open_app(config)


def main() -> None:
    command.launch(run, "app")


if __name__ == "__main__":
    main()
