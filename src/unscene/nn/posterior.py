"""The posterior of one image as the inference gap needs it (see `unscene.evaluation.gap`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Float64
from torch import Tensor


class Posterior(NamedTuple):
    """Any posterior, as the shape of the noise behind a sample and what the samples are worth."""

    noise_shape: tuple[int, ...]
    log_weights: Callable[[Float[Tensor, "S K D"]], Float64[Tensor, " S"]]


@dataclass(frozen=True)
class GaussianPosterior:
    """q(z | x) = N(mean, scale^2) of the slots of one image, beside a prior of all or of each, by default N(0, I).

    ``log_likelihood`` gives log p(x | z) in nats of S samples of the slots.
    """

    mean: Float[Tensor, "K D"]
    scale: Float[Tensor, "K D"]
    log_likelihood: Callable[[Float[Tensor, "S K D"]], Float[Tensor, " S"]]
    prior_mean: Float[Tensor, "*K D"] | None = None
    prior_scale: Float[Tensor, "*K D"] | None = None

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Standard normal numbers behind one sample."""
        return tuple(self.mean.shape)

    def log_weights(self, noise: Float[Tensor, "S K D"]) -> Float64[Tensor, " S"]:
        """log p(x | z) + log p(z) - log q(z | x) of the samples z = mean + scale noise."""
        z = self.mean + self.scale * noise.to(self.mean)
        normal, scale = z.double(), self.scale.double()  # z as a standard normal number of the prior
        if self.prior_mean is not None:
            normal, scale = (normal - self.prior_mean) / self.prior_scale, scale / self.prior_scale
        log_ratio = 0.5 * (noise.double().square() - normal.square()) + scale.log()
        return self.log_likelihood(z).double() + log_ratio.flatten(1).sum(1)
