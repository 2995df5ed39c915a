"""R-NEM, RNN-EM and N-EM: clustering of binary pixels by expectation maximisation whose M-step is learned.

Relational Neural Expectation Maximization (van Steenkiste et al., ICLR 2018): `RNEM`, with ``interaction="none"``
RNN-EM; and Neural Expectation Maximization (Greff et al., NIPS 2017): `NEM`, in which the M-step is a gradient step.

Every slot predicts a Bernoulli mean per pixel; the E-step shares each pixel out among the slots by how well they
predict it, the M-step improves each slot's prediction on its share. In a video the prediction is of the next frame.

Not as in the reference code, but with the same result: its upsampling and convolution are one transposed
convolution, and losses are computed from logits. Left out: the LSTM variant and the one that sees actions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unscene import metrics
from unscene.errors import InputError
from unscene.models.base import Losses, SceneModel, VideoModel, check_image_size, check_positive
from unscene.nn.blocks import elu
from unscene.nn.normed import EPSILON, DoublingConv, halving_conv, map_norm, normed_linear, xavier_init
from unscene.scenes import Decomposition, Scenes, check_image

CLIP = 1e-6  # Bernoulli means in losses lie within [CLIP, 1 - CLIP]; the E-step adds it to likelihoods
LOGIT_CLIP = math.log((1 - CLIP) / CLIP)
ON = 0.1  # a pixel of a predicted frame counts as 1 where some slot's mean is above


class State(NamedTuple):
    """What EM knows between two steps."""

    theta: Float[Tensor, "B K D"]
    means: Float[Tensor, "B K 1 H W"]  # mu
    gamma: Float[Tensor, "B K 1 H W"]  # responsibilities, sum 1 over K


# ---- what all three methods share ----------------------------------------------------------------------------------


def start(image: Float[Tensor, "B 1 H W"], num_slots: int, latent_size: int) -> State:
    """Nothing is predicted yet, and pixels belong to slots at random: without that, all slots would stay the same."""
    gamma = image.new_empty(len(image), num_slots, *image.shape[1:]).normal_().abs_()
    theta = image.new_zeros(len(image), num_slots, latent_size)
    return State(theta, torch.zeros_like(gamma), gamma / gamma.sum(1, keepdim=True))


def flip_bits(image: Tensor, probability: float) -> Tensor:
    """Each pixel x becomes 1 - x with this probability."""
    return torch.where(torch.rand_like(image) < probability, 1 - image, image)


def responsibilities(means: Float[Tensor, "B K 1 H W"], target: Float[Tensor, "B 1 H W"]) -> Tensor:
    """The E-step: the slots' shares (B, K, 1, H, W) of the likelihood of every pixel."""
    likelihood = torch.lerp(1 - means, means, target.unsqueeze(1)) + CLIP
    return likelihood / likelihood.sum(1, keepdim=True)


def em_losses(logits: Float[Tensor, "B K 1 H W"], target: Float[Tensor, "B 1 H W"], gamma: Tensor) -> tuple:
    """Nats per image: each slot's cross entropy in its share of the pixels, and outside its distance to black.

    The latter is KL(Bernoulli(0) || Bernoulli(mu)) = -log(1 - mu), the softplus of mu's logit.
    """
    logits = logits.clamp(-LOGIT_CLIP, LOGIT_CLIP)
    black = F.softplus(logits)
    intra = (gamma * (black - target.unsqueeze(1) * logits)).sum() / len(target)
    return intra, ((1 - gamma) * black).sum() / len(target)


def as_decomposition(state: State) -> Decomposition:
    return Decomposition(masks=state.gamma.squeeze(2), components=state.means, slots=state.theta)


def em_scores(scenes: Scenes, decomposition: Decomposition, inter_weight: float, near: Tensor | None = None) -> dict:
    """`own_scores` of these methods: losses in nats per image as in training, and confidence on the true objects.

    ``near`` (B, H, W) says which pixels the relational loss is about.
    """
    image, means, gamma = scenes["image"], decomposition.components, decomposition.masks
    losses, bound = metrics.em_losses(image, means, gamma), metrics.em_upper_bound(image, means)
    scores = {"loss": losses.total(inter_weight), **losses._asdict(), "upper_bound_loss": bound.total(inter_weight)}
    if near is not None:
        scores["relational_loss"] = metrics.em_losses(image, means, gamma, near).total(inter_weight)
    if "mask" in scenes:
        scores["confidence"] = metrics.confidence(gamma, scenes["mask"])
    return scores


