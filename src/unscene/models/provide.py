"""PROVIDE: Unsupervised Video Decomposition using Spatio-temporal Iterative Inference (Zablotskaia et al., 2020).

Each frame of a video is explained as in IODINE, by K latent vectors refined iteratively. What is known of earlier
frames comes through a 2D-LSTM whose state moves along two axes, refinement and time, and which conditions the prior
and the decoder. Later frames need fewer refinements: frame f is decoded max(R - f, 2) times.

Where paper and official code disagree, the defaults are those of the code, which made the published numbers; options
give the other. Not as in either: refinement inputs that are gradients are those of each video's own loss, so that
they do not depend on the batch; SqueezeNet features are `nn.squeezenet`, and off by default.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unscene.errors import InputError
from unscene.likelihoods import Gaussian, SpatialMixture, spatial_mixture
from unscene.models.base import Losses, VideoModel, check_positive
from unscene.nn.blocks import compute_dtype, lecun_init, linear, linear_coordinates
from unscene.nn.decoders import BroadcastDecoder
from unscene.nn.refinement import MapEncoder
from unscene.nn.squeezenet import SqueezeFeatures
from unscene.priors.lds import LDS
from unscene.scenes import Decomposition, Scenes, check_image

Trail = tuple[Float[Tensor, "N D"], ...]  # means of the last frames' posteriors, the oldest first
State = tuple[Trail, Float[Tensor, "N S"], Float[Tensor, "N S"]]  # what frames leave to the next, the 2D-LSTM's last


class Frame(NamedTuple):
    """What stays the same in all iterations of one frame. N = B K rows, sample-major."""

    image: Float[Tensor, "B C H W"]
    constant: Tensor  # the refinement's view of the image
    hidden: Float[Tensor, "N S"]  # temporal state of the 2D-LSTM
    cell: Float[Tensor, "N S"]
    prior_mean: Float[Tensor, "N D"]
    prior_logvar: Float[Tensor, "N D"]
    beta: Tensor  # weight of the likelihood, scalar
    prepared: tuple[Tensor, ...]  # of the decoder


class Guess(NamedTuple):
    """One decode, and the posterior it came from."""

    posterior: Float[Tensor, "N P"]  # lambda = [mean, log variance]
    noise: Float[Tensor, "N D"] | None  # of the sample; None where that does not come from this posterior
    z: Float[Tensor, "N D"]
    means: Float[Tensor, "B K C H W"]
    mask_logits: Float[Tensor, "B K H W"]
    mixture: SpatialMixture


class LSTM2D(nn.Module):
    """LSTM cell with two predecessors, in time and in refinement; one forget gate, one gate that mixes their cells."""

    def __init__(self, in_size: int, size: int) -> None:
        super().__init__()
        self.input, self.time, self.refinement = (nn.Linear(n, 5 * size) for n in (in_size, size, size))

    def forward(self, x: Tensor, hidden_t: Tensor, cell_t: Tensor, hidden_r: Tensor, cell_r: Tensor):
        gates, new = (self.input(x) + self.time(hidden_t) + self.refinement(hidden_r)).split(
            [4 * cell_t.shape[1], cell_t.shape[1]], 1
        )
        i, forget, output, mix = gates.sigmoid().chunk(4, 1)
        cell = forget * (mix * cell_t + (1 - mix) * cell_r) + i * new.tanh()
        return output * cell.tanh(), cell


class PROVIDE(VideoModel):
    """PROVIDE; the defaults are those for Bouncing Balls in colour, without SqueezeNet features.

    Args:
        image_channels: C of the frames.
        image_size: (H, W) of the frames, fixed by the refinement's linear layer.
        num_slots: K in training, and later unless said otherwise.
        iterations: R, the number of decodes of the first frame.
        latent_size: D of a slot.
        hidden_size: of the 2D-LSTM.
        decoder_channels: of the decoder's hidden convolutions.
        decoder_strides: of all its convolutions (see BroadcastDecoder); by default all 1, as in the paper.
        decoder_octaves: waves beside its linear coordinates; 0 as in the paper.
        refinement_channels: of the refinement's convolutions.
        refinement_stride: of these; 1 in the paper.
        refinement_pool: size of the average pool behind them.
        kernel_size: of all convolutions.
        variance: of the Gaussian likelihood, which has no normalising constant.
        mixture: one mixture per colour channel (the code), or one per pixel.
        likelihood_weight: beta, of the negative log likelihood; at the start if ``adapt_weight``.
        kl_weight: psi.
        entropy_weight: gamma, of the entropy of the masks, which is minimised (0.1 for binary videos).
        adapt_weight: beta becomes 300 after a loss above 600, 100 after one from 200 to 600 (the code, in colour).
        grid: fewer refinements in later frames, or R decodes in each (ablation).
        conditional: the temporal state conditions prior and decoder; else N(0, I) and z alone (ablation).
        temporal: False leaves the time axis out, with a plain LSTM: the paper's baseline, IODINE on each frame; it
            needs ``grid`` "full" and ``conditional`` False.
        step_weight: evaluation i counts (i + 1) / R ("constant", the code), or over those of its frame ("frame"), or
            nothing before the first refinement and 1 behind the last, as in IODINE ("refined"); but frames that start
            at a prediction count as with "frame".
        prior_logvar: the prior's log variance is a softplus, so at least 0 (the code), or linear.
        mask_posterior: softmax over the slots of likelihoods (the code) or of their logarithms, as in IODINE.
        resample: draw the first sample of every frame from the posterior, instead of one for the whole video.
        start: where the posterior of a later frame starts: at the "learned" one of every frame, or at the "predicted"
            one, the conditional prior, which is then the mean of the frame before and a change. By that slots keep
            their objects although samples are drawn anew, and the first decode of a frame is its prediction. Not in
            the paper.
        motion: the prior then expects the mean change of the last so many frames to go on, and its network, which
            sees that change and the posterior's mean beside the temporal state, only what departs from it. Not in
            the paper.
        predict_z: what predicted frames are decoded from: the video's first sample, or the mean of the prior.
        predicted_frames: so many frames at the end of a training clip, but never the first, are not seen but predicted,
            one from the other, and their negative log likelihood counts. Not in the paper, where nothing trains that.
        features: add SqueezeNet features of the frame to the refinement's inputs.
        feature_weights: file with weights of torchvision's SqueezeNet 1.1 to start these from; not kept in the config.
        lds: options of `unscene.priors.lds.LDS`, such as {"weight": 1.0}; None leaves this prior out.
        code_norm: normalise what the refinement's convolutions tell the 2D-LSTM, over its features. Not in the paper:
            without it these can grow until every gate is saturated, and no frame reaches the posterior any more.
        shortcut: a linear layer from the inputs of the 2D-LSTM to the posterior, beside the one from its state. Not in
            the paper: an LSTM alone keeps the first plateau for long, in IODINE too (docs/results.md).
        mask_gradient: the refinement sees that with respect to the "masks" (the code), which has heavy tails where the
            variance is small, or to their "logits", as in IODINE.
        initialisation: that of the "framework" (the code), or a "strong" one: LeCun's, and a head ten times as large,
            so that posteriors move as far as their noise from the first step on.
        recompute: keep no activations inside an iteration in training and compute them again in the backward pass.
        truncate: stop gradients between frames after so many; None never does.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        image_size: Sequence[int] = (64, 64),
        num_slots: int = 5,
        iterations: int = 6,
        latent_size: int = 64,
        hidden_size: int = 128,
        decoder_channels: Sequence[int] = (64, 64, 64, 64),
        decoder_strides: Sequence[int] | None = None,
        decoder_octaves: int = 0,
        refinement_channels: Sequence[int] = (64, 64, 64, 64),
        refinement_stride: int = 1,
        refinement_pool: int = 4,
        kernel_size: int = 3,
        variance: float = 0.3,
        mixture: Literal["channel", "pixel"] = "channel",
        likelihood_weight: float = 100.0,
        kl_weight: float = 10.0,
        entropy_weight: float = 0.0,
        adapt_weight: bool = True,
        grid: Literal["triangular", "full"] = "triangular",
        conditional: bool = True,
        temporal: bool = True,
        step_weight: Literal["constant", "frame", "refined"] = "constant",
        prior_logvar: Literal["softplus", "linear"] = "softplus",
        mask_posterior: Literal["likelihood", "log_likelihood"] = "likelihood",
        resample: bool = False,
        start: Literal["learned", "predicted"] = "learned",
        motion: int = 0,
        predict_z: Literal["first", "prior_mean"] = "first",
        predicted_frames: int = 0,
        features: Literal["none", "squeeze"] = "none",
        feature_weights: str | None = None,
        lds: dict[str, Any] | None = None,
        code_norm: bool = False,
        shortcut: bool = False,
        mask_gradient: Literal["masks", "logits"] = "masks",
        initialisation: Literal["framework", "strong"] = "framework",
        recompute: bool = False,
        truncate: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(image_channels=image_channels, image_size=image_size, num_slots=num_slots, iterations=iterations)
        check_positive(latent_size=latent_size, hidden_size=hidden_size, variance=variance, truncate=truncate)
        check_positive(decoder_channels=decoder_channels, kernel_size=kernel_size, refinement_pool=refinement_pool)
        check_positive(refinement_channels=refinement_channels, refinement_stride=refinement_stride)
        if not temporal and (conditional or grid != "full"):
            raise InputError("temporal=False leaves nothing to condition on; set conditional=False and grid='full' too")
        if start == "predicted" and not conditional:
            raise InputError("start is 'predicted', but with conditional=False nothing predicts; set it to True")
        if motion < 0 or (motion and start != "predicted"):
            raise InputError(f"motion is {motion} with start '{start}'; it needs to be 0, or above 0 with 'predicted'")
        self.image_channels, self.image_size = image_channels, tuple(image_size)
        self.num_slots, self.iterations = num_slots, iterations
        self.likelihood, self.per_channel = Gaussian(variance**0.5, normalised=False), mixture == "channel"
        self.kl_weight, self.entropy_weight, self.adapt_weight = kl_weight, entropy_weight, adapt_weight
        self.grid, self.conditional, self.step_weight = grid, conditional, step_weight
        self.resample, self.start, self.motion = resample, start, motion
        self.prior_logvar, self.mask_posterior, self.predict_z = prior_logvar, mask_posterior, predict_z
        self.predicted_frames = predicted_frames
        self.lds, self.code_norm = LDS.from_options(lds, num_slots), code_norm
        self.mask_gradient = mask_gradient
        self.recompute, self.truncate = recompute, truncate

        self.initial_posterior = nn.Parameter(torch.empty(2 * latent_size).uniform_(-0.5, 0.5))
        self.register_buffer("beta", torch.tensor(float(likelihood_weight)))
        if conditional:
            known = hidden_size + (2 * latent_size if motion else 0)
            self.prior = nn.ModuleList(
                [nn.Linear(known, hidden_size), *(nn.Linear(hidden_size, latent_size) for _ in range(2))]
            )
            if motion:
                self.momentum = nn.Linear(latent_size, latent_size, bias=False)
                nn.init.zeros_(self.momentum.weight)
            self.condition = nn.Sequential(
                nn.Linear(latent_size + hidden_size, latent_size),
                nn.ELU(),
                nn.Linear(latent_size, latent_size),
                nn.ELU(),
            )
        self.decoder = BroadcastDecoder(
            latent_size, decoder_channels, image_channels + 1, kernel_size, decoder_octaves, decoder_strides
        )
        self.features = SqueezeFeatures(feature_weights) if features == "squeeze" else None
        if feature_weights is not None:
            self._hub_mixin_config.pop("feature_weights")  # saved weights hold them, and the file may be gone by then
        self.encoder = MapEncoder(
            5 + 2 * image_channels,
            2 + image_channels + (self.features.out_channels if self.features else 0),
            channels=refinement_channels,
            kernel_size=kernel_size,
            mlp=(hidden_size,),
            stride=refinement_stride,
            image_size=image_size,
            pool_size=refinement_pool,
        )
        inputs = 4 * latent_size + hidden_size
        self.cell = (LSTM2D if temporal else nn.LSTMCell)(inputs, hidden_size)
        self.head = nn.Linear(hidden_size, 2 * latent_size)
        self.shortcut = linear(inputs, 2 * latent_size) if shortcut else None
        self._initialise(strong=initialisation == "strong")

    # ---- the two verbs -----------------------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Weighted sum over frames and iterations of beta NLL + psi KL + gamma entropy, mean over videos.

        The terms ``nll``, ``kl`` and ``entropy``, and with the prior ``lds`` its penalty, are those of each frame's
        last decode, mean over frames, in nats; ``predicted_nll`` is the mean over those predicted.
        """
        video = self._checked(batch["image"], "B, T, C, H, W", "video")
        observed = max(video.shape[1] - self.predicted_frames, 1)
        first, (hidden, cell) = self._first_sample(len(video) * self.num_slots), self._start(len(video), self.num_slots)
        prepared, total, last, trail = self.decoder.prepare(self.image_size), 0.0, [], ()
        for f, image in enumerate(video[:, :observed].unbind(1)):
            if self.truncate and f and f % self.truncate == 0:
                hidden, cell, trail = hidden.detach(), cell.detach(), tuple(mean.detach() for mean in trail)
            frame = self._frame(image, hidden, cell, prepared, trail)
            posterior = self._opening(frame, trail)
            hidden, cell = torch.zeros_like(hidden), torch.zeros_like(cell)
            num_decodes = self.num_decodes(f)
            for i in range(num_decodes):
                state = (posterior, hidden, cell, first if i == 0 and not self.resample else None)
                terms, (posterior, hidden, cell) = self._iterate(frame, state, update=i < self.iterations - 1)
                alike_weight = self.lds.weight_at(i, num_decodes - 1) if self.lds else 0.0
                weights = (frame.beta, self.kl_weight, self.entropy_weight, alike_weight)
                objective = sum(w * t for w, t in zip(weights, terms, strict=True))
                total = total + self._weight(f, i, num_decodes) * objective
            trail = self._longer(trail, posterior)
            last.append(torch.stack([term.detach() for term in terms]))
        means = dict(zip(("nll", "kl", "entropy", "lds"), torch.stack(last).mean(0), strict=True))
        if self.training and self.adapt_weight:
            self._adapt(last[-1][0])
        if future := video.shape[1] - observed:
            nll = self._prediction_loss(video[:, observed:], first, (trail, hidden, cell), prepared)
            total, means["predicted_nll"] = total + self.beta * nll, nll.detach() / future
        return Losses(total, {name: mean for name, mean in means.items() if self.lds or name != "lds"})

    def stream(
        self, frames: Iterable[Tensor], *, num_slots: int | None = None, horizon: int = 0
    ) -> Iterator[Decomposition]:
        """As VideoModel.stream; each Decomposition is of a frame's last decode, ``slots`` are posterior means.

        Predicted frames are decoded from the temporal state, which then takes them for real ones without gradients
        of a loss; their ``slots`` are the means of the conditional prior.
        """
        num_slots, state, first = self.num_slots if num_slots is None else num_slots, None, None
        check_positive(num_slots=num_slots)
        with torch.inference_mode(False), torch.no_grad():  # not around a yield: it would hold for the caller too
            prepared = self.decoder.prepare(self.image_size)
        for f, image in enumerate(frames):
            image = self._checked(image)
            if state is None:
                with torch.inference_mode(False):  # so that a graph can begin at the sample
                    first = self._first_sample(len(image) * num_slots)
                    state = ((), *self._start(len(image), num_slots))
            decomposition, state = self._observe(image, f, first, *state, prepared)
            yield decomposition
        if state is None:
            raise InputError("the video has no frames; give at least one")
        for _ in range(horizon):
            decomposition, state = self._imagine(len(image), first, *state, prepared)
            yield decomposition

    def num_decodes(self, frame: int) -> int:
        """Decodes of a frame, which is counted from 0."""
        return self.iterations if self.grid == "full" else min(max(self.iterations - frame, 2), self.iterations)

    # ---- one frame ---------------------------------------------------------------------------------------------

    def _observe(
        self,
        image: Tensor,
        f: int,
        first: Tensor,
        trail: Trail,
        hidden: Tensor,
        cell: Tensor,
        prepared: Sequence[Tensor],
    ):
        """The Decomposition of frame ``f``, and what it leaves to the next: the trail and the temporal state."""
        with torch.inference_mode(False), torch.no_grad():  # the decoder's VJP needs a graph of its own
            frame = self._frame(image, hidden, cell, prepared, trail)
            posterior = self._opening(frame, trail)
            hidden, cell = torch.zeros_like(hidden), torch.zeros_like(cell)
            for i in range(self.num_decodes(f)):
                guess = self._guess(frame, posterior, first if i == 0 and not self.resample else None)
                if i < self.iterations - 1:
                    posterior, hidden, cell = self._refine(frame, guess, hidden, cell)
            state = self._longer(trail, posterior), hidden, cell
            return self._decomposition(guess, *guess.posterior.chunk(2, 1)), state

    @torch.no_grad()
    def _imagine(self, *state: Any) -> tuple[Decomposition, State]:
        """The Decomposition of the next frame, and what follows on it."""
        frame, guess, state = self._expect(*state)
        return self._decomposition(guess, frame.prior_mean, frame.prior_logvar), state

    def _prediction_loss(
        self, future: Tensor, first: Tensor, state: State, prepared: Sequence[Tensor]
    ) -> Float[Tensor, ""]:
        """Negative log likelihood of the frames (B, T, C, H, W) that follow, sum over them, mean over videos."""
        total = 0.0
        for image in future.unbind(1):
            _, guess, state = self._expect(len(image), first, *state, prepared)
            outputs = guess.means, guess.mask_logits
            total = total - spatial_mixture(self.likelihood, image, *outputs, self.per_channel).log_prob.sum()
        return total / len(future)

    def _expect(
        self, batch_size: int, first: Tensor, trail: Trail, hidden: Tensor, cell: Tensor, prepared: Sequence[Tensor]
    ) -> tuple[Frame, Guess, State]:
        """The next frame, and what follows on it; one decode, one update without gradient inputs."""
        z = first if self.predict_z == "first" else self._prior(hidden, trail)[0]
        means, mask_logits = self._decode(z, hidden, batch_size, prepared)
        image = (mask_logits.softmax(1).unsqueeze(2) * means).sum(1)
        frame = self._frame(image, hidden, cell, prepared, trail)
        posterior = self._opening(frame, trail)
        mixture = spatial_mixture(self.likelihood, image, means, mask_logits, self.per_channel)
        guess = Guess(posterior, None, z, means, mask_logits, mixture)
        none = [torch.zeros_like(x) for x in (means, mask_logits, posterior)]
        _, *state = self._refine(frame, guess, torch.zeros_like(hidden), torch.zeros_like(cell), none)
        return frame, guess, (self._longer(trail, posterior), *state)

    def _iterate(self, frame: Frame, state: Sequence[Tensor | None], update: bool):
        """Loss terms of one decode, then the posterior and LSTM state that follow."""

        def run(beta, posterior, hidden, cell, first, *rest):
            now = Frame(*rest[:6], beta, rest[6:])
            guess = self._guess(now, posterior, first)
            terms = self._terms(now, guess)
            return (*terms, *(self._refine(now, guess, hidden, cell) if update else (posterior, hidden, cell)))

        inputs = (frame.beta, *state, *frame[:6], *frame.prepared)
        outputs = checkpoint(run, *inputs, use_reentrant=True) if self.recompute else run(*inputs)
        return outputs[:4], outputs[4:]

    def _frame(
        self, image: Tensor, hidden: Tensor, cell: Tensor, prepared: Sequence[Tensor], trail: Trail = ()
    ) -> Frame:
        prior = self._prior(hidden, trail)
        return Frame(image, self._constant(image), hidden, cell, *prior, self.beta, tuple(prepared))

    def _prior(self, hidden: Tensor, trail: Trail = ()) -> tuple[Tensor, Tensor]:
        """Mean and log variance of z given the temporal state, and if frames start there the ``trail``."""
        zeros = hidden.new_zeros(len(hidden), len(self.initial_posterior) // 2)
        if not self.conditional:
            return zeros, zeros
        shared, mean, logvar = self.prior
        last = trail[-1] if trail and self.start == "predicted" else zeros
        known, expected = [hidden], last
        if self.motion:
            change = (last - trail[0]) / max(len(trail) - 1, 1) if trail else zeros
            known, expected = [hidden, last, change], last + self.momentum(change)
        code = shared(torch.cat(known, 1)).relu()
        return expected + mean(code), F.softplus(logvar(code)) if self.prior_logvar == "softplus" else logvar(code)

    def _guess(self, frame: Frame, posterior: Tensor, z: Tensor | None) -> Guess:
        mean, logvar = posterior.chunk(2, 1)
        noise = torch.randn_like(mean) if z is None else None
        z = mean + (0.5 * logvar).exp() * noise if z is None else z
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            means, mask_logits = self._decode(z, frame.hidden, len(frame.image), frame.prepared)
            mixture = spatial_mixture(self.likelihood, frame.image, means, mask_logits, self.per_channel)
        return Guess(posterior, noise, z, means, mask_logits, mixture)

    def _decode(self, z: Tensor, hidden: Tensor, batch_size: int, prepared: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        code = self.condition(torch.cat([z, hidden], 1)) if self.conditional else z
        out = self.decoder(code, self.image_size, *prepared).contiguous().to(z.dtype)
        means, logits = out.unflatten(0, (batch_size, -1)).split([self.image_channels, 1], 2)
        return means.sigmoid(), logits.squeeze(2)

    def _refine(self, frame: Frame, guess: Guess, hidden: Tensor, cell: Tensor, gradients=None) -> tuple[Tensor, ...]:
        """The next posterior and the 2D-LSTM's state there."""
        d_means, d_masks, d_posterior = self._gradients(frame, guess) if gradients is None else gradients
        code = self.encoder.encode(self._maps(frame, guess, d_means, d_masks), frame.constant)
        with torch.autocast(code.device.type, enabled=False):
            code = F.layer_norm(code, code.shape[1:]) if self.code_norm else code
            x = torch.cat([guess.posterior, F.layer_norm(d_posterior, d_posterior.shape[1:]), code], 1)
            if isinstance(self.cell, LSTM2D):
                hidden, cell = self.cell(x, frame.hidden, frame.cell, hidden, cell)
            else:
                hidden, cell = self.cell(x, (hidden, cell))
            change = self.head(hidden) if self.shortcut is None else self.head(hidden) + self.shortcut(x)
            return guess.posterior + change, hidden, cell

    # ---- objective and the inputs of the refinement ------------------------------------------------------------

    def _terms(self, frame: Frame, guess: Guess) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Negative log likelihood, KL, entropy of the masks, LDS; summed over all but the batch, mean over that."""
        masks, (mean, logvar) = guess.mixture.masks, guess.posterior.chunk(2, 1)
        ratio = logvar - frame.prior_logvar
        kl = 0.5 * (ratio.exp() + (mean - frame.prior_mean).square() * (-frame.prior_logvar).exp() - 1 - ratio)
        sums = -guess.mixture.log_prob.sum(), kl.sum(), -(masks * (masks + 1e-9).log()).sum()
        alike = kl.new_zeros(())
        if self.lds:
            alike = self.lds.mean(*(x.unflatten(0, (len(masks), -1)) for x in (guess.z, mean)), masks)
        return *(x / len(frame.image) for x in sums), alike

    def _gradients(self, frame: Frame, guess: Guess) -> tuple[Tensor, Tensor, Tensor]:
        """Of each video's own loss, with respect to the means, the masks (as free variables) and the posterior."""
        in_training = torch.is_grad_enabled()
        with torch.no_grad():
            mixture, masks = guess.mixture, guess.mixture.masks
            d_means = frame.beta * mixture.means_gradient
            d_masks = -frame.beta * (mixture.responsibilities.sum(2) / masks.clamp_min(1e-12))
            d_masks -= self.entropy_weight * ((masks + 1e-9).log() + masks / (masks + 1e-9))
            mean, logvar = guess.posterior.chunk(2, 1)
            d_mean = self.kl_weight * (mean - frame.prior_mean) * (-frame.prior_logvar).exp()
            d_logvar = self.kl_weight * 0.5 * ((logvar - frame.prior_logvar).exp() - 1)
            if guess.noise is not None:
                d_logits = masks * (d_masks - (masks * d_masks).sum(1, keepdim=True))
                outputs = (guess.means, guess.mask_logits)
                (dz,) = torch.autograd.grad(outputs, guess.z, (d_means, d_logits), retain_graph=in_training)
                if self.lds and self.lds.in_refinement:
                    latents = (x.unflatten(0, (len(masks), -1)) for x in (guess.z, mean))
                    dz_alike, d_mean_alike = self.lds.gradient(*latents, masks)
                    dz, d_mean = dz + dz_alike.flatten(0, 1), d_mean + d_mean_alike.flatten(0, 1)
                d_mean, d_logvar = d_mean + dz, d_logvar + 0.5 * dz * guess.noise * (0.5 * logvar).exp()
            if self.mask_gradient == "logits":
                d_masks = masks * (d_masks - (masks * d_masks).sum(1, keepdim=True))
            return d_means, d_masks, torch.cat([d_mean, d_logvar], 1)

    def _maps(self, frame: Frame, guess: Guess, d_means: Tensor, d_masks: Tensor) -> Float[Tensor, "B K C H W"]:
        mixture, image = guess.mixture, frame.image.unsqueeze(1)
        if self.mask_posterior == "likelihood":
            mask_posterior = self.likelihood.log_prob(image, guess.means).sum(2).exp().softmax(1)
        else:
            mask_posterior = mixture.mask_posterior
        maps = [
            guess.means,
            mixture.masks.unsqueeze(2),
            guess.mask_logits.unsqueeze(2),
            mask_posterior.unsqueeze(2),
            *(
                F.layer_norm(x.detach(), x.shape[2:])
                for x in (d_means, d_masks.unsqueeze(2), mixture.log_prob.unsqueeze(2))
            ),
        ]
        shape, dtype = (-1, guess.means.shape[1], -1, -1, -1), compute_dtype(guess.means)
        return torch.cat([x.to(dtype).expand(shape) for x in maps], 2)

    def _constant(self, image: Tensor) -> Tensor:
        """What the refinement's first convolution makes of a frame whatever the guess."""
        maps = [image, linear_coordinates(self.image_size, image).expand(len(image), -1, -1, -1)]
        return self.encoder.constant(torch.cat([*maps, *([self.features(image)] if self.features else [])], 1))

    # ---- small things ------------------------------------------------------------------------------------------

    def _initialise(self, strong: bool) -> None:
        if not strong:  # the framework's own initialisation, unlike IODINE's
            for part in (*self.decoder.convs, *self.encoder.convs, *self.encoder.mlp):
                part.reset_parameters()
            return
        bound = 10 / math.sqrt(self.head.in_features)
        nn.init.uniform_(self.head.weight, -bound, bound)
        if self.conditional:
            for layer in self.condition[::2]:
                lecun_init(layer)

    def _weight(self, f: int, i: int, num_decodes: int) -> float:
        predicted = f > 0 and self.start == "predicted"
        if self.step_weight == "refined" and not predicted:
            return i / (num_decodes - 1) if num_decodes > 1 else 1.0
        return (i + 1) / (self.iterations if self.step_weight == "constant" else num_decodes)

    def _adapt(self, nll: Tensor) -> None:
        """The code's rule for colour: a weight for the next batch from the last loss of this one."""
        self.beta = torch.where(nll > 600, 300.0, torch.where(nll > 200, 100.0, self.beta)).to(self.beta)

    def _opening(self, frame: Frame, trail: Trail) -> Float[Tensor, "N P"]:
        """The posterior with which a frame starts, given those of the frames before, if there were any."""
        if not trail or self.start == "learned":
            return self._posterior(len(frame.hidden))
        return torch.cat([frame.prior_mean, frame.prior_logvar], 1)

    def _longer(self, trail: Trail, posterior: Float[Tensor, "N P"]) -> Trail:
        return (*trail, posterior.chunk(2, 1)[0])[-self.motion - 1 :]

    def _posterior(self, rows: int) -> Float[Tensor, "N P"]:
        return self.initial_posterior.expand(rows, -1)

    def _first_sample(self, rows: int) -> Float[Tensor, "N D"]:
        """One sample of the initial posterior for the whole video: it gives the slots their identities."""
        mean, logvar = self._posterior(rows).chunk(2, 1)
        return mean + (0.5 * logvar).exp() * torch.randn_like(mean)

    def _start(self, batch_size: int, num_slots: int) -> tuple[Tensor, Tensor]:
        zeros = self.initial_posterior.new_zeros(batch_size * num_slots, self.head.in_features)
        return zeros, zeros

    def _checked(self, image: Tensor, axes: str = "B, C, H, W", name: str = "frame") -> Float[Tensor, "... C H W"]:
        check_image(image, channels=self.image_channels, axes=axes, name=name)
        if tuple(image.shape[-2:]) != self.image_size:
            raise InputError(
                f"frames are {tuple(image.shape[-2:])} but this model was built for image_size={self.image_size}; "
                "resize them"
            )
        return image.to(self.initial_posterior.dtype)

    @staticmethod
    def _decomposition(guess: Guess, mean: Tensor, logvar: Tensor) -> Decomposition:
        rows = (len(guess.means), -1)
        return Decomposition(
            masks=guess.mixture.masks.detach(),
            components=guess.means.detach(),
            slots=mean.unflatten(0, rows),
            mask_logits=guess.mask_logits.detach(),
            slot_scale=(0.5 * logvar).exp().unflatten(0, rows),
        )
