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


def mse_rgb(image: Float[Tensor, "B *frames C H W"], reconstruction: Float[Tensor, "..."]) -> Float64[Tensor, " B"]:
    """Squared length of the error of a pixel's colour: summed over channels, mean over pixels and frames.

    The MSE of Duplicate Latent Representation Suppression (Li et al., 2021); its root, per scene, is the RMSE of MulMON
    (Li et al., 2020).
    """
    return mse(image, reconstruction) * image.shape[-3]


def normal_kl(mean: Float[Tensor, "B *slots"], scale: Float[Tensor, "B *slots"]) -> Float64[Tensor, "B"]:
    """KL(N(mean, scale^2) || N(0, I)) in nats per image, sum over slots (and frames) and latent dimensions."""
    mean, scale = mean.double().flatten(1), scale.double().flatten(1)
    return 0.5 * (mean.square() + scale.square() - 1 - 2 * scale.log()).sum(1)
