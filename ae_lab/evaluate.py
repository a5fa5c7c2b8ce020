"""How good a finished run is: `python -m ae_lab.evaluate run=<folder> evaluator=samples`."""

from ae_lab.core import command


def run(config) -> None:
    from ae_lab.evaluation.reconstruction import evaluate

    evaluate(config)


def main() -> None:
    command.launch(run, "evaluate")


if __name__ == "__main__":
    main()
