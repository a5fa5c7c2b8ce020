"""The audit: does each claim hold? `python -m ae_lab.claims`.

experiments/claims.yaml lists claims, each with the hypotheses that decide it, fixed before the
runs.

A claim holds if all its hypotheses do, so the largest of their one-sided p-values speaks for it; it
does not hold if one of k hypotheses is contradicted, so k times the smallest p of the other sides
speaks against it (Berger, Technometrics 24 (1982) 295). Twice the smaller of both is the claim's p,
and all claims are corrected together by Holm (Scand. J. Statist. 6 (1979) 65). A significant claim
holds or does not hold; any other is inconclusive.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf

from ae_lab.core.errors import UserError
from ae_lab.reporting.experiments import FOLDER, RESULTS, load_experiment
from ae_lab.reporting.hypotheses import Evidence
from ae_lab.reporting.statistics import Runs
from ae_lab.reporting.tables import Table
from ae_lab.tracking.saved_results import load_results

CLAIMS = FOLDER / "claims.yaml"
LEVEL = 0.05
HOLDS, FAILS, INCONCLUSIVE = "holds", "does not hold", "inconclusive"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Verdict:
    """A claim, what was decided about it, and the evidence on each of its hypotheses."""

    claim: str
    outcome: str
    evidence: list[Evidence]


def audit(runs_of: dict[str, Runs], file: Path = CLAIMS) -> list[Verdict]:
    """A verdict on each claim from the runs of each experiment."""
    claims, evidence = [], []
    for entry in OmegaConf.load(file):
        hypotheses = [instantiate(one, _convert_="all") for one in entry.hypotheses]
        claims.append(str(entry.claim))
        evidence.append([Evidence(h, h.values(runs_of.get(h.experiment, []))) for h in hypotheses])
    decisions = [decide(one) for one in evidence]
    significant = holm([p for p, _ in decisions])
    outcomes = [
        outcome if certain or outcome == NOT_RUN else INCONCLUSIVE
        for (_, outcome), certain in zip(decisions, significant, strict=True)
    ]
    return [Verdict(*parts) for parts in zip(claims, outcomes, evidence, strict=True)]


def decide(evidence: list[Evidence]) -> tuple[float, str]:
    """A claim's p-value before correction, and its outcome if that is small enough."""
    if not all(one.values for one in evidence):
        return 1.0, NOT_RUN
    p_values = [one.hypothesis.p_values(one.values) for one in evidence]
    claimed, contrary = zip(*p_values, strict=True)
    holds, fails = max(claimed), min(1.0, len(evidence) * min(contrary))
    return min(1.0, 2 * min(holds, fails)), HOLDS if holds < fails else FAILS


def holm(p: list[float], level: float = LEVEL) -> list[bool]:
    """Which of m hypotheses are rejected: the k-th smallest p, k from 0, is compared with
    level / (m - k), until one is not below."""
    order = sorted(range(len(p)), key=p.__getitem__)
    rejected = [False] * len(p)
    for k, place in enumerate(order):
        if p[place] >= level / (len(p) - k):
            break
        rejected[place] = True
    return rejected


def claimed_experiments(file: Path = CLAIMS) -> list[str]:
    """The experiments that the claims are about."""
    entries = OmegaConf.load(file)
    return list(dict.fromkeys(str(h.experiment) for entry in entries for h in entry.hypotheses))


def verdict_table(verdicts: list[Verdict], title: str = "Do the claims hold?") -> Table:
    rows = [
        [str(number), one.claim, one.outcome, "; ".join(e.text for e in one.evidence)]
        for number, one in enumerate(verdicts, start=1)
    ]
    return Table(title, ["", "claim", "verdict", "evidence"], rows)


def collect_runs(outputs: Path | None) -> dict[str, Runs]:
    """The runs of each experiment that a claim is about: those under `outputs`, else saved results.

    Raises:
        UserError: there is no such folder.
    """
    if outputs is None:
        return {name: load_results(RESULTS, name) for name in claimed_experiments()}
    if not outputs.is_dir():
        raise UserError(f"there is no folder {outputs}: give one that runs were written to")
    runs = {}
    for name in claimed_experiments():
        experiment = load_experiment(name, outputs)
        experiment.add_run_metrics()
        if experiment.is_saved:
            print(f"{name}: not run under {outputs}, taking its saved results", file=sys.stderr)
        runs[name] = experiment.runs
    return runs
