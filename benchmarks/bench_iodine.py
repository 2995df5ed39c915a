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
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from plain_iodine import PlainIODINE
from unscene import IODINE
from unscene.recipes import build_model

# Image size, and a batch that a laptop's memory holds for the plain version too.
WORKLOADS = {"iodine/tetrominoes": (35, 32), "iodine/multi_dsprites": (64, 8), "iodine/clevr6": (128, 2)}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


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
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{platform.processor() or 'CPU'}"
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, median of {args.rounds} rounds")
    rows = [row for recipe in args.recipes for row in measure(recipe, args.rounds)]
    print_table(rows)
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


def autocast():
    return torch.autocast(DEVICE, torch.bfloat16)


def training(model: IODINE, image: Tensor) -> Callable[[], None]:
    def run() -> None:
        with autocast():
            total = model.loss({"image": image}, 0).total
        model.zero_grad()
        total.backward()

    return run


def plain_training(plain: PlainIODINE, image: Tensor) -> Callable[[], None]:
    def run() -> None:
        plain.zero_grad()
        plain.loss(image).backward()

    return run


def inference(model: IODINE, image: Tensor) -> Callable[[], None]:
    def run() -> None:
        with autocast():
            model.decompose(image)

    return run


def plain_inference(plain: PlainIODINE, image: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
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


def conv_runs(layer: torch.nn.Conv2d, batch: int, channels: int, size: tuple[int, int]) -> list[Callable[[], None]]:
    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, device=DEVICE, dtype=torch.bfloat16).to(memory_format=torch.channels_last)

    x, weight = tensor(batch, channels, *size), tensor(layer.out_channels, channels, *layer.kernel_size)
    bias = torch.zeros(layer.out_channels, device=DEVICE, dtype=torch.bfloat16)
    geometry = (layer.stride, layer.padding, (1, 1), False, (0, 0), 1)

    def forward() -> Tensor:
        return torch.ops.aten.convolution(x, weight, bias, *geometry)

    gradient = torch.randn_like(forward())

    def backward(*mask: bool) -> None:
        torch.ops.aten.convolution_backward(gradient, x, weight, [len(bias)], *geometry, mask)

    return [forward, lambda: backward(True, False, False), lambda: backward(True, True, True)]


def timed(run: Callable[[], object]) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def check_same_loss(model: IODINE, plain: PlainIODINE, image: Tensor) -> None:
    torch.manual_seed(1)
    with autocast():
        fast = model.loss({"image": image}, 0).total.item()
    torch.manual_seed(1)
    slow = plain.loss(image).item()
    if abs(fast - slow) > 0.02 * abs(slow):
        sys.exit(f"the losses differ: {fast} (unscene) and {slow} (plain)")


def median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def peak_of(recipe: str, what: str) -> float:
    command = [sys.executable, __file__, "--peak", recipe, what]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_memory(recipe: str, what: str) -> float:
    """MiB that two steps need on top of the imports and the model."""
    model, image = workload(recipe)
    task, name = what.split("-")
    plain = PlainIODINE(model)
    run = {
        "training-unscene": training(model, image),
        "training-plain": plain_training(plain, image),
        "inference-unscene": inference(model, image),
        "inference-plain": plain_inference(plain, image),
    }[f"{task}-{name}"]
    if DEVICE == "cuda":
        run(), run()
        return torch.cuda.max_memory_allocated() / 2**20
    before = peak_resident_mib()
    run(), run()
    return peak_resident_mib() - before


def peak_resident_mib() -> float:
    """Of this process since it began; getrusage would count the parent's peak in."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def print_table(rows: list[dict]) -> None:
    titles = ["recipe", "task", "batch", "images/s", "plain", "x plain", "of roofline", "MiB", "plain MiB"]
    lines = [
        [
            row["recipe"],
            row["task"],
            str(row["batch"]),
            f"{row['unscene_images_per_s']:.1f}",
            f"{row['plain_images_per_s']:.1f}",
            f"{row['times_plain']:.2f}",
            f"{row['of_roofline']:.2f}",
            f"{row['unscene_peak_mib']:.0f}",
            f"{row['plain_peak_mib']:.0f}",
        ]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [titles, *lines]) for i in range(len(titles))]
    for line in [titles, *lines]:
        print(
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
        )


if __name__ == "__main__":
    main()
