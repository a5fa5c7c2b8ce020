"""Does each claim hold? The verdicts, from saved results or from runs.

python -m ae_lab.claims                       # from the results saved in experiments/results
python -m ae_lab.claims --outputs outputs     # from runs under a folder
"""

import argparse
from pathlib import Path

from ae_lab.core import command


def parse_arguments() -> argparse.Namespace:
    parser = command.Parser(prog="python -m ae_lab.claims", description="Does each claim hold?")
    parser.add_argument(
        "--outputs", metavar="FOLDER", help="a folder of runs; by default saved results decide"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="the table of experiments/README.md"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="a forest plot of all intervals as PNG, SVG or PDF"
    )
    return parser.parse_args()


def show_claims(arguments: argparse.Namespace) -> None:
    """Print the verdicts, and draw them if asked to.

    Raises:
        UserError: there is no such folder of runs, or no such format of a plot.
    """
    from ae_lab.core.console import print_table
    from ae_lab.reporting.claims import audit, collect_runs, verdict_table

    if arguments.plot:
        from ae_lab.reporting.forest_plot import check_format, save_forest

        check_format(Path(arguments.plot))
    verdicts = audit(collect_runs(arguments.outputs and Path(arguments.outputs)))
    if arguments.plot:
        print(save_forest(verdicts, Path(arguments.plot)))
        return
    table = verdict_table(verdicts)
    if arguments.markdown:
        print(table.markdown(), end="")
    else:
        print_table(table.rich())


@command.entry_point
def main() -> None:
    command.exit_on_error(show_claims, parse_arguments())


if __name__ == "__main__":
    main()
