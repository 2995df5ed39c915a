"""IODINE on videos: one refinement per frame, so that the slots follow their objects (Greff et al. 2019, A.1).

Two uses. A static IODINE, trained on single images, is led through a video frame by frame (the baseline SEQ-IODINE of
Zablotskaia et al. 2020): `SequentialIODINE.from_static`. Or the model is trained on videos: each frame is scored with
the decode from before it was seen, so training teaches prediction. Then all dynamics live in the LSTM's state and,
with ``head`` "predictor_corrector" (IODINE's reference code), in a predictor of the posterior.

Not faithful: how the reference code computes the gates of that head is unknown to us; here they are linear in the
posterior and its update. The prediction loss has IODINE's linearly rising weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.models.base import Losses, VideoModel, check_positive
from unscene.models.iodine import IODINE
from unscene.nn.blocks import linear
from unscene.scenes import Decomposition, Scenes, check_image


class SequentialIODINE(IODINE, VideoModel):
    """IODINE with one refinement per frame; ``iterations`` is not used.

    Args:
        score: a frame's Decomposition is that before ("pre", one step ahead) or after ("post") the frame was seen.
        clamp: bound of gradients, before they are normalised, and of updates; Zablotskaia et al. use 10 for videos of
            20 and more binary frames, for which the static model was not trained.
        head: the update is added to the posterior ("add"), or gates mix it with a prediction from the posterior.
        options: of IODINE.
    """

    def __init__(
        self,
        score: Literal["pre", "post"] = "pre",
        clamp: float | None = None,
        head: Literal["add", "predictor_corrector"] = "add",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_positive(clamp=clamp)
        self.score, self.clamp = score, clamp
        if head == "predictor_corrector":
            size = len(self.initial_posterior)
            self.gates = linear(2 * size, 2 * size)
            self.predictor = nn.Sequential(linear(size, 2 * size), nn.ELU(), linear(2 * size, size))
        else:
            self.gates = None

    @classmethod
    def from_static(cls, model: IODINE, **options: Any) -> SequentialIODINE:
        """The sequential model with the weights of a static one; ``options`` are score and clamp."""
        sequential = cls(**options, **(model._hub_mixin_config or {}))
        sequential.load_state_dict(model.state_dict())
        return sequential.train(model.training)

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Negative ELBO in nats of each frame under the posterior that has seen the frames before it."""
        video = batch["image"]
        check_image(video, axes="B, T, C, H, W", name="video")
        if video.shape[1] < 2:
            raise InputError("the loss is that of the next frame, and the videos have only 1; give at least 2 frames")
        return self._objective([self._checked(frame) for frame in video.unbind(1)])

    decompose = VideoModel.decompose

    def stream(
        self, frames: Iterable[Tensor], *, num_slots: int | None = None, horizon: int = 0
    ) -> Iterator[Decomposition]:
        """As VideoModel.stream. Predicted frames are what the model then takes for seen ones."""
        num_slots, state = self.num_slots if num_slots is None else num_slots, None
        check_positive(num_slots=num_slots)
        for image in frames:
            image = self._checked(image)
            state = (self._start(len(image), num_slots),) if state is None else state
            decomposition, state = self._see(image, state, self.score == "post")
            yield decomposition
        if state is None:
            raise InputError("the video has no frames; give at least one")
        for _ in range(horizon):
            imagined = self._imagine(image, state)
            yield imagined
            _, state = self._see(imagined.reconstruction, state, False)

    def _see(self, image: Tensor, state: tuple[Tensor, ...], decode_again: bool):
        """The Decomposition of a frame, and posterior and LSTM state behind it."""
        with torch.inference_mode(False), torch.no_grad():  # the decoder's VJP needs a graph of its own
            fixed = self._fixed(image)
            guess = self._guess(image, state[0], fixed)
            state = self._refine(guess, fixed, state[1:])
            if decode_again:
                guess = self._guess(image, state[0], fixed, sample=False)
            return self._decomposition(guess), state

    def _imagine(self, like: Tensor, state: tuple[Tensor, ...]) -> Decomposition:
        """What the posterior's mean looks like; a frame shaped ``like`` this is expected."""
        with torch.inference_mode(False), torch.no_grad():
            return self._decomposition(self._guess(like, state[0], self._fixed(like), sample=False))

    def _updated(self, posterior: Tensor, delta: Tensor) -> Float[Tensor, "N P"]:
        if self.clamp is not None:
            delta = delta.clamp(-self.clamp, self.clamp)
        corrected = posterior + delta
        if self.gates is None:
            return corrected
        correct, predict = self.gates(torch.cat([posterior, delta], 1)).sigmoid().chunk(2, 1)
        corrected = correct * corrected + (1 - correct) * posterior
        return predict * self.predictor(posterior) + (1 - predict) * corrected

    def _limited(self, gradient: Tensor) -> Tensor:
        return gradient if self.clamp is None else gradient.clamp(-self.clamp, self.clamp)
