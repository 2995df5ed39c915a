"""Speed and memory of IODINE beside a textbook implementation and beside its convolutions alone.

    python benchmarks/bench_iodine.py [--recipes iodine/tetrominoes ...] [--rounds 7] [--json FILE]

For each recipe three things run in turn, so that a drifting machine speed cancels in the ratios:

- unscene: the training step (loss and gradients) or inference as users get them, bf16 convolutions;
- plain: `plain_iodine.py` with the same weights, float32, contiguous, autograd for all gradients;
- roofline: only the convolutions that the algorithm needs, same shapes, dtype and layout.

Reported are medians over the rounds, and medians of the ratios round by round. Peak memory is that of a process
of its own (CPU), or of the allocator (CUDA). Both losses, computed with the same noise, must agree within 2 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from measuring import DEVICE, autocast, conv_runs, device_name, median_ratio, peak_mib, print_table, timed
from plain_iodine import PlainIODINE
from unscene import IODINE
from unscene.recipes import build_model

# Image size, and a batch that a laptop's memory holds for the plain version too.
WORKLOADS = {"iodine/tetrominoes": (35, 32), "iodine/multi_dsprites": (64, 8), "iodine/clevr6": (128, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", nargs=2, metavar=("RECIPE", "WHAT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak_memory(*args.peak))
        return
    device = device_name()
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, median of {args.rounds} rounds")
    rows = [row for recipe in args.recipes for row in measure(recipe, args.rounds)]
    print_rows(rows)
    if args.json:
        args.json.write_text(json.dumps({"device": device, "torch": torch.__version__, "rows": rows}, indent=2))


def measure(recipe: str, rounds: int) -> list[dict]:
    model, image = workload(recipe)
    plain = PlainIODINE(model)
    check_same_loss(model, plain, image)
    rows = []
    for task, tasks in {
        "training": {"unscene": training(model, image), "plain": plain_training(plain, image)},
        "inference": {"unscene": inference(model, image), "plain": plain_inference(plain, image)},
    }.items():
        seconds = {name: [] for name in tasks} | {"roofline": []}
        convolutions = roofline(model, image, backward=task == "training")
        for _ in range(rounds + 1):
            for name, run in tasks.items():
                seconds[name].append(timed(run))
            seconds["roofline"].append(sum(count * timed(run) for run, count in convolutions))
        seconds = {name: values[1:] for name, values in seconds.items()}  # the first round warms up
        rows.append(
            {
                "recipe": recipe,
                "task": task,
                "batch": len(image),
                **{f"{name}_images_per_s": len(image) / statistics.median(v) for name, v in seconds.items()},
                "times_plain": median_ratio(seconds["plain"], seconds["unscene"]),
                "of_roofline": median_ratio(seconds["roofline"], seconds["unscene"]),
                **{f"{name}_peak_mib": peak_of(recipe, f"{task}-{name}") for name in tasks},
            }
        )
    return rows


def workload(recipe: str) -> tuple[IODINE, Tensor]:
    torch.manual_seed(0)
    size, batch = WORKLOADS[recipe]
    return build_model(recipe).to(DEVICE), torch.rand(batch, 3, size, size, device=DEVICE)


def training(model: IODINE, image: Tensor) -> Callable[[], None]:
    def run() -> None:
        with autocast():
            total = model.loss({"image": image}, 0).total
        model.zero_grad()
        total.backward()

    return run


def plain_training(plain: PlainIODINE, image: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.device(DEVICE):  # where the equations make their coordinates
            total = plain.loss(image)
        plain.zero_grad()
        total.backward()

    return run


def inference(model: IODINE, image: Tensor) -> Callable[[], None]:
    def run() -> None:
        with autocast():
            model.decompose(image)

    return run


def plain_inference(plain: PlainIODINE, image: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad(), torch.device(DEVICE):
            plain.loss(image)

    return run


def roofline(model: IODINE, image: Tensor, backward: bool) -> list[tuple[Callable[[], None], int]]:
    """(run, how often) for each convolution: forward, its VJP to the input in each refinement, full backward."""
    T, K, (B, _, H, W) = model.iterations, model.num_slots, image.shape
    runs = []
    for layer in model.decoder.convs[1:]:  # the first is a linear map of z
        forward, vjp, full = conv_runs(layer, B * K, layer.in_channels, (H, W))
        runs += [(forward, T + 1), (vjp, T)] + ([(full, T + 1)] if backward else [])
    size = (H, W)
    for i, layer in enumerate(model.refinement.convs):
        channels = model.refinement.split[0] if i == 0 else layer.in_channels
        forward, _, full = conv_runs(layer, B * K, channels, size)
        runs += [(forward, T)] + ([(full, T)] if backward else [])
        size = tuple(-(-n // 2) for n in size)
    return runs


def check_same_loss(model: IODINE, plain: PlainIODINE, image: Tensor) -> None:
    torch.manual_seed(1)
    with autocast():
        fast = model.loss({"image": image}, 0).total.item()
    torch.manual_seed(1)
    with torch.device(DEVICE):
        slow = plain.loss(image).item()
    if not abs(fast - slow) <= 0.02 * abs(slow):  # nor if one is NaN
        sys.exit(f"the losses differ: {fast} (unscene) and {slow} (plain)")


def peak_of(recipe: str, what: str) -> float:
    command = [sys.executable, __file__, "--peak", recipe, what]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def peak_memory(recipe: str, what: str) -> float:
    """MiB that two steps need on top of the imports and the models."""
    model, image = workload(recipe)
    task, name = what.split("-")
    plain = PlainIODINE(model)
    run = {
        "training-unscene": training(model, image),
        "training-plain": plain_training(plain, image),
        "inference-unscene": inference(model, image),
        "inference-plain": plain_inference(plain, image),
    }[f"{task}-{name}"]
    return peak_mib(run)


def print_rows(rows: list[dict]) -> None:
    titles = ["recipe", "task", "batch", "images/s", "plain", "x plain", "of roofline", "MiB", "plain MiB"]
    keys = ["recipe", "task", "batch", "unscene_images_per_s", "plain_images_per_s", "times_plain", "of_roofline"]
    keys += ["unscene_peak_mib", "plain_peak_mib"]
    formats = ["", "", "", ".1f", ".1f", ".2f", ".2f", ".0f", ".0f"]
    print_table(titles, [[format(row[key], f) for key, f in zip(keys, formats, strict=True)] for row in rows])


if __name__ == "__main__":
    main()
