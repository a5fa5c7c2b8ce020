"""Photographs of any size, restored: your own, a folder of them.

python -m ae_lab.restore run=outputs/runs/... input=photo.jpg output=out.png
python -m ae_lab.restore run=outputs/runs/... input=photos output=restored
python -m ae_lab.restore run=outputs/runs/... input=photo.jpg output=out.png corrupt=true
"""

from ae_lab.core import command


def run(config) -> None:
    from ae_lab.inference.restoration import restore

    restore(config)


def main() -> None:
    command.launch(run, "restore")


if __name__ == "__main__":
    main()
