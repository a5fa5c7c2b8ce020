"""Prepare a data set's images ahead of time: `python -m ae_lab.prepare_data data=coco64`."""

from ae_lab.core import command


def run(config) -> None:
    from ae_lab.data.preparation.command import prepare_data

    prepare_data(config)


def main() -> None:
    command.launch(run, "config")


if __name__ == "__main__":
    main()
