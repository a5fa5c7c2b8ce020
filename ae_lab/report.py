"""Figures and tables of an experiment or a sweep, or the page of all of them.

python -m ae_lab.report                       # the newest sweep
python -m ae_lab.report grid                  # an experiment
python -m ae_lab.report --all                 # outputs/report/index.html
"""

import argparse
from pathlib import Path

from ae_lab.core import command
from ae_lab.core.files import check_writable


def parse_arguments() -> argparse.Namespace:
    parser = command.Parser(
        prog="python -m ae_lab.report",
        description="Draw the figures of an experiment or of a sweep.",
    )
    parser.add_argument(
        "experiment", nargs="?", help="an experiment or a sweep's folder; by default the newest"
    )
    parser.add_argument("--outputs", default="outputs", metavar="FOLDER")
    parser.add_argument("--all", action="store_true", help="the page of all experiments and claims")
    parser.add_argument(
        "--save-results",
        action="store_true",
        help="save the numbers of a complete experiment, and a picture, in experiments/",
    )
    parser.add_argument(
        "--save-picture", action="store_true", help="save its first figure of images alone"
    )
    arguments = parser.parse_args()
    if arguments.all and (arguments.experiment or arguments.save_results or arguments.save_picture):
        parser.error(
            "--all draws all experiments: leave out the experiment and what is to be saved"
        )
    return arguments


def report(arguments: argparse.Namespace) -> None:
    """Draw what the command line asks for, and say where it is.

    Raises:
        UserError: there is nothing to draw, it cannot be written, or its results cannot be saved.
    """
    outputs = Path(arguments.outputs)
    check_writable(outputs / ("report" if arguments.all else "figures"))
    if arguments.all:
        from ae_lab.reporting.page import write_page

        print(f"The report: {write_page(outputs)}")
        return
    from ae_lab.reporting.drawing import check_complete, draw_experiment
    from ae_lab.reporting.experiments import RESULTS, find_experiment
    from ae_lab.reporting.pictures import save_picture
    from ae_lab.tracking.saved_results import save_results

    if arguments.save_results or arguments.save_picture:
        check_writable(RESULTS.resolve())
    experiment = find_experiment(arguments.experiment, outputs)
    if arguments.save_results:
        check_complete(experiment)
    drawings = draw_experiment(experiment, outputs / "figures" / experiment.name)
    print("Figures, as PNG and SVG, tables as CSV and LaTeX:")
    for drawing in drawings:
        print(f"  {drawing.files[0]}")
    if experiment.is_saved:
        print("No run of it is under this folder: drawn from the results saved in experiments/.")
    if arguments.save_results:
        print(*save_results(experiment.runs, RESULTS.resolve(), experiment.name), sep="\n")
    if arguments.save_results or arguments.save_picture:
        print(save_picture(experiment, drawings) or "There is no figure of images to save.")
    print(f"Training curves, images, codes: tensorboard --logdir {outputs}")


@command.entry_point
def main() -> None:
    command.exit_on_error(report, parse_arguments())


if __name__ == "__main__":
    main()
