"""The inference gap: how far is a model's posterior from its true one, in nats per image?

`inference_gap` runs over a dataset. What it needs of a model is one method, for the models that have an ELBO:

    def posteriors(self, scenes: Scenes, **options) -> dict[str, Posterior]

It infers the posterior of the only scene in the batch ``scenes`` (B = 1), as `decompose` would, and gives it a name:
"gap" for the one that counts, others where there is more than one reading (MONet's attention masks or its decoded
ones as mixing weights). ``options`` are those of `decompose`. Noise of the inference itself, such as samples in a
refinement, comes from torch's global generator. A `Posterior` then turns standard normal numbers into samples and
weighs them; that is asked in chunks, without gradients. Where latents are independent Gaussians with prior N(0, I),
`unscene.nn.posterior.GaussianPosterior` does it:

    def posteriors(self, scenes, **options):
        d = self.decompose(scenes["image"], **options)
        return {"gap": GaussianPosterior(d.slots[0], d.slot_scale[0], log_likelihood)}

The weights are those of the true ELBO, whatever else is in the training objective: KL with weight 1, no LDS, no KL of
masks.

A model of several views, such as MulMON, may be read in two ways. Its "gap" is that of the scene: KL(q_V || p(z | x_1,
..., x_V)), q_V the belief after all views in their order; the evidence that is bounded is log p(x_1, ..., x_V | v_1,
..., v_V), all views together, with the belief q_0 before the first as prior. The other is that of each image, view by
view, from

    def view_posteriors(self, scenes: Scenes, **options) -> list[Posterior]

where the belief before a view takes the place of the prior: view t has the weights p(x_t | z, v_t) q_{t-1}(z) / q_t(z).
What is bounded is then log of the integral of p(x_t | z, v_t) q_{t-1}(z), how well the belief so far predicted the
view, and the gap is KL(q_t || q_{t-1} updated exactly by that view). These do not add up to the scene's: q_{t-1} is
itself approximate, so that their sum is no bound of the evidence of all views.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.utils.data import Dataset

from unscene.errors import InputError
from unscene.evaluation.common import (
    batches,
    count_scenes,
    decompose_options,
    platform_facts,
    undisturbed,
    usable_device,
)
from unscene.evaluation.result import Evaluation
from unscene.metrics import importance_gap
from unscene.models.base import SceneModel, VideoModel
from unscene.scenes import Scenes


@runtime_checkable
class Posterior(Protocol):
    """q(z | x) of one scene, held fixed, and what its samples are worth."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal numbers that make one sample."""

    def log_weights(self, noise: Float[Tensor, "S ..."]) -> Float[Tensor, " S"]:
        """log p(x | z) + log p(z) - log q(z | x) in nats, of the S samples that ``noise`` makes; sums in float64."""


@torch.no_grad()
def inference_gap(
    model: SceneModel,
    dataset: Dataset | Sequence[Scenes],
    *,
    num_samples: int = 500,
    chunk_size: int = 20,
    num_slots: int | None = None,
    iterations: int | None = None,
    limit: int | None = None,
    per_view: bool = False,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """The inference gap of the first ``limit`` scenes of a map-style dataset, with ``num_samples`` samples each.

    For every name that the model gives its posteriors: ``gap``, ``gap_log_evidence``, ``gap_elbo``, ``gap_std`` (of log
    weights) and ``gap_ess``, see `unscene.metrics.importance_gap`. Decodes take nearly all of the time and memory,
    ``chunk_size`` times K of them at once. But for rounding the result does not depend on ``chunk_size``, nor a scene's
    on the scenes beside it: all noise is a function of ``seed`` and the scene's index. ``model`` moves to ``device``.

    With ``per_view`` there is one value for each view instead of each scene, under the name ``gap``: first all views of
    scene 0, as `unscene.data.Views` orders them, each given those before it.

    Raises InputError for a model without posteriors, and for options that make no sense.
    """
    _check(model, per_view, num_samples, chunk_size)
    num_scenes = count_scenes(dataset, limit, 1, seed, "32-true")
    options, device = decompose_options(model, num_slots, iterations), usable_device(device)
    scored: list[dict[str, Tensor]] = []
    begin = time.perf_counter()
    for index, scene in batches(dataset, num_scenes, 1):
        scene = {name: scene[name].to(device) for name in ("image", "viewpoint") if name in scene}
        with undisturbed(model, device, (seed, index), "32-true"):
            noise_seed = int(torch.randint(2**62, ()))
            for number, posteriors in enumerate(_readings(model, scene, options, per_view)):
                scored.append({})
                for name, posterior in posteriors.items():
                    weights = log_weights(posterior, num_samples, chunk_size, noise_seed + number, device)
                    scored[-1] |= _named(name, weights)
        if progress is not None:
            progress(index + 1, num_scenes)
    meta: dict[str, Any] = {
        "model": type(model).__name__,
        "dataset": type(dataset).__name__,
        **options,
        **({"per_view": True} if per_view else {}),
        "num_samples": num_samples,
        "seed": seed,
        "n": num_scenes,
        "seconds": round(time.perf_counter() - begin, 3),
        **platform_facts(device),
    }
    return Evaluation({name: torch.cat([row[name] for row in scored]).numpy() for name in scored[0]}, meta)


def log_weights(
    posterior: Posterior, num_samples: int, chunk_size: int, seed: int, device: torch.device | str = "cpu"
) -> Float64[Tensor, " S"]:
    """Log weights of ``num_samples`` samples, of which no more than ``chunk_size`` are decoded at a time.

    Their noise is drawn at once (on the CPU, to be the same everywhere) and depends on ``seed`` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_samples, *posterior.noise_shape, generator=generator)
    return torch.cat([posterior.log_weights(part.to(device)).double().cpu() for part in noise.split(chunk_size)])


def _check(model: SceneModel, per_view: bool, num_samples: int, chunk_size: int) -> None:
    if not hasattr(model, "posteriors") or isinstance(model, VideoModel):
        raise InputError(
            f"{type(model).__name__} has no posteriors of images to sample from; the inference gap is that of a "
            "variational autoencoder of images, such as IODINE"
        )
    if per_view and not hasattr(model, "view_posteriors"):
        raise InputError(f"{type(model).__name__} has no belief that grows view by view; leave per_view out")
    if num_samples < 1 or chunk_size < 1:
        raise InputError(f"num_samples is {num_samples} and chunk_size {chunk_size}; both need to be above 0")


def _readings(
    model: SceneModel, scene: Scenes, options: dict[str, int], per_view: bool
) -> Sequence[dict[str, Posterior]]:
    """The named posteriors of the scene, or of each of its views."""
    if not per_view:
        return [model.posteriors(scene, **options)]
    return [{"gap": posterior} for posterior in model.view_posteriors(scene, **options)]


def _named(name: str, weights: Float64[Tensor, " S"]) -> dict[str, Tensor]:
    found = importance_gap(weights.unsqueeze(0))._asdict()
    return {name: found.pop("gap")} | {f"{name}_{part}": value for part, value in found.items()}
