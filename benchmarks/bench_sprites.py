"""Speed and memory of DTI-Sprites' training step beside the authors' scheme.

    python benchmarks/bench_sprites.py [--recipes dti_sprites/tetrominoes ...] [--rounds 5] [--json FILE]

For each of the paper's multi-object recipes a whole step (loss, backward pass, Adam's step), when sprites are no longer
frozen and all transformations active, runs in turn as users get it and plainly: every sprite in every layer drawn with
its graph by networks of its own, selection by full recomposition of every candidate, chosen sprites weighed by 1 and
all others by 0. Both read the same weights in float32 and must have the same loss; a third run has the encoder in
bfloat16, which is all that the recipes' bf16-mixed changes. Images are scenes of the model's own sprites.

Reported are medians over the rounds, also of the encoder's forward and backward pass, which are the same in both, and
the medians of the ratios round by round. Peak memory is that of a process of its own (CPU), or of the allocator (CUDA),
on top of the model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from measuring import DEVICE, device_name, median_ratio, peak_mib, print_table, timed
from plain_selection import plain_composite, plain_greedy
from plain_sprites import candidates, occlusion, soft_clamp, transformed
from unscene import DTISprites
from unscene.nn.predicted_transforms import PredictedTransforms
from unscene.nn.predictors import Predictors
from unscene.recipes import build_model, read

BATCHES = {"dti_sprites/tetrominoes": 32, "dti_sprites/multi_dsprites": 32, "dti_sprites/clevr6": 8}
SIDES = ("unscene", "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(BATCHES), choices=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", nargs=2, metavar=("RECIPE", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        recipe, side = args.peak
        print(peak_mib(runs(recipe, *workload(recipe))[side]))
        return
    device = device_name()
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, median of {args.rounds} rounds")
    rows = [measured(recipe, args.rounds) for recipe in args.recipes]
    titles = ["recipe", "batch", "unscene s", "plain s", "bf16 s", "encoder s", "x plain", "bf16", "MiB", "plain MiB"]
    formats = ["", "", ".3f", ".3f", ".3f", ".3f", ".1f", ".1f", ".0f", ".0f"]
    print_table(titles, [[format(v, f) for v, f in zip(row.values(), formats, strict=True)] for row in rows])
    if args.json:
        args.json.write_text(json.dumps({"device": device, "torch": torch.__version__, "rows": rows}, indent=2))


def workload(recipe: str) -> tuple[DTISprites, Tensor]:
    """A model in which no two sprites or layers are alike, and images of scenes in which its sprites are shuffled."""
    torch.manual_seed(0)
    model = build_model(recipe).to(DEVICE)
    model.steps.fill_(last_step(recipe))
    with torch.no_grad():
        model.sprites.uniform_()
        for part in model.modules():
            if isinstance(part, Predictors):
                part.biases[-1] += 0.1 * torch.randn_like(part.biases[-1])
    noise = torch.rand(BATCHES[recipe], model.image_channels, *model.image_size, device=DEVICE)
    scene = model.parse(noise)
    shuffled = torch.randint_like(scene.sprite, model.num_sprites + model.has_empty)
    image = model.render(replace(scene, sprite=shuffled)).reconstruction
    return model, (image + 0.1 * (noise - 0.5)).clamp(0, 1)


def last_step(recipe: str) -> int:
    return read(recipe)["trainer"]["max_steps"] - 1


def measured(recipe: str, rounds: int) -> dict[str, str | float]:
    model, image = workload(recipe)
    check_same_loss(recipe, model, image)
    tasks = runs(recipe, model, image) | {"encoder": lambda: model.encoder(image).sum().backward()}
    seconds = {name: [] for name in tasks}
    for _ in range(rounds + 1):
        for name, run in tasks.items():
            seconds[name].append(timed(run))
    seconds = {name: values[1:] for name, values in seconds.items()}  # the first round warms up
    times = {f"{name}_s": statistics.median(values) for name, values in seconds.items()}
    ratios = {f"{side}_times_plain": median_ratio(seconds["plain"], seconds[side]) for side in ("unscene", "bf16")}
    peaks = {f"{side}_peak_mib": peak_of(recipe, side) for side in SIDES}
    return {"recipe": recipe, "batch": len(image)} | times | ratios | peaks


def runs(recipe: str, model: DTISprites, image: Tensor) -> dict[str, Callable[[], None]]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, weight_decay=1e-6)  # 0, so that all steps are the same

    def step(loss: Callable[[], Tensor]) -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    def fast_loss() -> Tensor:
        return model.loss({"image": image}, last_step(recipe)).total

    def bf16_loss() -> Tensor:
        with torch.autocast(DEVICE, torch.bfloat16):
            return fast_loss()

    losses = {"unscene": fast_loss, "plain": lambda: plain_loss(model, image), "bf16": bf16_loss}
    return {side: partial(step, loss) for side, loss in losses.items()}


def check_same_loss(recipe: str, model: DTISprites, image: Tensor) -> None:
    torch.manual_seed(1)
    fast = model.loss({"image": image}, last_step(recipe)).total.item()
    torch.manual_seed(1)
    slow = plain_loss(model, image).item()
    if abs(fast - slow) > 1e-4 * slow:
        sys.exit(f"{recipe}: the losses differ: {fast} (unscene) and {slow} (plain)")


def peak_of(recipe: str, side: str) -> float:
    command = [sys.executable, __file__, "--peak", recipe, side]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


# ---- the authors' scheme -----------------------------------------------------------------------------------------


def plain_loss(model: DTISprites, image: Tensor) -> Tensor:
    """The loss in training, all transformations active and sprites not frozen, of all images at once."""
    with torch.device(DEVICE):  # where the equations make their zeros and noise
        parts = {name: getattr(model, name) for name in ("num_layers", "image_size", "sprites", "sprite_masks")}
        own, layer = apart(model.own_transforms), apart(model.layer_transforms)
        parts = SimpleNamespace(**parts, own_transforms=own, layer_transforms=layer)
        active = {"own": list(own.predictors), "layer": list(layer.predictors)}
        noise = model.mask_noise * (2 * torch.rand(model.num_sprites, *model.image_size) - 1)
        features = model.encoder(image)
        drawn, matrix = candidates(parts, features, active, noise, False), occlusion(model, features)
        behind = plain_background(model, features)
    masks, colours = (torch.stack([torch.stack([pair[i] for pair in of], 1) for of in drawn], 1) for i in (0, 1))
    options = {"empty": model.has_empty, "penalty": model.penalty, "sweeps": model.sweeps}
    choice, _ = plain_greedy(image, masks, colours, matrix[:, 1:, 1:], behind, **options)
    weights = F.one_hot(choice, model.num_sprites + 1)[..., :-1, None, None]
    a, c = (weights * masks).sum(2), (weights.unsqueeze(-1) * colours).sum(2)
    a = torch.cat([torch.ones_like(a[:, :1]), a], 1)
    c = torch.cat([torch.zeros_like(c[:, :1]) if behind is None else behind.unsqueeze(1), c], 1)
    return (image - plain_composite(a, c, matrix)).square().mean()


def plain_background(model: DTISprites, features: Tensor) -> Tensor | None:
    if model.background is None:
        return None
    maps, sequence = soft_clamp(model.background).expand(len(features), -1, -1, -1), model.background_transforms
    active, size = list(sequence.predictors), model.image_size
    return transformed(maps, sequence, active, features, (), model.image_channels, size, "border")


def apart(transforms: PredictedTransforms) -> SimpleNamespace:
    """The same networks with tensors of their own: indexing the joint ones would make a gradient of all for each."""

    def split(tensors: list[Tensor], stack: tuple[int, ...]) -> list[dict[tuple[int, ...], Tensor]]:
        indices = list(product(*map(range, stack)))
        return [dict(zip(indices, t.flatten(0, len(stack) - 1).unbind(), strict=True)) for t in tensors]

    networks = {
        name: SimpleNamespace(weights=split(p.weights, p.stack), biases=split(p.biases, p.stack))
        for name, p in transforms.predictors.items()
    }
    return SimpleNamespace(predictors=networks)


if __name__ == "__main__":
    main()
