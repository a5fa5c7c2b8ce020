"""The audit: does each claim hold? `python -m ae_lab.claims`.

experiments/claims.yaml lists claims, each with the tests that decide it, fixed before the runs. A
test has one number for each seed, d, and a threshold c that d is claimed to lie above or below:

    t = (mean(d) - c) / (std(d) / √n),  n - 1 degrees of freedom, two-sided

All tests of all claims are corrected together by Holm (Scand. J. Statist. 6 (1979) 65). A test
that is significant holds or does not hold, by the side on which the mean lies; any other is not
separable at this n, or was not run. A claim holds if each of its tests does, does not if one does
not.
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

from ae_lab import config
from ae_lab.errors import UserError, choose
from ae_lab.plots import Runs, interval
from ae_lab.results import kept
from ae_lab.runs import print_wide
from ae_lab.sheets import Sheet
from ae_lab.study import FOLDER, RESULTS, study
from ae_lab.train import quiet

LEVEL = 0.05
HOLDS, NOT, OPEN, MISSING = "holds", "does not hold", "not separable at this n", "not run"
Where = dict[str, Any]


def select(runs: Runs, where: Where) -> Runs:
    """The runs that have each setting, or one of several values of it."""

    def fits(run) -> bool:
        for key, wanted in where.items():
            allowed = wanted if isinstance(wanted, list) else [wanted]
            if str(run.settings.get(key)) not in [str(value) for value in allowed]:
                return False
        return True

    return [run for run in runs if fits(run)]


def by_seed(runs: Runs, value: str, log: bool) -> dict[str, float]:
    """The mean over a seed's runs of a metric, or of its logarithm; seeds that lack it left out."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if value in run.metrics:
            number = run.metrics[value]
            found.setdefault(str(run.settings["seed"]), []).append(
                math.log(number) if log else number
            )
    return {seed: mean(numbers) for seed, numbers in found.items()}


@dataclass(frozen=True)
class Test:
    """A number for each seed and where it is claimed to lie.

    `than` is the threshold, `claimed` says `above` or `below`. With `ratio` numbers are logarithms
    and the threshold a ratio.
    """

    study: str
    value: str
    claimed: str
    than: float
    ratio: bool = True

    def numbers(self, runs: Runs) -> list[float]:
        raise NotImplementedError

    @property
    def threshold(self) -> float:
        return math.log(self.than) if self.ratio else self.than

    def p(self, runs: Runs) -> tuple[float, bool]:
        """The two-sided p-value, and whether the mean lies on the side that is claimed."""
        d = self.numbers(runs)
        side = choose("claimed", self.claimed, {"above": 1, "below": -1})
        if len(d) < 2:
            return 1.0, bool(d) and side * (d[0] - self.threshold) > 0
        away, spread = mean(d) - self.threshold, stdev(d) / len(d) ** 0.5
        p = 0.0 if spread == 0 else 2 * float(student.sf(abs(away) / spread, len(d) - 1))
        return p, side * away > 0

    def evidence(self, runs: Runs) -> str:
        """The mean with its 95 % interval, beside the threshold."""
        d = self.numbers(runs)
        if not d:
            return self.study
        middle, half = interval(d)
        ends = [middle, middle - half, middle + half]
        shown = [f"{math.exp(x) if self.ratio else x:.3g}" for x in ends]
        limits = f" [{shown[1]}, {shown[2]}]" if len(d) > 1 else ""
        sign = ">" if self.claimed == "above" else "<"
        return f"{shown[0]}{limits} {sign} {self.than:g}? (n = {len(d)})"


@dataclass(frozen=True, kw_only=True)
class Difference(Test):
    """The metric of the runs `of`, less that of the runs `against` if given, or divided by it."""

    of: Where
    against: Where | None = None

    def numbers(self, runs: Runs) -> list[float]:
        first = by_seed(select(runs, self.of), self.value, self.ratio)
        if self.against is None:
            return list(first.values())
        second = by_seed(select(runs, self.against), self.value, self.ratio)
        return [first[seed] - second[seed] for seed in first if seed in second]


