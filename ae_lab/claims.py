"""The audit: does each claim hold? `python -m ae_lab.claims`.

experiments/claims.yaml lists claims, each with the tests that decide it, fixed before the runs. A
test has one number for each seed, d, and a threshold c that d is claimed to lie above or below:

    t = (mean(d) - c) / √((var(d) + r²/12) / n),  n - 1 degrees of freedom

where r is the metric's resolution, of epochs 1: numbers that are counted can all be the same.

A claim holds if all its tests do, so the largest of their one-sided p-values speaks for it; it does
not hold if one of k tests shows the contrary, so k times the smallest p of the other sides speaks
against it (Berger, Technometrics 24 (1982) 295). Twice the smaller of both is the claim's p, and
all claims are corrected together by Holm (Scand. J. Statist. 6 (1979) 65). What is significant
holds or does not; what is not is not separable at this n.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.stats import t as student

from ae_lab.core import command
from ae_lab.core.console import print_table
from ae_lab.core.errors import UserError, check_choice
from ae_lab.reporting.experiments import FOLDER, RESULTS, study
from ae_lab.reporting.statistics import by_seed, interval
from ae_lab.reporting.tables import Sheet
from ae_lab.tracking.registry import select
from ae_lab.tracking.saved_results import Runs, kept
from ae_lab.train import quiet

LEVEL = 0.05
HOLDS, NOT, OPEN, MISSING = "holds", "does not hold", "not separable at this n", "not run"
Where = dict[str, Any]


def matching(runs: Runs, where: Where) -> Runs:
    """The runs that have each setting, or one of several values of it."""
    listed = {key: value if isinstance(value, list) else [value] for key, value in where.items()}
    return select(runs, [f"{key}={','.join(map(str, values))}" for key, values in listed.items()])


def apart(first: dict[str, list[float]], second: dict[str, list[float]]) -> list[float]:
    """The means' difference for each seed of which both sides have as many runs."""
    return [
        mean(first[seed]) - mean(second[seed])
        for seed in first
        if len(second.get(seed, ())) == len(first[seed])
    ]


@dataclass(frozen=True)
class Test:
    """A number for each seed and where it is claimed to lie.

    `than` is the threshold, `claimed` says `above` or `below`. With `ratio` numbers are logarithms
    and the threshold a ratio. `resolution` is the smallest step of the metric that can be told.
    """

    study: str
    value: str
    claimed: str
    than: float
    ratio: bool = True
    resolution: float = 0.0

    def numbers(self, runs: Runs) -> list[float]:
        raise NotImplementedError

    @property
    def threshold(self) -> float:
        return math.log(self.than) if self.ratio else self.than

    def p(self, d: list[float]) -> tuple[float, float]:
        """One-sided p-values: for d to lie on the side that is claimed, and on the other."""
        if len(d) < 2:
            return 1.0, 1.0
        side = check_choice("claimed", self.claimed, {"above": 1, "below": -1})
        variance = stdev(d) ** 2 + self.resolution**2 / 12
        if not variance:  # which says nothing of how d scatters
            return 1.0, 1.0
        t = side * (mean(d) - self.threshold) / math.sqrt(variance / len(d))
        return float(student.sf(t, len(d) - 1)), float(student.cdf(t, len(d) - 1))

    def evidence(self, d: list[float]) -> str:
        """The mean of d with its 95 % interval, beside the threshold."""
        if not d:
            return f"{self.study} not run"
        middle, half = interval(d)
        ends = [middle, middle - half, middle + half]
        shown = [f"{math.exp(x) if self.ratio else x:.3g}" for x in ends]
        limits = f" [{shown[1]}, {shown[2]}]" if len(d) > 1 else ""
        sign = ">" if self.claimed == "above" else "<"
        p = f", p = {self.p(d)[0]:.2g}" if len(d) > 1 else ""
        return f"{shown[0]}{limits} {sign} {self.than:g}? (n = {len(d)}{p})"


@dataclass(frozen=True, kw_only=True)
class Difference(Test):
    """The metric of the runs `of`, less that of the runs `against` if given, or divided by it."""

    of: Where
    against: Where | None = None

    def numbers(self, runs: Runs) -> list[float]:
        first = by_seed(matching(runs, self.of), self.value, self.ratio)
        if self.against is None:
            return [mean(numbers) for numbers in first.values()]
        return apart(first, by_seed(matching(runs, self.against), self.value, self.ratio))


