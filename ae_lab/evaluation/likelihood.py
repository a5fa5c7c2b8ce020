"""How probable a variational run finds images: bounds on log p(x), in nats.

    python -m ae_lab.evaluation.likelihood run=outputs/runs/... samples=5000 n=1000

The data is the run's own. For figures that compare with the literature on MNIST, train with
`data.binary=true`: the test set is then one draw of its own, seeded, not the field's file.
"""

import math

import torch
from omegaconf import DictConfig
from rich.table import Table
from torch import Tensor

from ae_lab.core.console import print_table
from ae_lab.core.errors import UserError, check_int
from ae_lab.core.files import write_json
from ae_lab.core.randomness import reseed
from ae_lab.data.images import Batch
from ae_lab.evaluation.reconstruction import standard_error
from ae_lab.inference.loaded_run import LoadedRun, load_run, run_from_path

CODES_AT_ONCE = 20_000


def likelihood(config: DictConfig) -> dict[str, float]:
    """The mean over n test images of the ELBO and of the importance-weighted bound.

    Raises:
        UserError: no run named, or one whose model has no likelihood.
    """
    n, samples = check_int("n", config.n), check_int("samples", config.samples)
    loaded = load_run(run_from_path(config.run))
    if loaded.model.objective.likelihood is None or not loaded.model.random:
        raise UserError(f"{loaded.run.path} has no likelihood: take model=vae or model=iwae")
    batch = loaded.data.evaluated(config.split, n)
    reseed(loaded.model.device, check_int("seed", config.seed, minimum=0), "likelihood")
    elbo, bound = bounds(loaded, batch, samples)
    found = {
        "n": len(elbo),
        "samples": samples,
        "elbo": float(elbo.mean()),
        "elbo/se": standard_error(elbo),
        "log_p": float(bound.mean()),
        "log_p/se": standard_error(bound),
    }
    show(loaded, config.split, found)
    file = loaded.run.path / "evaluated" / f"likelihood-{config.split}-{len(elbo)}-{samples}.json"
    write_json(file, found)
    print(file)
    return found


@torch.no_grad()
def bounds(loaded: LoadedRun, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
    """For each image (B,): the mean over codes of log w, and log of the mean of w,

        w = p(x | z) p(z) / q(z | x),  z ~ q(z | x).

    The first estimates the ELBO, the second is the bound of Burda et al. with so many codes.
    """
    model, scored = loaded.model, []
    at_once = max(1, min(samples, CODES_AT_ONCE))
    for start in range(0, len(batch.index), max(1, CODES_AT_ONCE // at_once)):
        part = batch.part(slice(start, start + max(1, CODES_AT_ONCE // at_once)))
        weights = []
        for done in range(0, samples, at_once):
            model.bottleneck.samples = min(at_once, samples - done)
            out = model(part, draw=True)
            log_p = model.objective.likelihood.log_density(out, model)
            weights.append((log_p + out.extras["log_ratio"]).reshape(-1, len(part.index)))
        log_w = torch.cat(weights)
        scored.append((log_w.mean(0), log_w.logsumexp(0) - math.log(samples)))
    elbo, bound = (torch.cat(values) for values in zip(*scored, strict=True))
    return elbo, bound


def show(loaded: LoadedRun, split: str, found: dict[str, float]) -> None:
    title = f"{loaded.run.name}, {found['n']} images of the {split} split"
    drawn = Table(title=f"{title} of {loaded.data.images.title}", title_justify="left")
    for heading in ("bound on log p(x)", "nats", "± standard error"):
        drawn.add_column(heading)
    for name, key in (("ELBO", "elbo"), (f"IWAE, {found['samples']:,} codes", "log_p")):
        drawn.add_row(name, f"{found[key]:.2f}", f"{found[f'{key}/se']:.2f}")
    print_table(drawn)
