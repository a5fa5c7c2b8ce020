"""How good a finished run is, by one evaluator or several.

python -m ae_lab.evaluate run=outputs/runs/... noise=speckle
python -m ae_lab.evaluate run=outputs/runs/... evaluator=[samples,likelihood] sampler=gmm
"""

from ae_lab.core import command


def run(config) -> None:
    from ae_lab.evaluation import evaluate

    evaluate(config)


def main() -> None:
    command.launch(run, "evaluate")


if __name__ == "__main__":
    main()
