"""IODINE on videos: one refinement per frame, so that the slots follow their objects (Greff et al. 2019, A.1).

Two uses. A static model, trained on single images, is led through a video frame by frame: the baseline SEQ-IODINE of
Zablotskaia et al. 2020, `from_static`. Or the model is trained on videos: each frame is scored with the decode from
before it was seen, so training teaches prediction. Then all dynamics live in the LSTM's state and, with ``head``
"predictor_corrector" (IODINE's reference code), in a predictor of the posterior.

`SequentialIODINE` serves both uses. `SequentialPROVIDE` serves the first for the baseline IODINE of Zablotskaia et al.,
a network with another objective (PROVIDE without its time axis); their tables show this one.

Not faithful: how the reference code computes the gates of that head is unknown to us; here they are linear in the
posterior and its update. The prediction loss has IODINE's linearly rising weights. Zablotskaia et al. do not say where
they clamp gradients, nor whether they score a frame before or after it was seen.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.models.base import Losses, SceneModel, VideoModel, check_positive
from unscene.models.iodine import IODINE
from unscene.models.provide import PROVIDE
from unscene.nn.blocks import linear
from unscene.scenes import Decomposition, Scenes, check_image

State = tuple[Tensor | None, ...]  # what goes from frame to frame: the posterior's parameters, then the LSTM's state


class SequentialModel(VideoModel):
    """A static method led through a video by one refinement per frame. Needs `_begin`, `_see` and `_look`."""

    score: Literal["pre", "post"]
    clamp: float | None

    @classmethod
    def from_static(cls, model: SceneModel, **options: Any) -> SequentialModel:
        """The sequential model with the weights of a static one; ``options`` are score and clamp.

        Raises:
            InputError: the model cannot be led through a video by this class.
        """
        if not issubclass(cls, type(model)):
            raise InputError(
                f"{cls.__name__} cannot be made from {type(model).__name__}; "
                "give SequentialIODINE an IODINE, SequentialPROVIDE a PROVIDE with temporal=False"
            )
        sequential = cls(**(model._hub_mixin_config or {}) | options)
        sequential.load_state_dict(model.state_dict())
        return sequential.train(model.training)

    @abstractmethod
    def _begin(self, batch_size: int, num_slots: int) -> State:
        """The state before the first frame."""

    @abstractmethod
    def _see(self, image: Tensor, state: State) -> tuple[Decomposition, State]:
        """A sample of the posterior, decoded, and the state once that was compared with the frame."""

    @abstractmethod
    def _look(self, image: Tensor, state: State) -> Decomposition:
        """The posterior's mean, decoded; of ``image`` only the shape matters."""

    def stream(
        self, frames: Iterable[Tensor], *, num_slots: int | None = None, horizon: int = 0
    ) -> Iterator[Decomposition]:
        """As VideoModel.stream. Predicted frames are what the model then takes for seen ones."""
        num_slots, state = self.num_slots if num_slots is None else num_slots, None
        check_positive(num_slots=num_slots)
        for image in frames:
            image = self._checked(image)
            decomposition, state = self._follow(image, num_slots, state)
            yield decomposition
        if state is None:
            raise InputError("the video has no frames; give at least one")
        for _ in range(horizon):
            decomposition, state = self._expect(image, state)
            yield decomposition

    @torch.inference_mode(False)  # the decoder's VJP needs a graph of its own
    @torch.no_grad()
    def _follow(self, image: Tensor, num_slots: int, state: State | None) -> tuple[Decomposition, State]:
        """The Decomposition of a frame, and the state behind it."""
        before, state = self._see(image, self._begin(len(image), num_slots) if state is None else state)
        return before if self.score == "pre" else self._look(image, state), state

    @torch.inference_mode(False)
    @torch.no_grad()
    def _expect(self, like: Tensor, state: State) -> tuple[Decomposition, State]:
        """The frame, shaped ``like`` this, that the posterior's mean stands for, and the state once that was seen."""
        expected = self._look(like, state)
        return expected, self._see(expected.reconstruction, state)[1]

    def _limited(self, x: Tensor) -> Tensor:
        """A gradient or an update within the clamp, if there is one."""
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class SequentialIODINE(SequentialModel, IODINE):
    """IODINE with one refinement per frame; ``iterations`` is not used.

    Args:
        score: a frame's Decomposition is that before ("pre", one step ahead) or after ("post", of the posterior's
            mean) the frame was seen.
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

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Negative ELBO in nats of each frame under the posterior that has seen the frames before it."""
        video = batch["image"]
        check_image(video, axes="B, T, C, H, W", name="video")
        if video.shape[1] < 2:
            raise InputError("the loss is that of the next frame, and the videos have only 1; give at least 2 frames")
        return self._objective([self._checked(frame) for frame in video.unbind(1)])

    def _begin(self, batch_size: int, num_slots: int) -> State:
        return (self._start(batch_size, num_slots),)

    def _see(self, image: Tensor, state: State) -> tuple[Decomposition, State]:
        fixed = self._fixed(image)
        guess = self._guess(image, state[0], fixed)
        return self._decomposition(guess), self._refine(guess, fixed, state[1:])

    def _look(self, image: Tensor, state: State) -> Decomposition:
        return self._decomposition(self._guess(image, state[0], self._fixed(image), sample=False))

    def _updated(self, posterior: Tensor, delta: Tensor) -> Float[Tensor, "N P"]:
        delta = self._limited(delta)
        corrected = posterior + delta
        if self.gates is None:
            return corrected
        correct, predict = self.gates(torch.cat([posterior, delta], 1)).sigmoid().chunk(2, 1)
        corrected = correct * corrected + (1 - correct) * posterior
        return predict * self.predictor(posterior) + (1 - predict) * corrected