def check_binary(image: Tensor, image_size: Sequence[int], axes: str, name: str) -> None:
    """Raise InputError unless ``image`` has these axes, one channel, the model's size and values within [0, 1]."""
    check_image(image, axes=axes, name=name)
    if image.shape[-3] != 1:
        raise InputError(
            f"{name} has {image.shape[-3]} channels, but this method takes binary pixels: 1 channel; "
            "threshold it, for example (image.amax(-3, keepdim=True) > 0.1).float()"
        )
    if tuple(image.shape[-2:]) != tuple(image_size):
        raise InputError(
            f"{name} is {tuple(image.shape[-2:])} but this model was built for image_size={tuple(image_size)}; "
            "resize it, or build the model with its size"
        )


def check_options(num_slots: int, latent_size: int, image_size: Sequence[int], noise: float, inter: float) -> None:
    check_positive(num_slots=num_slots, latent_size=latent_size, image_size=image_size)
    check_image_size(image_size)
    if not 0 <= noise < 1:
        raise InputError(f"noise is {noise}; it is the probability that a pixel flips, at least 0 and below 1")
    if inter < 0:
        raise InputError(f"inter_weight is {inter}; it must not be negative")


# ---- R-NEM: the learned M-step of a video ---------------------------------------------------------------------------


class Encoder(nn.Module):
    """What a slot explains badly in its share of the frame, as a vector u."""

    def __init__(self, channels: Sequence[int], hidden_size: int, features: int) -> None:
        super().__init__()
        widths = [1, *channels]
        self.convs = nn.ModuleList(halving_conv(n_in, n_out) for n_in, n_out in zip(widths, channels, strict=False))
        self.norms = nn.ModuleList(map_norm(n) for n in channels)
        self.hidden = normed_linear(features, hidden_size, nn.ELU)

    def forward(self, x: Float[Tensor, "N 1 H W"]) -> Float[Tensor, "N U"]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = elu(norm(conv(x)))
        return self.hidden(x.permute(0, 2, 3, 1).flatten(1))  # channels last, as the maps are in memory


class Decoder(nn.Module):
    """From a slot's code to the logits of the next frame; the encoder's mirror image."""

    def __init__(self, latent_size: int, hidden_size: int, channels: Sequence[int], small: tuple[int, int]) -> None:
        super().__init__()
        self.small = (*small, channels[-1])
        self.hidden = normed_linear(latent_size, hidden_size, nn.ReLU)
        self.features = normed_linear(hidden_size, math.prod(self.small), nn.ReLU)
        widths = [*channels[::-1], 1]
        self.convs = nn.ModuleList(DoublingConv(n_in, n_out) for n_in, n_out in zip(widths, widths[1:], strict=False))
        self.norms = nn.ModuleList(map_norm(n) for n in widths[1:-1])

    def prepare(self) -> list[Tensor]:
        """The kernels, which do not change between the steps of a video."""
        return [conv.prepare() for conv in self.convs]

    def forward(self, code: Float[Tensor, "N D"], kernels: Sequence[Tensor]) -> Float[Tensor, "N 1 H W"]:
        x = self.features(self.hidden(code)).unflatten(1, self.small).permute(0, 3, 1, 2)  # channels last
        for conv, norm, kernel in zip(self.convs[:-1], self.norms, kernels, strict=False):
            x = F.relu(norm(conv(x, kernel)), inplace=True)
        return self.convs[-1](x, kernels[-1])


