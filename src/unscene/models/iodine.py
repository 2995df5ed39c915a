"""IODINE: Multi-Object Representation Learning with Iterative Variational Inference (Greff et al., ICML 2019).

K latent vectors, decoded separately, explain an image together as a spatial mixture. Their posterior starts
from one learned value, the same for every slot; a refinement network improves it T times, looking at what the
current guess explains badly. At the start only the noise of the samples tells the slots apart.

Not as in the paper, but as in its reference code: the latent sample, not the posterior parameters, is
broadcast to the decoder; T refinements and T + 1 decodes, the first of which has no weight in the loss.
Not as in either: refinement inputs that are gradients are those of each image's own loss, so that they do not
depend on the batch; the last decode of `decompose` is that of the posterior mean, not of a sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unscene.errors import InputError
from unscene.likelihoods import LIKELIHOODS, SpatialMixture, gaussian_kl, spatial_mixture
from unscene.models.base import Losses, SceneModel, check_positive
from unscene.nn.blocks import MapNorm, compute_dtype, cosine_coordinates, linear_coordinates
from unscene.nn.decoders import BroadcastDecoder, DeconvDecoder
from unscene.nn.posterior import GaussianPosterior
from unscene.nn.refinement import RefinementNetwork
from unscene.priors.lds import LDS
from unscene.scenes import Decomposition, Scenes, check_image

# What the refinement network sees, in this order. Gradients are those of the negative ELBO.
MAP_INPUTS = (
    "means",
    "mask",
    "mask_logits",
    "mask_posterior",
    "means_gradient",
    "mask_gradient",  # with respect to the mask logits
    "log_likelihood",
    "leave_one_out",
)
CONSTANT_INPUTS = ("image", "coordinates")
VECTOR_INPUTS = ("posterior", "posterior_gradient")
INPUTS = MAP_INPUTS + CONSTANT_INPUTS + VECTOR_INPUTS
NORMALISED = ("means_gradient", "mask_gradient", "log_likelihood", "leave_one_out")  # and stop-gradient


class Guess(NamedTuple):
    """The state of inference at one iteration. N = B K rows, sample-major; P = 2D."""

    posterior: Float[Tensor, "N P"]  # lambda = [mean, s]
    mean: Float[Tensor, "N D"]
    variance: Float[Tensor, "N D"]
    noise: Float[Tensor, "N D"]
    z: Float[Tensor, "N D"]  # mean + sqrt(variance) noise
    means: Float[Tensor, "B K C H W"]
    mask_logits: Float[Tensor, "B K H W"]
    mixture: SpatialMixture


class IODINE(SceneModel):
    """IODINE; the default architecture is the paper's for CLEVR6, recipes hold those of the other datasets.

    Args:
        image_channels: C of the images.
        num_slots: K in training, and in `decompose` unless said otherwise there.
        iterations: T, the number of refinements, likewise.
        latent_size: D of a slot.
        likelihood: density of a pixel.
        likelihood_scale: its scale; by default 0.1 for the Gaussian and 0.03 for the logistic one.
        variance: how the second half s of the posterior parameters gives the variance.
        decoder: spatial broadcast, or transposed convolutions (the paper's ablation; needs ``image_size``).
        decoder_channels: channels of the hidden convolutions (deconv: the first entry is that of all of them).
        decoder_strides: of the broadcast decoder's convolutions, the last included; a 2 doubles the size there, so
            that those before work on a smaller grid. By default all 1, as in the paper.
        decoder_octaves: waves beside the broadcast decoder's linear coordinates; 0 as in the paper.
        kernel_size: of the convolutions in decoder and refinement.
        rgb_activation: applied to the decoded means.
        refinement_channels: channels of the refinement's convolutions, each of stride 2.
        refinement_mlp: sizes of the layers behind the pooling.
        lstm_size: None leaves the LSTM out.
        pool: average over the image, or flatten (needs ``image_size``) behind the refinement's convolutions.
        coordinates: two linear channels, or the eight cosine ones of the reference code, in the refinement.
        without: names of refinement inputs to leave out (see INPUTS), for ablations.
        image_size: (H, W), only where the architecture fixes it.
        lds: options of `unscene.priors.lds.LDS`, such as {"weight": 1.0}; None leaves this prior out.
        recompute: keep no activations inside a refinement step in training and compute them again in the backward
            pass: a third more work, and memory no longer grows with T. With several processes it needs
            DistributedDataParallel's static_graph.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        num_slots: int = 7,
        iterations: int = 5,
        latent_size: int = 64,
        likelihood: Literal["gaussian", "logistic"] = "gaussian",
        likelihood_scale: float | None = None,
        variance: Literal["softplus", "exp"] = "softplus",
        decoder: Literal["broadcast", "deconv"] = "broadcast",
        decoder_channels: Sequence[int] = (64, 64, 64, 64),
        decoder_strides: Sequence[int] | None = None,
        decoder_octaves: int = 0,
        kernel_size: int = 3,
        rgb_activation: Literal["none", "sigmoid"] = "none",
        refinement_channels: Sequence[int] = (64, 64, 64, 64),
        refinement_mlp: Sequence[int] = (256,),
        lstm_size: int | None = 256,
        pool: Literal["average", "flatten"] = "average",
        coordinates: Literal["linear", "cosine"] = "linear",
        without: Sequence[str] = (),
        image_size: Sequence[int] | None = None,
        lds: dict[str, Any] | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        _check_numbers(num_slots, iterations)
        check_positive(image_channels=image_channels, latent_size=latent_size, likelihood_scale=likelihood_scale)
        check_positive(decoder_channels=decoder_channels, kernel_size=kernel_size, image_size=image_size)
        check_positive(refinement_channels=refinement_channels, refinement_mlp=refinement_mlp, lstm_size=lstm_size)
        if kernel_size % 2 == 0:
            raise InputError(f"kernel_size is {kernel_size}; it must be odd, so that convolutions keep the size")
        if unknown := set(without) - set(INPUTS):
            raise InputError(f"without names {sorted(unknown)}, but the refinement inputs are {', '.join(INPUTS)}")
        if set(MAP_INPUTS) <= set(without):
            raise InputError(f"without leaves none of {', '.join(MAP_INPUTS)}; the refinement needs at least one")
        if image_size is None and (decoder == "deconv" or pool == "flatten"):
            raise InputError("decoder='deconv' and pool='flatten' fix the size of images; give image_size=(H, W)")
        self.image_channels, self.num_slots, self.iterations = image_channels, num_slots, iterations
        self.likelihood = LIKELIHOODS[likelihood](*([] if likelihood_scale is None else [likelihood_scale]))
        self.variance, self.rgb_activation, self.recompute = variance, rgb_activation, recompute
        self.image_size, self.lds = image_size, LDS.from_options(lds, num_slots)
        self._num_fixed = 4 if decoder == "broadcast" else 1
        self.coordinates = linear_coordinates if coordinates == "linear" else cosine_coordinates

        self.initial_posterior = nn.Parameter(torch.zeros(2 * latent_size))
        if decoder == "broadcast":
            self.decoder = BroadcastDecoder(
                latent_size, decoder_channels, image_channels + 1, kernel_size, decoder_octaves, decoder_strides
            )
        else:
            self.decoder = DeconvDecoder(latent_size, decoder_channels[0], image_channels + 1, kernel_size, image_size)

        channels = dict.fromkeys(INPUTS, 1) | dict.fromkeys(("image", "means", "means_gradient"), image_channels)
        channels |= {"coordinates": 2 if coordinates == "linear" else 8} | dict.fromkeys(VECTOR_INPUTS, 2 * latent_size)
        self.inputs = [name for name in INPUTS if name not in without]
        self.map_norms = nn.ModuleDict({name: MapNorm(channels[name]) for name in NORMALISED if name in self.inputs})
        if "posterior_gradient" in self.inputs:
            self.vector_norm = nn.LayerNorm(2 * latent_size)
        self.refinement = RefinementNetwork(
            *(
                sum(channels[name] for name in self._in(group))
                for group in (MAP_INPUTS, CONSTANT_INPUTS, VECTOR_INPUTS)
            ),
            2 * latent_size,
            channels=refinement_channels,
            kernel_size=kernel_size,
            mlp=refinement_mlp,
            lstm_size=lstm_size,
            image_size=image_size if pool == "flatten" else None,
        )

    # ---- the two verbs -----------------------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Negative ELBO in nats per image, summed over iterations with weights that rise linearly from 0 to 1.

        The terms ``nll`` and ``kl``, and with the prior ``lds`` its penalty, are those of the last iteration. ``step``
        is not used.
        """
        image = self._checked(batch["image"])
        return self._objective([image] * (self.iterations + 1))

    def _objective(self, targets: Sequence[Tensor]) -> Losses:
        """Decode and score each target, refining in between: the same image T + 1 times, or the frames of a video."""
        posterior, state, total, last = self._start(len(targets[0]), self.num_slots), (), 0.0, len(targets) - 1
        for t, image in enumerate(targets):
            if t == 0 or image is not targets[t - 1]:
                fixed = self._fixed(image)
            inputs = (t < last, image, posterior, *fixed, *state)
            outputs = checkpoint(self._step, *inputs, use_reentrant=True) if self.recompute else self._step(*inputs)
            nll, kl, alike, posterior, *state = outputs
            alike_weight = self.lds.weight_at(t, last) if self.lds else 0.0
            total = total + (nll + kl + alike_weight * alike) * (t / last if last else 1.0)
        terms = {"nll": nll.detach(), "kl": kl.detach()}
        return Losses(total, terms | ({"lds": alike.detach()} if self.lds else {}))

    @torch.no_grad()
    def decompose(
        self,
        image: Float[Tensor, "B C H W"],
        *,
        num_slots: int | None = None,
        iterations: int | None = None,
        history: bool = False,
    ) -> Decomposition:
        """Decompose images with any number of slots and iterations; noise comes from torch's global generator.

        ``slots`` are posterior means, ``slot_scale`` the standard deviations. With ``history`` the result holds
        the Decomposition at each of the T + 1 decodes; without, memory does not grow with T.

        Raises:
            InputError: the images or the numbers are unusable.
        """
        image = self._checked(image)
        num_slots = self.num_slots if num_slots is None else num_slots
        iterations = self.iterations if iterations is None else iterations
        _check_numbers(num_slots, iterations)
        steps: tuple[Decomposition, ...] = ()
        with torch.inference_mode(False), torch.no_grad():  # the decoder's VJP needs a graph of its own
            for guess in self.infer(image, num_slots, iterations):
                last = self._decomposition(guess)
                steps = (*steps, last) if history else ()
        return replace(last, history=steps)

    def decode(self, slots: Float[Tensor, "B K D"], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Means (B, K, C, H, W) and mask logits (B, K, H, W) of given latents, at any (H, W) = ``size``."""
        return self._decode(slots.flatten(0, 1), len(slots), size, self.decoder.prepare(size))

    def posteriors(self, scenes: Scenes, **options: int) -> dict[str, GaussianPosterior]:
        """The last posterior of one image, for `unscene.evaluation.gap`; ``options`` are those of `decompose`."""
        image = self._checked(scenes["image"])
        d = self.decompose(image, **options)

        def log_likelihood(slots: Float[Tensor, "S K D"]) -> Float[Tensor, " S"]:
            means, mask_logits = self.decode(slots, tuple(image.shape[-2:]))
            mixture = spatial_mixture(self.likelihood, image.expand(len(slots), -1, -1, -1), means, mask_logits)
            return mixture.log_prob.double().flatten(1).sum(1)

        return {"gap": GaussianPosterior(d.slots[0], d.slot_scale[0], log_likelihood)}

    # ---- inference ---------------------------------------------------------------------------------------------

    def infer(self, image: Float[Tensor, "B C H W"], num_slots: int, iterations: int) -> Iterator[Guess]:
        """Yield the guess before the first and after every refinement; the last is that of the posterior mean."""
        posterior, fixed, state = self._start(len(image), num_slots), self._fixed(image), ()
        for _ in range(iterations):
            guess = self._guess(image, posterior, fixed)
            yield guess
            posterior, *state = self._refine(guess, fixed, state)
        yield self._guess(image, posterior, fixed, sample=False)

    def _step(self, refine: bool, image: Tensor, posterior: Tensor, *fixed_and_state: Tensor) -> tuple[Tensor, ...]:
        """One decode, its loss terms, and the refinement that follows; tensors in and out, to be checkpointed."""
        fixed, state = fixed_and_state[: self._num_fixed], fixed_and_state[self._num_fixed :]
        guess = self._guess(image, posterior, fixed)
        nll = -guess.mixture.log_prob.sum() / len(image)
        kl = gaussian_kl(guess.mean, guess.variance).sum() / len(image)
        alike = nll.new_zeros(())
        if self.lds:
            latents = (x.unflatten(0, (len(image), -1)) for x in (guess.z, guess.mean))
            alike = self.lds.mean(*latents, guess.mixture.masks)
        return nll, kl, alike, *(self._refine(guess, fixed, state) if refine else (posterior, *state))

    def _start(self, batch_size: int, num_slots: int) -> Float[Tensor, "N P"]:
        return self.initial_posterior.expand(batch_size * num_slots, -1)

    def _fixed(self, image: Tensor) -> tuple[Tensor, ...]:
        """What no iteration changes: the refinement's view of the image, and the decoder's first layer."""
        size = tuple(image.shape[-2:])
        inputs = {"image": image, "coordinates": self.coordinates(size, image).expand(len(image), -1, -1, -1)}
        maps = torch.cat([image[:, :0], *(inputs[name] for name in self._in(CONSTANT_INPUTS))], 1)
        return self.refinement.constant(maps), *self.decoder.prepare(size)

    def _guess(self, image: Tensor, posterior: Tensor, fixed: Sequence[Tensor], sample: bool = True) -> Guess:
        mean, s = posterior.chunk(2, 1)
        variance = F.softplus(s) if self.variance == "softplus" else s.exp()
        noise = torch.randn_like(mean) if sample else torch.zeros_like(mean)
        z = mean + variance.sqrt() * noise
        with torch.enable_grad():
            z = z if z.requires_grad else z.requires_grad_()  # at inference the graph reaches no further than z
            means, mask_logits = self._decode(z, len(image), tuple(image.shape[-2:]), fixed[1:])
            mixture = spatial_mixture(self.likelihood, image, means, mask_logits)
        return Guess(posterior, mean, variance, noise, z, means, mask_logits, mixture)

    def _decode(self, z: Tensor, batch_size: int, size: tuple[int, int], prepared: Sequence[Tensor]):
        out = self.decoder(z, size, *prepared).contiguous().to(z.dtype)  # planar: all that follows is elementwise
        means, mask_logits = out.unflatten(0, (batch_size, -1)).split([self.image_channels, 1], 2)
        return means.sigmoid() if self.rgb_activation == "sigmoid" else means, mask_logits.squeeze(2)

    def _refine(self, guess: Guess, fixed: Sequence[Tensor], state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        delta, *state = self.refinement(self._maps(guess), fixed[0], self._vectors(guess), *state)
        return self._updated(guess.posterior, delta), *state

    def _updated(self, posterior: Tensor, delta: Tensor) -> Float[Tensor, "N P"]:
        return posterior + delta

    def _limited(self, gradient: Tensor) -> Tensor:
        """What the refinement sees of a gradient."""
        return gradient

    # ---- the inputs of the refinement --------------------------------------------------------------------------

    def _maps(self, guess: Guess) -> Float[Tensor, "B K C H W"]:
        mixture = guess.mixture
        maps = {
            "means": guess.means,
            "mask": mixture.masks.unsqueeze(2),
            "mask_logits": guess.mask_logits.unsqueeze(2),
            "mask_posterior": mixture.mask_posterior.unsqueeze(2),
        }
        with torch.no_grad():
            constants = {
                "means_gradient": self._limited(mixture.means_gradient),
                "mask_gradient": self._limited(mixture.mask_gradient).unsqueeze(2),
                "log_likelihood": mixture.log_prob.unsqueeze(2),
                "leave_one_out": mixture.leave_one_out.unsqueeze(2),
            }
        maps |= {name: norm(constants[name]) for name, norm in self.map_norms.items()}
        shape, dtype = (-1, guess.means.shape[1], -1, -1, -1), compute_dtype(guess.means)
        return torch.cat([maps[name].to(dtype).expand(shape) for name in self._in(MAP_INPUTS)], 2)

    def _vectors(self, guess: Guess) -> Float[Tensor, "N V"]:
        vectors = {"posterior": guess.posterior}
        if "posterior_gradient" in self.inputs:
            vectors["posterior_gradient"] = self.vector_norm(self._limited(self._posterior_gradient(guess)))
        return torch.cat([vectors[name] for name in self._in(VECTOR_INPUTS)], 1)

    def _posterior_gradient(self, guess: Guess) -> Float[Tensor, "N P"]:
        """Gradient of each image's own loss: the decoder's VJP of the closed-form ones, and that of the KL."""
        _, mean, variance, noise, z, means, mask_logits, mixture = guess
        gradients = (mixture.means_gradient, mixture.mask_gradient)
        (dz,) = torch.autograd.grad((means, mask_logits), z, gradients, retain_graph=torch.is_grad_enabled())
        d_mean = mean
        if self.lds and self.lds.in_refinement:
            latents = (x.unflatten(0, (len(means), -1)) for x in (z, mean))
            dz_alike, d_mean_alike = self.lds.gradient(*latents, mixture.masks)
            dz, d_mean = dz + dz_alike.flatten(0, 1), d_mean + d_mean_alike.flatten(0, 1)
        with torch.no_grad():
            d_variance = 0.5 * (dz * noise / variance.sqrt() + 1 - 1 / variance)
            d_s = d_variance * (-torch.expm1(-variance) if self.variance == "softplus" else variance)
            return torch.cat([dz + d_mean, d_s], 1)

    # ---- small things ------------------------------------------------------------------------------------------

    def _in(self, group: Sequence[str]) -> list[str]:
        return [name for name in group if name in self.inputs]

    def _checked(self, image: Tensor) -> Tensor:
        check_image(image, channels=self.image_channels)
        if self.image_size is not None and tuple(image.shape[-2:]) != tuple(self.image_size):
            raise InputError(
                f"image is {tuple(image.shape[-2:])} but this model was built for image_size={tuple(self.image_size)}; "
                "resize the image, or use the broadcast decoder with average pooling, which takes any size"
            )
        return image.to(self.initial_posterior.dtype)

    @staticmethod
    def _decomposition(guess: Guess) -> Decomposition:
        def per_image(x: Tensor) -> Tensor:
            return x.unflatten(0, (len(guess.means), -1))

        return Decomposition(
            masks=guess.mixture.masks.detach(),
            components=guess.means.detach(),
            slots=per_image(guess.mean),
            mask_logits=guess.mask_logits.detach(),
            slot_scale=per_image(guess.variance.sqrt()),
        )


def _check_numbers(num_slots: int, iterations: int) -> None:
    if num_slots < 1:
        raise InputError(f"num_slots is {num_slots}; a decomposition needs at least 1 slot")
    if iterations < 0:
        raise InputError(f"iterations is {iterations}; it must be 0 (no refinement) or more")