@dataclass(frozen=True, kw_only=True)
class Effect(Test):
    """How far apart the levels of the setting `of` lie, less how far those of `against` do.

    Of a fully crossed study; a level's value is the metric's mean over all other settings.
    """

    of: str
    against: str

    def numbers(self, runs: Runs) -> list[float]:
        first, second = self.reach(runs, self.of), self.reach(runs, self.against)
        return [first[seed] - second[seed] for seed in first if seed in second]

    def reach(self, runs: Runs, factor: str) -> dict[str, float]:
        levels = dict.fromkeys(str(run.settings.get(factor)) for run in runs)
        means = [by_seed(select(runs, {factor: v}), self.value, self.ratio) for v in levels]
        seeds = set.intersection(*map(set, means)) if means else set()
        return {s: max(m[s] for m in means) - min(m[s] for m in means) for s in sorted(seeds)}


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
    """A claim, what was decided of it, and each test's evidence and verdict."""

    claim: str
    verdict: str
    tests: list[tuple[str, str]]


def audit(runs_of: dict[str, Runs], file: Path = FOLDER / "claims.yaml") -> list[Verdict]:
    """A verdict on each claim from the runs of each study."""
    entries = OmegaConf.load(file)
    claims = [(str(e.claim), [instantiate(t, _convert_="all") for t in e.tests]) for e in entries]
    tests = [test for _, tests in claims for test in tests]
    found = [test.p(runs_of.get(test.study, [])) for test in tests]
    rejected = holm([p for p, _ in found])
    verdicts = iter(
        (HOLDS if claimed else NOT)
        if significant
        else (OPEN if test.numbers(runs_of.get(test.study, [])) else MISSING)
        for test, significant, (_, claimed) in zip(tests, rejected, found, strict=True)
    )
    decided = []
    for claim, tests in claims:
        each = [(test.evidence(runs_of.get(test.study, [])), next(verdicts)) for test in tests]
        kinds = {verdict for _, verdict in each}
        whole = next(kind for kind in (NOT, MISSING, OPEN, HOLDS) if kind in kinds)
        decided.append(Verdict(claim, whole, each))
    return decided


def studies_of(file: Path = FOLDER / "claims.yaml") -> list[str]:
    """The studies that the claims are about."""
    return list(
        dict.fromkeys(str(test.study) for claim in OmegaConf.load(file) for test in claim.tests)
    )


def sheet(verdicts: list[Verdict], title: str) -> Sheet:
    rows = []
    for number, one in enumerate(verdicts, start=1):
        evidence = "; ".join(f"{told} {verdict}" for told, verdict in one.tests)
        rows.append([str(number), one.claim, one.verdict, evidence])
    return Sheet(title, ["", "claim", "verdict", "evidence"], rows)


def evidence(outputs: Path | None) -> dict[str, Runs]:
    """The runs of each study that a claim is about: those under outputs, else those kept."""
    if outputs is None:
        return {name: kept(RESULTS, name) for name in studies_of()}
    found = {}
    for name in studies_of():
        one = study(name, outputs)
        one.measure()
        found[name] = one.runs
    return found


def main() -> None:
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m ae_lab.claims", description=__doc__[:60])
    parser.add_argument("--outputs", metavar="FOLDER", help="by default the kept numbers decide")
    asked = parser.parse_args()
    quiet()
    try:
        made = sheet(audit(evidence(asked.outputs and Path(asked.outputs))), "Do the claims hold?")
    except UserError as error:
        sys.exit(config.say(error))
    drawn = Table(title=made.title, title_justify="left")
    for heading in made.heading:
        drawn.add_column(heading, overflow="fold")
    for row in made.rows:
        drawn.add_row(*row)
    print_wide(drawn)


if __name__ == "__main__":
    main()