class Interaction(nn.Module):
    """The relational function: a slot's own embedding, and the sum of what the other slots do to it.

    The first layer of a pair is linear, so its two halves are computed per slot, and only their sum per pair.
    """

    def __init__(self, size: int, attention_size: int | None) -> None:
        super().__init__()
        self.embedding = normed_linear(size, size, nn.ReLU)
        self.pair, self.pair_norm = xavier_init(nn.Linear(2 * size, size)), nn.LayerNorm(size, eps=EPSILON)
        self.effect = normed_linear(size, size, nn.ReLU)
        self.attention = None
        if attention_size is not None:
            gate = xavier_init(nn.Linear(attention_size, 1)), nn.Sigmoid()  # not normalised over the others
            self.attention = nn.Sequential(normed_linear(size, attention_size, nn.Tanh), *gate)

    def forward(self, theta: Float[Tensor, "B K D"]) -> Float[Tensor, "B K E"]:
        own = self.embedding(theta)
        focus, context = self.pair.weight.chunk(2, 1)
        slot = torch.arange(theta.shape[1], device=theta.device)
        others = (slot[:, None] + slot[1:]) % len(slot)  # (K, K - 1): k + 1, k + 2, ...
        pairs = F.linear(own, focus, self.pair.bias).unsqueeze(2) + F.linear(own, context)[:, others]
        pairs = F.relu(self.pair_norm(pairs), inplace=True)
        effects = self.effect(pairs)
        if self.attention is not None:
            effects = effects * self.attention(pairs)
        return torch.cat([own, effects.sum(2)], 2)


