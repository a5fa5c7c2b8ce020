"""The LightningModule of families that train a critic beside the autoencoder."""

from collections.abc import Callable

import torch
from torch import Tensor

from ae_lab.core.randomness import reseed
from ae_lab.data.images import Batch
from ae_lab.models.autoencoder import Autoencoder
from ae_lab.models.critics import Critic


class AdversarialAutoencoder(Autoencoder):
    """An autoencoder and a critic, each with an optimiser of its own.

    On each batch both take a step, by the gradients of the same forward pass:

        autoencoder  min over its weights of objective(output), some terms of which ask the critic
        critic       min over its weights of critic.loss(output)

    Neither loss has a gradient in the other's weights, so that one backward pass of their sum
    makes both gradients, and every weight is used in it, as training on several devices needs.
    `critic` is a function of the shapes of code and image; `critic_optimizer` of its parameters.
    `num_updates` counts steps of the autoencoder's optimiser; the critic's makes as many.

    Source: Goodfellow et al., NeurIPS 2014; steps from one forward pass: Larsen et al., ICML 2016.

    Raises:
        UserError: a part cannot be built as asked, or the critic has nothing to tell apart.
    """

    has_critic = True

    def __init__(
        self,
        critic: Callable[..., Critic],
        critic_optimizer: Callable[..., torch.optim.Optimizer],
        **parts,
    ):
        super().__init__(**parts)
        self.automatic_optimization = False
        self.critic = critic(self.bottleneck.shape, parts["shape"])
        self.critic.check(self)
        self.make_critic_optimizer = critic_optimizer
        critic_optimizer(self.critic.parameters())  # refuses what is impossible, now

    @property
    def monitor(self) -> str:
        """The first metric: a loss that a critic has part in is another measure in each epoch."""
        return f"val/{next(iter(self.metrics))}"

    def build_optimizers(self) -> list[torch.optim.Optimizer]:
        autoencoder = [p for n, p in self.named_parameters() if not n.startswith("critic.")]
        critic = self.critic.parameters()
        return [self.make_optimizer(autoencoder), self.make_critic_optimizer(critic)]

    def compute_losses(self, batch: Batch) -> dict[str, Tensor]:
        output = self(batch)
        loss, terms = self.objective(output, self)
        return {"loss": loss, **terms, "critic": self.critic.loss(output, self)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        reseed(self.device, self.seed, "step", self.steps, self.global_rank)
        losses = self.compute_losses(batch)
        total = losses["loss"] + losses["critic"]
        self.manual_backward(total / self.trainer.accumulate_grad_batches)
        if self.is_last_of_update(batch_idx):
            self.step_optimizers()
        self.count_batch(batch, batch_idx, losses)
        return losses["loss"]

    def step_optimizers(self) -> None:
        """Clip and step both optimisers, and their schedules.

        Lightning counts each step that it takes as one of the trainer's, and lets a scaler of
        gradients change its factor after each. So it takes the last one alone.
        """
        optimizers = self.optimizers(use_pl_optimizer=False)
        clip = self.trainer.gradient_clip_val, self.trainer.gradient_clip_algorithm
        for optimizer in optimizers:
            self.configure_gradient_clipping(optimizer, *clip)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        _, critic = optimizers
        scaler.step(critic) if scaler else critic.step()
        autoencoder, _ = self.optimizers()
        autoencoder.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        for scheduler in self.lr_schedulers():
            scheduler.step()