class SequentialPROVIDE(SequentialModel, PROVIDE):
    """PROVIDE's static baseline with one refinement per frame: SEQ-IODINE, as the paper's tables have it.

    For test time only: `loss` is still the baseline's, of each frame by itself, and only it uses ``iterations``.

    Args:
        score: as in SequentialIODINE.
        clamp: likewise, in `stream`.
        options: of PROVIDE; by default its ``temporal``, ``conditional`` and ``grid`` are the baseline's.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, score: Literal["pre", "post"] = "pre", clamp: float | None = None, **options: Any) -> None:
        if options.get("temporal"):
            raise InputError(
                "temporal is True, but a PROVIDE with a time axis follows objects as it is; "
                "use it directly, or train its baseline, provide/bouncing_balls-iodine"
            )
        super().__init__(**{"temporal": False, "conditional": False, "grid": "full"} | options)
        check_positive(clamp=clamp)
        self.score, self.clamp = score, clamp

    def _begin(self, batch_size: int, num_slots: int) -> State:
        """As in the baseline, the first decode is of a sample through which no gradient reaches the posterior."""
        rows = batch_size * num_slots
        first = None if self.resample else self._first_sample(rows)
        return self._posterior(rows), *self._start(batch_size, num_slots), first

    def _see(self, image: Tensor, state: State) -> tuple[Decomposition, State]:
        posterior, hidden, cell, first = state
        frame = self._frame(image, hidden, cell, self.decoder.prepare(self.image_size))  # without time, state is unread
        guess = self._guess(frame, posterior, first)
        gradients = [self._limited(gradient) for gradient in self._gradients(frame, guess)]
        refined, hidden, cell = self._refine(frame, guess, hidden, cell, gradients)
        refined = posterior + self._limited(refined - posterior)  # the update
        return self._decomposition(guess, *posterior.chunk(2, 1)), (refined, hidden, cell, None)

    def _look(self, image: Tensor, state: State) -> Decomposition:
        posterior, hidden, cell, _ = state
        mean, logvar = posterior.chunk(2, 1)
        frame = self._frame(image, hidden, cell, self.decoder.prepare(self.image_size))
        return self._decomposition(self._guess(frame, posterior, mean), mean, logvar)
