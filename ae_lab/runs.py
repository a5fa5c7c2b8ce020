"""All runs as a table, best first.

python -m ae_lab.runs model=mlp latent=2,5 state=done --sort test/ssim
python -m ae_lab.runs preset=strong --average-over seed
"""

import argparse

from ae_lab.core import command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
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
    known = {name for run in existing for name in run.metrics}
    if known and metric not in known:
        raise UserError(f"no run has a metric '{metric}': {suggest(metric, known)}")
    runs = registry.sort_runs(registry.select_runs(existing, arguments.filters), metric)
    if arguments.csv:
        registry.print_csv(runs)
    elif runs and arguments.average_over:
        print_table(registry.tabulate_averages(runs, arguments.average_over))
    elif runs:
        print_table(registry.tabulate_runs(runs))
    elif existing:
        print(f"None of the {len(existing)} runs under {outputs} matches the filters.")
    else:
        print(f"No runs under {outputs}. Train one: python -m ae_lab.train")


@command.entry_point
def main() -> None:
    command.exit_on_error(show_runs, parse_arguments())


if __name__ == "__main__":
    main()