class RNEM(VideoModel):
    """R-NEM for binary videos; the defaults are the paper's for bouncing balls.

    One EM step takes frame t and predicts frame t + 1; responsibilities are those of frame t + 1 under the
    prediction. So a Decomposition of frame t + 1 holds both, and that of frame 0, of which nothing is known, random
    masks and a black prediction: leave frame 0 out of scores, as the reference code does. Noise flips bits of the
    input not only in training; set the attribute ``noise`` to 0 for clean input.

    Args:
        num_slots: K in training, and in `decompose` unless said otherwise there. 1 with "none" is a plain RNN.
        interaction: what the slots know of each other: gated effects, effects, or nothing (RNN-EM).
        latent_size: D of a slot, and of what it becomes in the interaction.
        attention_size: hidden units of the gate.
        encoder_channels: of the convolutions, each of which halves the image; the decoder mirrors them.
        hidden_size: of the layer between convolutions and slot, on both sides.
        image_size: (H, W), both divisible by 2 to the number of convolutions; it fixes the architecture.
        noise: probability that an input pixel flips.
        inter_weight: of the loss outside a slot's share.
        recompute: keep no activations inside a step in training and compute them again in the backward pass.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        num_slots: int = 5,
        interaction: Literal["attention", "sum", "none"] = "attention",
        latent_size: int = 250,
        attention_size: int = 100,
        encoder_channels: Sequence[int] = (16, 32, 64),
        hidden_size: int = 512,
        image_size: Sequence[int] = (64, 64),
        noise: float = 0.2,
        inter_weight: float = 1.0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_options(num_slots, latent_size, image_size, noise, inter_weight)
        check_positive(attention_size=attention_size, encoder_channels=encoder_channels, hidden_size=hidden_size)
        if any(n % 2 ** len(encoder_channels) for n in image_size):
            raise InputError(
                f"image_size is {tuple(image_size)}; {len(encoder_channels)} convolutions halve it, so height and "
                f"width must be multiples of {2 ** len(encoder_channels)}"
            )
        self.num_slots, self.latent_size, self.image_size = num_slots, latent_size, tuple(image_size)
        self.noise, self.inter_weight, self.recompute = noise, inter_weight, recompute

        small = tuple(n // 2 ** len(encoder_channels) for n in image_size)
        self.encoder = Encoder(encoder_channels, hidden_size, math.prod(small) * encoder_channels[-1])
        self.interaction, context_size = None, latent_size
        if interaction != "none":
            self.interaction = Interaction(latent_size, attention_size if interaction == "attention" else None)
            context_size = 2 * latent_size
        self.recurrent = xavier_init(nn.Linear(context_size + hidden_size, latent_size))
        self.code_norm = nn.LayerNorm(latent_size, eps=EPSILON)
        self.decoder = Decoder(latent_size, hidden_size, encoder_channels, small)

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Nats per video and predicted frame, the mean over the T - 1 frames that follow another.

        The terms ``intra`` and ``inter`` are those inside and outside of each slot's share, before the weight of the
        latter. Responsibilities are constants for the gradient. ``step`` is not used.

        Raises:
            InputError: the videos are unusable, or of one frame, which leaves nothing to predict.
        """
        video = self._checked(batch["image"], "B, T, C, H, W", "video")
        if video.shape[1] < 2:
            raise InputError("video has 1 frame, but the loss is about predicting the next; give at least 2 frames")
        kernels, state = self.decoder.prepare(), start(video[:, 0], self.num_slots, self.latent_size)
        intra = inter = 0.0
        for frame, target in zip(video.unbind(1), video[:, 1:].unbind(1), strict=False):
            inputs = (flip_bits(frame, self.noise), target, state, kernels)
            if self.recompute:
                outputs = checkpoint(self._step, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                outputs = self._step(*inputs)
            state, intra, inter = outputs[0], intra + outputs[1], inter + outputs[2]
        intra, inter = intra / (video.shape[1] - 1), inter / (video.shape[1] - 1)
        return Losses(intra + self.inter_weight * inter, {"intra": intra.detach(), "inter": inter.detach()})

    def stream(
        self, frames: Iterable[Tensor], *, num_slots: int | None = None, horizon: int = 0
    ) -> Iterator[Decomposition]:
        """Take frames (B, 1, H, W) one by one and yield the Decomposition of each, then ``horizon`` predicted ones.

        The first Decomposition is that of the random start (see RNEM). A predicted frame takes part in the E-step as
        the pixels where some slot's mean is above 0.1, and goes in again as its reconstruction, with noise.

        Raises:
            InputError: a frame is unusable or unlike those before, or there is none to predict from.
        """
        check_positive(num_slots=num_slots)
        frame = None
        with torch.no_grad():  # not around a yield: it would hold for the caller too
            kernels = self.decoder.prepare()
        for image in frames:
            image = self._checked(image, "B, C, H, W", "frame")
            if frame is None:
                state = start(image, num_slots or self.num_slots, self.latent_size)
            elif len(image) != len(frame):
                raise InputError(f"frame holds {len(image)} videos, but the frame before {len(frame)}; keep the batch")
            else:
                state = self._advance(frame, image, state, kernels)
            yield as_decomposition(state)
            frame = image
        if frame is None and horizon:
            raise InputError("there is no frame to predict from; give at least 1")
        for _ in range(horizon):
            state = self._advance(frame, None, state, kernels)
            yield as_decomposition(state)
            frame = (state.gamma * state.means).sum(1)

    def own_scores(
        self, scenes: Scenes, decomposition: Decomposition, before: Scenes | None = None
    ) -> dict[str, Tensor]:
        """The paper's losses of the step that predicted a frame, and confidence; none of the first frame.

        The relational loss, where the data has ``collision``, is about pixels near a collision in the frame before.
        """
        return {} if before is None else em_scores(scenes, decomposition, self.inter_weight, before.get("collision"))

    # ---- one step of EM --------------------------------------------------------------------------------------------

    def _step(self, frame: Tensor, target: Tensor, state: State, kernels: Sequence[Tensor]) -> tuple:
        """The state after a frame, and both losses with respect to the next."""
        theta, logits = self._m_step(frame, state, kernels)
        means = logits.sigmoid()
        gamma = responsibilities(means.detach(), target)
        return State(theta, means, gamma), *em_losses(logits, target, gamma)

    @torch.no_grad()
    def _advance(self, frame: Tensor, target: Tensor | None, state: State, kernels: Sequence[Tensor]) -> State:
        """The state after a frame; without a target, the next frame is what the slots predict."""
        theta, logits = self._m_step(flip_bits(frame, self.noise), state, kernels)
        means = logits.sigmoid()
        target = (means.amax(1) > ON).to(means.dtype) if target is None else target
        return State(theta, means, responsibilities(means, target))

    def _m_step(self, frame: Tensor, state: State, kernels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The slots (B, K, D) after a noisy frame, and the logits (B, K, 1, H, W) of their predictions."""
        error = state.gamma * (frame.unsqueeze(1) - state.means)
        seen = self.encoder(error.flatten(0, 1)).unflatten(0, state.gamma.shape[:2])
        with torch.autocast(frame.device.type, enabled=False):  # small, and its errors would add up over frames
            context = state.theta if self.interaction is None else self.interaction(state.theta)
            a = self.recurrent(torch.cat([context, seen.to(context.dtype)], 2))
            theta, code = a.sigmoid(), self.code_norm(a).sigmoid()  # no normalisation on the way to the next step
        logits = self.decoder(code.flatten(0, 1), kernels)
        return theta, logits.to(theta.dtype).unflatten(0, state.gamma.shape[:2])

    def _checked(self, image: Tensor, axes: str, name: str) -> Tensor:
        check_binary(image, self.image_size, axes, name)
        return image.to(self.recurrent.weight.dtype)


# ---- N-EM: the M-step as one step of gradient ascent, for single images ---------------------------------------------


class NEM(SceneModel):
    """N-EM for binary images; the defaults are those for static shapes.

    A slot's prediction is sigmoid(W sigmoid(s)) with one matrix W for all; the M-step is a step of learned size up the
    gradient of the expected log-likelihood, through the same W. Noise flips bits of the input anew in each
    iteration, not only in training; set the attribute ``noise`` to 0 for clean input.

    Not as in the reference code: the step size starts at 1, not at a random value of either sign.

    Args:
        num_slots: K in training, and in `decompose` unless said otherwise there.
        iterations: EM steps, likewise.
        latent_size: D of a slot.
        image_size: (H, W); it fixes the architecture.
        noise: probability that an input pixel flips.
        inter_weight: of the loss outside a slot's share.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        num_slots: int = 4,
        iterations: int = 15,
        latent_size: int = 250,
        image_size: Sequence[int] = (28, 28),
        noise: float = 0.1,
        inter_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_options(num_slots, latent_size, image_size, noise, inter_weight)
        check_positive(iterations=iterations)
        self.num_slots, self.iterations, self.image_size = num_slots, iterations, tuple(image_size)
        self.noise, self.inter_weight = noise, inter_weight
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(math.prod(image_size), latent_size)))  # W
        self.rate = nn.Parameter(torch.ones(()))  # eta

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Nats per image after the last iteration, with gradients through all of them, responsibilities included.

        The terms ``intra`` and ``inter`` are those inside and outside of each slot's share, before the weight of the
        latter. ``step`` is not used.
        """
        image = self._checked(batch["image"])
        logits, state = self._infer(image, self.num_slots, self.iterations)
        intra, inter = em_losses(logits, image, state.gamma)
        return Losses(intra + self.inter_weight * inter, {"intra": intra.detach(), "inter": inter.detach()})

    @torch.no_grad()
    def decompose(
        self, image: Float[Tensor, "B 1 H W"], *, num_slots: int | None = None, iterations: int | None = None
    ) -> Decomposition:
        """Decompose images with any number of slots and iterations; noise comes from torch's global generator.

        ``slots`` are sigmoid(s), which the predictions are linear in but for their own sigmoid.
        """
        check_positive(num_slots=num_slots, iterations=iterations)
        options = num_slots or self.num_slots, iterations or self.iterations
        return as_decomposition(self._infer(self._checked(image), *options)[1])

    def own_scores(
        self, scenes: Scenes, decomposition: Decomposition, before: Scenes | None = None
    ) -> dict[str, Tensor]:
        """The losses of the last iteration, and confidence."""
        return em_scores(scenes, decomposition, self.inter_weight)

    def _infer(self, image: Tensor, num_slots: int, iterations: int) -> tuple[Tensor, State]:
        """The last logits (B, K, 1, H, W), and the state they belong to."""
        state = start(image, num_slots, self.weight.shape[1])
        s = state.theta
        for _ in range(iterations):
            error = state.gamma * (flip_bits(image, self.noise).unsqueeze(1) - state.means)
            theta = s.sigmoid()
            s = s + self.rate * theta * (1 - theta) * (error.flatten(2) @ self.weight)
            theta = s.sigmoid()
            logits = (theta @ self.weight.mT).to(s.dtype).unflatten(2, image.shape[1:])
            means = logits.sigmoid()
            state = State(theta, means, responsibilities(means, image))
        return logits, state

    def _checked(self, image: Tensor) -> Tensor:
        check_binary(image, self.image_size, "B, C, H, W", "image")
        return image.to(self.weight.dtype)