@dataclass(frozen=True, kw_only=True)
class Effect(Test):
    """How far apart the levels of the setting `of` lie, less how far those of `against` do.

    Of a fully crossed study: a level's value is the metric's mean over all other settings, and the
    levels' standard deviation is how far apart they lie. It depends on the levels that were chosen.
    """

    of: str
    against: str

    def numbers(self, runs: Runs) -> list[float]:
        first, second = self.reach(runs, self.of), self.reach(runs, self.against)
        return [first[seed] - second[seed] for seed in first if seed in second]

    def reach(self, runs: Runs, factor: str) -> dict[str, float]:
        levels = dict.fromkeys(str(run.settings.get(factor)) for run in runs)
        found = [by_seed(matching(runs, {factor: v}), self.value, self.ratio) for v in levels]
        seeds = set.intersection(*map(set, found)) if len(found) > 1 else set()
        whole = [s for s in sorted(seeds) if len({len(level[s]) for level in found}) == 1]
        return {s: stdev([mean(level[s]) for level in found]) for s in whole}


def holm(p: list[float], level: float = LEVEL) -> list[bool]:
    """Which of the hypotheses are rejected: the k-th smallest p of m is held against level/(m - k),
    k from 0, until one is not below."""
    order = sorted(range(len(p)), key=p.__getitem__)
    rejected = [False] * len(p)
    for k, place in enumerate(order):
        if p[place] >= level / (len(p) - k):
            break
        rejected[place] = True
    return rejected


@dataclass(frozen=True)
class Verdict:
    """A claim, what was decided of it, and each test's evidence."""

    claim: str
    verdict: str
    evidence: list[str]


def audit(runs_of: dict[str, Runs], file: Path = FOLDER / "claims.yaml") -> list[Verdict]:
    """A verdict on each claim from the runs of each study."""
    entries = OmegaConf.load(file)
    claims = [(str(e.claim), [instantiate(t, _convert_="all") for t in e.tests]) for e in entries]
    found = [[(test, test.numbers(runs_of.get(test.study, []))) for test in c] for _, c in claims]
    decided = [decide(tests) for tests in found]
    rejected = holm([p for p, _ in decided])
    verdicts = []
    for (claim, _), tests, (_, side), significant in zip(
        claims, found, decided, rejected, strict=True
    ):
        verdict = side if significant or side == MISSING else OPEN
        verdicts.append(Verdict(claim, verdict, [test.evidence(d) for test, d in tests]))
    return verdicts


def decide(tests: list[tuple[Test, list[float]]]) -> tuple[float, str]:
    """A claim's p-value before correction, and what the claim does if that is small enough."""
    if not all(d for _, d in tests):
        return 1.0, MISSING
    claimed, contrary = zip(*(test.p(d) for test, d in tests), strict=True)
    holds, fails = max(claimed), min(1.0, len(tests) * min(contrary))
    return min(1.0, 2 * min(holds, fails)), HOLDS if holds < fails else NOT


def studies_of(file: Path = FOLDER / "claims.yaml") -> list[str]:
    """The studies that the claims are about."""
    return list(
        dict.fromkeys(str(test.study) for claim in OmegaConf.load(file) for test in claim.tests)
    )


def sheet(verdicts: list[Verdict], title: str) -> Sheet:
    rows = [
        [str(number), one.claim, one.verdict, "; ".join(one.evidence)]
        for number, one in enumerate(verdicts, start=1)
    ]
    return Sheet(title, ["", "claim", "verdict", "evidence"], rows)


def evidence(outputs: Path | None) -> dict[str, Runs]:
    """The runs of each study that a claim is about: those under outputs, else those kept."""
    if outputs is None:
        return {name: kept(RESULTS, name) for name in studies_of()}
    if not outputs.is_dir():
        raise UserError(f"there is no folder {outputs}: give one that runs were written to")
    found = {}
    for name in studies_of():
        one = study(name, outputs)
        one.measure()
        if one.recorded:
            print(f"{name}: not run under {outputs}, the kept numbers speak", file=sys.stderr)
        found[name] = one.runs
    return found


def main() -> None:
    from rich.table import Table

    parser = argparse.ArgumentParser(
        prog="python -m ae_lab.claims", description="Does each claim hold?"
    )
    parser.add_argument("--outputs", metavar="FOLDER", help="by default the kept numbers decide")
    parser.add_argument("--markdown", action="store_true", help="the table as the README has it")
    asked = parser.parse_args()
    quiet()
    try:
        made = sheet(audit(evidence(asked.outputs and Path(asked.outputs))), "Do the claims hold?")
    except Exception as error:
        sys.exit(command.print_error(error))
    if asked.markdown:
        print(made.markdown(), end="")
        return
    drawn = Table(title=made.title, title_justify="left")
    for heading in made.heading:
        drawn.add_column(heading, overflow="fold")
    for row in made.rows:
        drawn.add_row(*row)
    print_table(drawn)


if __name__ == "__main__":
    main()
