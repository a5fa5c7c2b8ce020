"""A finished run as a folder to share, as ONNX, or as a page to explore.

python -m ae_lab.export run=outputs/runs/... output=folder
python -m ae_lab.export run=outputs/runs/... output=folder format=onnx format.precision=float16
python -m ae_lab.export run=outputs/runs/... output=folder format=html
python -m ae_lab.export run=outputs/runs/... output=folder format.space=true push=user/name
"""

from ae_lab.core import command


def run(config) -> None:
    from ae_lab.inference.export import export

    export(config)


def main() -> None:
    command.launch(run, "export")


if __name__ == "__main__":
    main()
