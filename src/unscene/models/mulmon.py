"""MulMON: Learning Object-Centric Representations of Multi-Object Scenes from Multiple Views (Li et al., NeurIPS 2020).

K latent vectors describe the objects of a scene, whatever the viewpoint. Views arrive one by one; each refines the
belief about the vectors as in IODINE, with the belief from before that view as prior. The decoder is told the
viewpoint, and in training it must also show views that were not observed.

As in the authors' code, not as in the paper: the viewpoint is no input of the refinement (an option adds it), the
prior of the first view is learned, the KL is that of one sample, and T decodes of a view have T - 1 refinements
between them. Not as in either: refinement inputs that are gradients are those of each scene's own loss, so that they
do not depend on the batch; masks are exact in logarithms, without a floor of 1e-6; each scene of a batch has its own
order of views, and each queried view its own sample; `decompose` shows the observed views as the mean of the final
belief does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unscene.errors import InputError
from unscene.likelihoods import Gaussian, SpatialMixture, spatial_mixture
from unscene.models.base import Losses, MultiViewModel, check_positive, stack_frames
from unscene.nn.blocks import compute_dtype, linear_coordinates
from unscene.nn.decoders import BroadcastDecoder
from unscene.nn.posterior import GaussianPosterior
from unscene.nn.refinement import RefinementNetwork
from unscene.priors.lds import LDS
from unscene.scenes import Decomposition, Scenes, check_image


class View(NamedTuple):
    """What stays the same in all iterations on one view. N = B K rows, scene-major; P = 2D; E of a view's code."""

    image: Float[Tensor, "B C H W"]
    constant: Tensor  # the refinement's share of it
    code: Float[Tensor, "N E"]  # of the viewpoint
    prior: Float[Tensor, "N P"]  # the belief before this view
    prepared: tuple[Tensor, ...]  # of the decoder


class Guess(NamedTuple):
    """One decode, and the belief it came from."""

    belief: Float[Tensor, "N P"]  # lambda = [mean, log variance]
    means: Float[Tensor, "B K C H W"]
    mask_logits: Float[Tensor, "B K H W"]
    mixture: SpatialMixture
    kl: Float[Tensor, "N D"]
    alike: Float[Tensor, ""]  # LDS's penalty, mean over the batch; 0 without


