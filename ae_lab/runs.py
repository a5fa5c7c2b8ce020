"""All runs as a table, best first.

python -m ae_lab.runs model=mlp latent=2,5 state=done --sort test/ssim
python -m ae_lab.runs preset=strong --average-over seed
"""

import argparse

from ae_lab.core import command


def parse_arguments() -> argparse.Namespace:
    parser = command.Parser(
        prog="python -m ae_lab.runs",
        description="All runs as a table, best first. Filters: model=mlp latent=2,5 state=done",
    )
    parser.add_argument("filters", nargs="*", metavar="key=value")
    parser.add_argument("--csv", action="store_true", help="all settings and metrics as CSV")
    parser.add_argument("--sort", default="test/mse", metavar="METRIC", help="test/mse by default")
    parser.add_argument(
        "--average-over", metavar="SETTING", help="means over a setting: --average-over seed"
    )
    parser.add_argument("--outputs", default="outputs", metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.csv and arguments.average_over:
        parser.error("--csv shows single runs: leave out --average-over")
    return arguments


def show_runs(arguments: argparse.Namespace) -> None:
    """Print the runs of an outputs folder that match the filters.

    Raises:
        UserError: a filter, the metric or the setting names what no run has.
    """
    from ae_lab.core.console import print_table
    from ae_lab.core.errors import UserError, suggest
    from ae_lab.tracking import registry

    outputs, metric = arguments.outputs, arguments.sort
    existing = registry.find_runs(outputs)
    faults = {run.name: found[0] for run in existing if (found := run.faults)}
    sound = [run for run in existing if run.name not in faults]
    known = {name for run in sound for name in run.metrics}
    if known and metric not in known:
        raise UserError(f"no run has a metric '{metric}': {suggest(metric, known)}")
    runs, filters = sound, list(arguments.filters)
    if "state=damaged" in filters:
        runs, filters = [], []
    elif filters:
        faults = {}
    runs = registry.sort_runs(registry.select_runs(runs, filters), metric)
    if arguments.csv:
        registry.print_csv(runs, faults)
        return
    if runs and arguments.average_over:
        print_table(registry.tabulate_averages(runs, arguments.average_over))
    elif runs:
        print_table(registry.tabulate_runs(runs))
    if faults:
        print_table(registry.tabulate_damaged(faults))
    if not existing:
        print(f"No runs under {outputs}. Train one: python -m ae_lab.train")
    elif not (runs or faults):
        print(f"None of the {len(existing)} runs under {outputs} matches the filters.")


@command.entry_point
def main() -> None:
    command.exit_on_error(show_runs, parse_arguments())


if __name__ == "__main__":
    main()
