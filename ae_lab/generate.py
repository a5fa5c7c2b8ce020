"""Images from codes: random ones, between images, along dimensions.

python -m ae_lab.generate run=outputs/runs/... label=7 n=64 sampler=gmm
python -m ae_lab.generate run=outputs/runs/... label=cat
python -m ae_lab.generate run=outputs/runs/... figure=interpolation
"""

from ae_lab.core import command


def run(config) -> None:
    from ae_lab.inference.generation import generate

    generate(config)


def main() -> None:
    command.launch(run, "generate")


if __name__ == "__main__":
    main()