class MulMON(MultiViewModel):
    """MulMON; the defaults are those for images of CLEVR's kind, 64 x 64.

    Args:
        image_channels: C of the views.
        image_size: (H, W) of the views, fixed by the refinement's linear layer.
        view_size: P, how many numbers a viewpoint has.
        num_slots: K in training, and in `decompose` unless said otherwise there.
        iterations: T, the decodes of each observed view, likewise; one refinement less.
        latent_size: D of a slot.
        view_code_size: E, of what the view encoder makes of a viewpoint; by default P.
        view_hidden: width of the view encoder.
        projector_hidden: width of the projector, which puts a slot and a view together.
        decoder_channels: of the decoder's hidden convolutions.
        decoder_octaves: waves beside its linear coordinates; 0 as in the paper.
        refinement_channels: of the refinement's convolutions, each of stride 2.
        refinement_mlp: sizes of the layers behind them.
        lstm_size: None leaves the refinement's LSTM out.
        mixture_event: what one draw of a slot explains: a "channel" of a pixel, or the "pixel" in all channels.
        likelihood_scale: of the Gaussian likelihood.
        kl: of one sample, or in closed form.
        first_prior: of the first view: the learned belief from which refinement starts, or N(0, I).
        view_in_refinement: the LSTM sees the code of the viewpoint too.
        max_observed: in training 1 to so many views are observed, and at least one is left, if there are two.
        single_view_steps: before that training step only one view is observed and none queried, so that slots learn to
            be objects of one image before those of a scene. Not in the paper.
        order: of the views in training.
        query: views to show in training: all that were not observed, or as many of all.
        query_weight: of their negative log likelihood.
        view_noise: standard deviation of the noise on viewpoints in training.
        lds: options of `unscene.priors.lds.LDS`, such as {"weight": 1.0}; None leaves this prior out.
        lds_on_projected: it compares the slots as they are in a view, not what all views share.
        recompute: keep no activations inside an iteration on an observed view and compute them again in the backward
            pass. Not with several processes, as the number of iterations varies from step to step.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        image_size: Sequence[int] = (64, 64),
        view_size: int = 3,
        num_slots: int = 7,
        iterations: int = 5,
        latent_size: int = 16,
        view_code_size: int | None = None,
        view_hidden: int = 128,
        projector_hidden: int = 512,
        decoder_channels: Sequence[int] = (32, 32, 32, 32),
        decoder_octaves: int = 0,
        refinement_channels: Sequence[int] = (32, 32, 64, 64),
        refinement_mlp: Sequence[int] = (256, 128),
        lstm_size: int | None = 128,
        mixture_event: Literal["channel", "pixel"] = "channel",
        likelihood_scale: float = 0.1,
        kl: Literal["sample", "analytic"] = "sample",
        first_prior: Literal["learned", "normal"] = "learned",
        view_in_refinement: bool = False,
        max_observed: int = 6,
        single_view_steps: int = 0,
        order: Literal["shuffled", "given"] = "shuffled",
        query: Literal["rest", "all"] = "rest",
        query_weight: float = 1.0,
        view_noise: float = 0.015,
        lds: dict[str, Any] | None = None,
        lds_on_projected: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_positive(image_channels=image_channels, image_size=image_size, view_size=view_size, num_slots=num_slots)
        check_positive(iterations=iterations, latent_size=latent_size, view_code_size=view_code_size)
        check_positive(view_hidden=view_hidden, projector_hidden=projector_hidden, decoder_channels=decoder_channels)
        check_positive(refinement_channels=refinement_channels, refinement_mlp=refinement_mlp, lstm_size=lstm_size)
        check_positive(likelihood_scale=likelihood_scale, max_observed=max_observed)
        if min(view_noise, query_weight) < 0:
            raise InputError(f"view_noise is {view_noise} and query_weight {query_weight}; neither may be below 0")
        self.image_channels, self.image_size, self.view_size = image_channels, tuple(image_size), view_size
        self.num_slots, self.iterations = num_slots, iterations
        self.likelihood, self.per_channel = Gaussian(likelihood_scale), mixture_event == "channel"
        self.kl, self.first_prior, self.view_in_refinement = kl, first_prior, view_in_refinement
        self.max_observed, self.order, self.view_noise = max_observed, order, view_noise
        self.single_view_steps = single_view_steps
        self.query, self.query_weight = query, query_weight
        self.lds, self.lds_on_projected, self.recompute = LDS.from_options(lds, num_slots), lds_on_projected, recompute

        code_size = view_size if view_code_size is None else view_code_size
        self.initial_belief = nn.Parameter(torch.randn(2 * latent_size) - 0.5)
        self.view_encoder = nn.Sequential(
            nn.Linear(view_size, view_hidden), nn.ReLU(), nn.Linear(view_hidden, code_size)
        )
        self.projector = nn.Sequential(
            nn.Linear(latent_size + code_size, projector_hidden), nn.ReLU(), nn.Linear(projector_hidden, latent_size)
        )
        self.decoder = BroadcastDecoder(
            latent_size,
            decoder_channels,
            image_channels + 1,
            kernel_size=3,
            octaves=decoder_octaves,
            out_kernel=1,
            padding="valid",
            activation="relu",
        )
        self.refinement = RefinementNetwork(
            6 + 2 * image_channels,
            2 + image_channels,
            4 * latent_size + (code_size if view_in_refinement else 0),
            2 * latent_size,
            lstm_size,
            channels=refinement_channels,
            kernel_size=3,
            mlp=refinement_mlp,
            image_size=self.image_size,
            padding="valid",
            activation="relu",
        )
        for part in (*self.decoder.convs, *self.refinement.convs, *self.refinement.mlp, self.refinement.head):
            part.reset_parameters()  # the framework's own initialisation, unlike IODINE's

    # ---- the three verbs ---------------------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Negative ELBO of 1 to ``max_observed`` views, later ones and later iterations with more weight, and the
        negative log likelihood of the queried views, mean over these; both in nats per view, mean over scenes.

        The terms ``nll`` and ``kl``, and with the prior ``lds`` its penalty, are those of the last iteration on the
        last observed view; ``query_nll`` is that of the queried ones. ``step`` counts for ``single_view_steps`` only.
        """
        image, viewpoint = self._checked(batch["image"], batch.get("viewpoint"))
        if self.training:
            viewpoint = viewpoint + self.view_noise * torch.randn_like(viewpoint)
        observed, queried = self._choose(*viewpoint.shape[:2], viewpoint.device, alone=step < self.single_view_steps)
        prepared, belief, total = self.decoder.prepare(self.image_size), self._start(len(image), self.num_slots), 0.0
        views = _take(image, observed).unbind(1), _take(viewpoint, observed).unbind(1)
        for i, (weight, *seen) in enumerate(zip(rising_weights(observed.shape[1]), *views, strict=True)):
            view = self._view(*seen, self._prior(belief, first=i == 0), prepared)
            view_loss, belief, terms = self._observe(view, belief)
            total = total + weight * view_loss
        if self.query_weight and queried.shape[1]:
            nll = self._query(belief, _take(image, queried), _take(viewpoint, queried), prepared)
            total, terms = total + self.query_weight * nll, terms | {"query_nll": nll.detach()}
        return Losses(total, terms)

    @torch.no_grad()
    def decompose(
        self,
        image: Tensor,
        viewpoint: Tensor | None = None,
        *,
        num_slots: int | None = None,
        iterations: int | None = None,
    ) -> Decomposition:
        """Observe views (B, V, C, H, W) from (B, V, P) in their order, then show each as the final belief's mean does.

        ``slots`` (B, V, K, D) are that mean, the same for all views, ``slot_scale`` the standard deviation. Noise
        comes from torch's global generator; memory for inference does not grow with V.

        Raises:
            InputError: the views, their viewpoints or the numbers are unusable.
        """
        image, viewpoint = self._checked(image, viewpoint)
        belief = self._beliefs(image, viewpoint, num_slots, iterations)[-1]
        mean, scale = _moments(belief.unflatten(0, (len(image), -1)))
        return self._show(mean, viewpoint, self.image_size, scale)

    @torch.no_grad()
    def render(
        self,
        slots: Float[Tensor, "B K D"],
        viewpoint: Float[Tensor, "B Q P"],
        size: tuple[int, int] | None = None,
    ) -> Decomposition:
        """Show slots from any viewpoints, by default at the size of the training images: (B, Q, K, ...).

        Raises:
            InputError: slots or viewpoints have another size than the model was built for.
        """
        latent_size = len(self.initial_belief) // 2
        if slots.ndim != 3 or slots.shape[2] != latent_size:
            raise InputError(f"slots have the shape {tuple(slots.shape)}; they must be (B, K, {latent_size})")
        viewpoint = self._checked_viewpoint(viewpoint, len(slots))
        return self._show(slots.to(viewpoint.dtype), viewpoint, self.image_size if size is None else size)

    @torch.no_grad()
    def project(self, slots: Float[Tensor, "B K D"], viewpoint: Float[Tensor, "B Q P"]) -> Float[Tensor, "B Q K D"]:
        """Slots as the decoder sees them from each viewpoint.

        Raises:
            InputError: viewpoints have another size than the model was built for.
        """
        viewpoint = self._checked_viewpoint(viewpoint, len(slots))
        rows = slots.to(viewpoint.dtype).unsqueeze(1).expand(-1, viewpoint.shape[1], -1, -1)
        code = self._code(viewpoint.flatten(0, 1), slots.shape[1])
        return self._project(rows.flatten(0, 2), code).unflatten(0, rows.shape[:3])

    def posteriors(self, scenes: Scenes, **options: int) -> dict[str, GaussianPosterior]:
        """The belief after all views of one scene beside that before the first, for `unscene.evaluation.gap`.

        ``options`` are those of `decompose`.
        """
        image, viewpoint, beliefs = self._gaussians(scenes, options)
        return {"gap": GaussianPosterior(*beliefs[-1], self._log_likelihood(image, viewpoint), *beliefs[0])}

    def view_posteriors(self, scenes: Scenes, **options: int) -> list[GaussianPosterior]:
        """The belief after each view of one scene beside that before it, likewise."""
        image, viewpoint, beliefs = self._gaussians(scenes, options)
        return [
            GaussianPosterior(*after, self._log_likelihood(*seen), *before)
            for after, before, *seen in zip(beliefs[1:], beliefs, image.split(1), viewpoint.split(1), strict=False)
        ]

    def _gaussians(
        self, scenes: Scenes, options: Mapping[str, int]
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Views and viewpoints of one scene, and mean and scale (K, D) before the first and after every view."""
        image, viewpoint = self._checked(scenes["image"], scenes.get("viewpoint"))
        start, *others = self._beliefs(image, viewpoint, **options)
        return image[0], viewpoint[0], [_moments(belief) for belief in (self._prior(start, first=True), *others)]

    def _log_likelihood(
        self, images: Float[Tensor, "V C H W"], viewpoints: Float[Tensor, "V P"]
    ) -> Callable[[Tensor], Tensor]:
        """Of slots (S, K, D), in nats (S,): views together, one after the other to save memory."""
        prepared = self.decoder.prepare(self.image_size)

        def log_likelihood(slots: Float[Tensor, "S K D"]) -> Float[Tensor, " S"]:
            total = torch.zeros(len(slots), dtype=torch.float64, device=slots.device)
            for picture, view in zip(images, viewpoints, strict=True):
                shown = self._picture(slots, view.expand(len(slots), -1), self.image_size, prepared)
                pictures = picture.expand(len(slots), -1, -1, -1)
                mixture = self._mixture(pictures, *shown)
                total += mixture.log_prob.double().flatten(1).sum(1)
            return total

        return log_likelihood

    def _beliefs(
        self, image: Tensor, viewpoint: Tensor, num_slots: int | None = None, iterations: int | None = None
    ) -> list[Tensor]:
        """The belief (N, P) before the first and after every view."""
        num_slots = self.num_slots if num_slots is None else num_slots
        iterations = self.iterations if iterations is None else iterations
        check_positive(num_slots=num_slots, iterations=iterations)
        with torch.inference_mode(False), torch.no_grad():  # the decoder's VJP needs a graph of its own
            beliefs, prepared = [self._start(len(image), num_slots)], self.decoder.prepare(self.image_size)
            for seen in zip(image.unbind(1), viewpoint.unbind(1), strict=True):
                belief, state = beliefs[-1], ()
                view = self._view(*seen, self._prior(belief, first=len(beliefs) == 1), prepared)
                for _ in range(iterations - 1):
                    belief, *state = self._refine(view, self._guess(view, belief), state)
                beliefs.append(belief)
            return beliefs

    # ---- one view ----------------------------------------------------------------------------------------------

    def _observe(self, view: View, belief: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The weighted loss of T decodes, the belief after T - 1 refinements, and the last decode's terms."""
        state, total, last = (), 0.0, self.iterations - 1
        for t, weight in enumerate(rising_weights(self.iterations)):
            (nll, kl, alike), belief, state = self._iterate(view, belief, state, refine=t < last)
            alike_weight = self.lds.weight_at(t, last) if self.lds else 0.0
            total = total + weight * (nll + kl + alike_weight * alike)
        terms = {"nll": nll.detach(), "kl": kl.detach()} | ({"lds": alike.detach()} if self.lds else {})
        return total, belief, terms

    def _iterate(self, view: View, belief: Tensor, state: Sequence[Tensor], refine: bool):
        """The terms of one decode, then the belief and the LSTM's state that follow."""

        def run(belief: Tensor, image: Tensor, constant: Tensor, code: Tensor, prior: Tensor, *rest: Tensor):
            prepared, state = rest[: len(view.prepared)], rest[len(view.prepared) :]
            now = View(image, constant, code, prior, prepared)
            guess = self._guess(now, belief)
            nll, kl = -guess.mixture.log_prob.sum() / len(now.image), guess.kl.sum() / len(now.image)
            return nll, kl, guess.alike, *(self._refine(now, guess, state) if refine else (belief, *state))

        inputs = (belief, *view[:-1], *view.prepared, *state)
        outputs = checkpoint(run, *inputs, use_reentrant=True) if self.recompute else run(*inputs)
        return outputs[:3], outputs[3], outputs[4:]

    def _query(self, belief: Tensor, image: Tensor, viewpoint: Tensor, prepared: Sequence[Tensor]) -> Tensor:
        """Negative log likelihood of views (B, Q, C, H, W) given a sample of the belief for each."""
        (B, Q), rows = image.shape[:2], belief.unflatten(0, (len(image), -1))
        beliefs = rows.unsqueeze(1).expand(-1, Q, -1, -1).flatten(0, 2)
        z = _sample(beliefs, torch.randn_like(beliefs[:, : beliefs.shape[1] // 2])).unflatten(0, (B * Q, -1))
        shown = self._picture(z, viewpoint.flatten(0, 1), self.image_size, prepared)
        mixture = self._mixture(image.flatten(0, 1), *shown)
        return -mixture.log_prob.sum() / (B * Q)

    def _view(self, image: Tensor, viewpoint: Tensor, prior: Tensor, prepared: Sequence[Tensor]) -> View:
        coordinates = linear_coordinates(self.image_size, image).expand(len(image), -1, -1, -1)
        constant = self.refinement.constant(torch.cat([image, coordinates], 1))
        return View(image, constant, self._code(viewpoint, len(prior) // len(image)), prior, tuple(prepared))

    def _guess(self, view: View, belief: Tensor) -> Guess:
        in_training = torch.is_grad_enabled() and belief.requires_grad
        with torch.enable_grad():
            # A node of its own, whose gradient leaves out the prior; at inference the graph reaches no further.
            belief = belief.view_as(belief) if in_training else belief.detach().requires_grad_()
            mean = belief.chunk(2, 1)[0]
            noise = torch.randn_like(mean)
            z = _sample(belief, noise)
            projected = self._project(z, view.code)
            means, mask_logits = self._decode(projected, len(view.image), self.image_size, view.prepared)
            mixture = self._mixture(view.image, means, mask_logits)
            alike = self._alike(projected if self.lds_on_projected else z, mean, view, mixture.masks)
            kl = self._kl(belief, noise, z, view.prior)
        return Guess(belief, means, mask_logits, mixture, kl, alike)

    def _project(self, z: Tensor, code: Tensor) -> Float[Tensor, "N D"]:
        """Slots as they are in a view."""
        with torch.autocast(z.device.type, enabled=False):
            return self.projector(torch.cat([z, code], 1))

    def _code(self, viewpoint: Float[Tensor, "B P"], num_slots: int) -> Float[Tensor, "N E"]:
        with torch.autocast(viewpoint.device.type, enabled=False):
            return self.view_encoder(viewpoint).repeat_interleave(num_slots, 0)

    def _picture(
        self,
        z: Float[Tensor, "B K D"],
        viewpoint: Float[Tensor, "B P"],
        size: tuple[int, int],
        prepared: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Means (B, K, C, H, W) and mask logits (B, K, H, W) of slots, each scene from one viewpoint."""
        code = self._code(viewpoint, z.shape[1])
        return self._decode(self._project(z.flatten(0, 1), code), len(z), size, prepared)

    def _decode(self, projected: Tensor, batch_size: int, size: tuple[int, int], prepared: Sequence[Tensor]):
        out = self.decoder(projected, size, *prepared).contiguous().to(projected.dtype)  # planar, for what follows
        means, mask_logits = out.unflatten(0, (batch_size, -1)).split([self.image_channels, 1], 2)
        return means, mask_logits.squeeze(2)

    def _mixture(self, image: Tensor, means: Tensor, mask_logits: Tensor) -> SpatialMixture:
        return spatial_mixture(self.likelihood, image, means, mask_logits, self.per_channel)

    def _kl(self, belief: Tensor, noise: Tensor, z: Tensor, prior: Tensor) -> Float[Tensor, "N D"]:
        """KL(belief || prior), or log belief(z) - log prior(z), which may be negative."""
        (mean, logvar), (prior_mean, prior_logvar) = belief.chunk(2, 1), prior.chunk(2, 1)
        ratio, precision = prior_logvar - logvar, (-prior_logvar).exp()
        if self.kl == "analytic":
            return 0.5 * ((-ratio).exp() + (mean - prior_mean).square() * precision - 1 + ratio)
        return 0.5 * ((z - prior_mean).square() * precision - noise.square() + ratio)

    def _alike(self, samples: Tensor, mean: Tensor, view: View, masks: Tensor) -> Float[Tensor, ""]:
        """LDS's penalty, mean over the batch."""
        if self.lds is None:
            return samples.new_zeros(())
        if self.lds_on_projected and self.lds.on == "means":
            mean = self._project(mean, view.code)
        return self.lds.mean(*(x.unflatten(0, (len(masks), -1)) for x in (samples, mean)), masks)

    # ---- refinement --------------------------------------------------------------------------------------------

    def _refine(self, view: View, guess: Guess, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The next belief, and the LSTM's state there."""
        gradient = self._belief_gradient(guess)
        vectors = [guess.belief, _normalised(gradient, 1), *([view.code] if self.view_in_refinement else [])]
        change, *state = self.refinement(self._maps(guess), view.constant, torch.cat(vectors, 1), *state)
        return guess.belief + change, *state

    def _belief_gradient(self, guess: Guess) -> Float[Tensor, "N P"]:
        """Of each scene's own loss: the decoder's VJP of the closed-form image-sized gradients, and that of the KL."""
        mixture = guess.mixture
        outputs = [guess.means, guess.mask_logits, guess.kl]
        gradients = [mixture.means_gradient, mixture.mask_gradient, torch.ones_like(guess.kl)]
        if self.lds and self.lds.in_refinement:
            outputs.append(guess.alike)
            gradients.append(torch.full_like(guess.alike, self.lds.weight * len(guess.means)))
        keep = torch.is_grad_enabled()
        return torch.autograd.grad(outputs, guess.belief, gradients, retain_graph=keep)[0]

    def _maps(self, guess: Guess) -> Float[Tensor, "B K M H W"]:
        mixture = guess.mixture
        with torch.no_grad():
            likelihood = mixture.log_prob.exp()
            own = mixture.log_joint.sum(2).exp()
            mask_gradient = -(mixture.responsibilities.sum(2) / mixture.masks.clamp_min(1e-30)).clamp_max(1e6)
            constants = [
                mixture.means_gradient,
                mask_gradient.unsqueeze(2),  # of the masks as free variables
                likelihood.unsqueeze(2),
                ((likelihood - own) / (1 - mixture.masks + 1e-5)).unsqueeze(2),
            ]
        maps = [guess.means, *(x.unsqueeze(2) for x in (mixture.masks, guess.mask_logits, mixture.mask_posterior))]
        maps += [_normalised(x, 2) for x in constants]
        shape, dtype = (-1, guess.means.shape[1], -1, -1, -1), compute_dtype(guess.means)
        return torch.cat([x.to(dtype).expand(shape) for x in maps], 2)

    # ---- small things ------------------------------------------------------------------------------------------

    def _start(self, batch_size: int, num_slots: int) -> Float[Tensor, "N P"]:
        return self.initial_belief.expand(batch_size * num_slots, -1)

    def _prior(self, belief: Tensor, first: bool) -> Tensor:
        return torch.zeros_like(belief) if first and self.first_prior == "normal" else belief

    def _choose(
        self, batch_size: int, num_views: int, device: torch.device, alone: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Indices of the views to observe, in their order, and of those to query: (B, L) and (B, V - L), or 1 and 0."""
        num_observed = int(torch.randint(1, max(min(self.max_observed, num_views - 1), 1) + 1, ()))
        if self.order == "shuffled":
            order = _permutations(batch_size, num_views, device)
        else:
            order = torch.arange(num_views, device=device).expand(batch_size, -1)
        queried = order if self.query == "rest" else _permutations(batch_size, num_views, device)
        return (order[:, :1], order[:, :0]) if alone else (order[:, :num_observed], queried[:, num_observed:])

    def _show(
        self, mean: Tensor, viewpoint: Tensor, size: tuple[int, int], scale: Tensor | None = None
    ) -> Decomposition:
        """Slots (B, K, D) from viewpoints (B, Q, P), one after the other, so that only their pictures take memory."""
        prepared, pictures = self.decoder.prepare(size), []
        for view in viewpoint.unbind(1):
            means, mask_logits = self._picture(mean, view, size, prepared)
            pictures.append(Decomposition(mask_logits.softmax(1), means, mean, mask_logits, scale))
        return stack_frames(pictures)

    def _checked(self, image: Tensor, viewpoint: Tensor | None) -> tuple[Tensor, Tensor]:
        if viewpoint is None:
            raise InputError(
                f"{type(self).__name__} needs the viewpoint of every view of a scene, and single images have none; "
                "give a dataset of several views"
            )
        check_image(image, channels=self.image_channels, size=self.image_size, axes="B, V, C, H, W")
        return image.to(self.initial_belief.dtype), self._checked_viewpoint(viewpoint, *image.shape[:2])

    def _checked_viewpoint(self, viewpoint: Tensor, batch_size: int, num_views: int | None = None) -> Tensor:
        wanted = (batch_size, "Q" if num_views is None else num_views, self.view_size)
        found = tuple(viewpoint.shape)
        if len(found) != 3 or 0 in found or any(w != n for w, n in zip(wanted, found, strict=True) if w != "Q"):
            raise InputError(
                f"viewpoint has the shape {found}, not ({', '.join(map(str, wanted))}): one for each view, of "
                f"view_size={self.view_size} numbers; build the model with view_size to match"
            )
        if not viewpoint.isfinite().all():
            raise InputError("viewpoint holds NaN or infinite numbers; check the cameras of the data")
        return viewpoint.to(self.initial_belief.dtype)


def rising_weights(count: int) -> list[float]:
    """Weights that rise linearly and sum to 1: of iterations, and of views."""
    return [2 * i / (count * (count + 1)) for i in range(1, count + 1)]


def _sample(belief: Float[Tensor, "N P"], noise: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    mean, scale = _moments(belief)
    return mean + scale * noise


def _moments(belief: Float[Tensor, "... P"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "... D"]]:
    """Mean and standard deviation."""
    mean, logvar = belief.chunk(2, -1)
    return mean, (0.5 * logvar).exp()


def _normalised(x: Tensor, first_axis: int) -> Tensor:
    """Without gradient, mean 0 and variance 1 over all axes from ``first_axis`` on; a constant becomes 0."""
    return F.layer_norm(x.detach(), x.shape[first_axis:], eps=1e-10)


def _permutations(batch_size: int, count: int, device: torch.device) -> Int[Tensor, "B V"]:
    return torch.rand(batch_size, count, device=device).argsort(1)


def _take(views: Float[Tensor, "B V ..."], index: Int[Tensor, "B L"]) -> Float[Tensor, "B L ..."]:
    return views[torch.arange(len(views), device=views.device).unsqueeze(1), index]
