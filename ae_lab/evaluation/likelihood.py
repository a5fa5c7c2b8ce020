"""How probable a variational run finds the images of a split: bounds on log p(x), in nats.

For numbers that compare with the literature on MNIST, train with `data.binarize=true`: the test
set is then one draw of our own, from a fixed seed, not the file that the field uses.
"""

from ae_lab.core.errors import check_int
from ae_lab.core.randomness import reseed
from ae_lab.evaluation.evaluator import Evaluation, summarize
from ae_lab.inference.likelihood import bound_log_likelihood, check_has_likelihood
from ae_lab.inference.loaded_run import LoadedRun


class LikelihoodEvaluator:
    """The ELBO, and the importance-weighted bound with `samples` codes for each of `n` images.

    Raises:
        UserError: samples or n is not an integer >= 1, seed is not one >= 0.
        NotApplicable: the model has no likelihood.
    """

    def __init__(self, samples: int = 5000, n: int = 1000, split: str = "test", seed: int = 0):
        self.samples = check_int("evaluator.likelihood.samples", samples)
        self.n = check_int("evaluator.likelihood.n", n)
        self.split, self.seed = split, check_int("evaluator.likelihood.seed", seed, minimum=0)

    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        check_has_likelihood(loaded.model, str(loaded.run.path))
        batch = loaded.data.eval_batch(self.split, self.n)
        reseed(loaded.model.device, self.seed, "likelihood")
        elbo, log_p = bound_log_likelihood(loaded.model, batch, self.samples)
        values = {"elbo": elbo, "log_p": log_p}
        title = f"{loaded.run.name}: bounds on log p(x), {len(elbo)} images of the {self.split} "
        title += f"split of {loaded.data.images.title}"
        return Evaluation(title, {f"{self.samples:,} codes": summarize(values)}, per_image=values)
