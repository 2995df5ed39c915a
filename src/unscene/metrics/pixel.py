"""Metrics that need no labels: reconstruction error and the KL of a Gaussian posterior, one value per image."""

from jaxtyping import Float, Float64
from torch import Tensor

from unscene.errors import InputError


def mse(image: Float[Tensor, "B ..."], reconstruction: Float[Tensor, "..."]) -> Float64[Tensor, "B"]:
    """Squared error per image or video, mean over pixels, channels and frames."""
    if image.shape != reconstruction.shape:
        raise InputError(
            f"image {tuple(image.shape)} and reconstruction {tuple(reconstruction.shape)} must have one shape"
        )
    return (image.double() - reconstruction.double()).square().flatten(1).mean(1)


def normal_kl(mean: Float[Tensor, "B *slots"], scale: Float[Tensor, "B *slots"]) -> Float64[Tensor, "B"]:
    """KL(N(mean, scale^2) || N(0, I)) in nats per image, sum over slots (and frames) and latent dimensions."""
    mean, scale = mean.double().flatten(1), scale.double().flatten(1)
    return 0.5 * (mean.square() + scale.square() - 1 - 2 * scale.log()).sum(1)
