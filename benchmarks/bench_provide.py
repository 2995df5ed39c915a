"""Speed and memory of PROVIDE beside a textbook implementation, its convolutions alone, and IODINE on every frame.

    python benchmarks/bench_provide.py [--rounds 3] [--frames 1 4 10 20 40] [--json FILE]

The model is the paper's for Bouncing Balls without SqueezeNet (64 x 64, K = 5, R = 6), bf16 convolutions, 1 video.
First a training step on 4 frames beside `plain_provide.py` and the roofline, run in turn (medians; both losses, with
the same noise, must agree within 2 %). Then the growth with the number of frames T: seconds of streaming inference
beside the paper's baseline, IODINE with R decodes on each frame, and the memory of streaming and of training, each
peak that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from measuring import DEVICE, autocast, conv_runs, median_ratio, peak_mib, print_table, timed
from plain_provide import PlainPROVIDE
from unscene import PROVIDE

BASELINE = {"temporal": False, "conditional": False, "grid": "full"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 4, 10, 20, 40])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path, help="a picture of seconds and MiB against T")
    parser.add_argument("--peak", nargs=2, metavar=("WHAT", "FRAMES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak_memory(args.peak[0], int(args.peak[1])))
        return
    print(f"{DEVICE}, {torch.get_num_threads()} threads, torch {torch.__version__}, median of {args.rounds} rounds")
    step = training_step(args.rounds)
    print_table(list(step), [[f"{value:.2f}" for value in step.values()]])
    rows = [growth(frames, args.rounds) for frames in args.frames]
    print_table(list(rows[0]), [[format(value, ".4g") for value in row.values()] for row in rows])
    if args.json:
        args.json.write_text(json.dumps({"device": DEVICE, "training": step, "growth": rows}, indent=2))
    if args.figure:
        figure(rows).savefig(args.figure, dpi=150)


def model_and_video(frames: int, **options) -> tuple[PROVIDE, Tensor]:
    torch.manual_seed(0)
    return PROVIDE(**options).to(DEVICE), torch.rand(1, frames, 3, 64, 64, device=DEVICE)


def train(model: PROVIDE, video: Tensor) -> None:
    with autocast():
        total = model.loss({"image": video}).total
    model.zero_grad()
    total.backward()


def follow(model: PROVIDE, video: Tensor) -> None:
    with autocast():
        for _ in model.stream(video.unbind(1)):
            pass


def training_step(rounds: int, frames: int = 4) -> dict[str, float]:
    model, video = model_and_video(frames, adapt_weight=False)
    plain = PlainPROVIDE(model)
    check_same_loss(model, plain, video)
    convolutions = roofline(model, frames)
    seconds = {"unscene": [], "plain": [], "roofline": []}
    for _ in range(rounds + 1):
        seconds["unscene"].append(timed(lambda: train(model, video)))
        seconds["plain"].append(timed(lambda: plain.loss(video).backward()))
        seconds["roofline"].append(sum(count * timed(run) for run, count in convolutions))
    ours, theirs, ideal = (values[1:] for values in seconds.values())
    return {
        "frames/s": frames / statistics.median(ours),
        "plain": frames / statistics.median(theirs),
        "x plain": median_ratio(theirs, ours),
        "of roofline": median_ratio(ideal, ours),
    }


def roofline(model: PROVIDE, frames: int) -> list:
    """(run, how often) of each convolution: per decode forward and backward, per update of a sampled z its VJP."""
    K, counts = model.num_slots, [model.num_decodes(f) for f in range(frames)]
    decodes, sampled = sum(counts), sum(n - 1 for n in counts)
    updates = sum(min(n, model.iterations - 1) for n in counts)
    runs, size = [], model.image_size
    for layer in model.decoder.convs[1:]:  # the first is a linear map of z
        forward, vjp, full = conv_runs(layer, K, layer.in_channels, size)
        runs += [(forward, decodes), (vjp, sampled), (full, decodes)]
    for i, layer in enumerate(model.encoder.convs):
        forward, _, full = conv_runs(layer, K, model.encoder.split[0] if i == 0 else layer.in_channels, size)
        runs += [(forward, updates), (full, updates)]
    return runs


def check_same_loss(model: PROVIDE, plain: PlainPROVIDE, video: Tensor) -> None:
    torch.manual_seed(1)
    with autocast():
        fast = model.loss({"image": video}).total.item()
    torch.manual_seed(1)
    slow = plain.loss(video).item()
    if abs(fast - slow) > 0.02 * abs(slow):
        sys.exit(f"the losses differ: {fast} (unscene) and {slow} (plain)")


def growth(frames: int, rounds: int) -> dict[str, float]:
    """What T = ``frames`` cost."""
    seconds = {}
    for name, options in {"PROVIDE s": {}, "IODINE s": BASELINE}.items():
        model, video = model_and_video(frames, **options)
        seconds[name] = statistics.median([timed(lambda m=model, v=video: follow(m, v)) for _ in range(rounds)])
    decodes = sum(map(PROVIDE().num_decodes, range(frames)))
    memory = {f"{what} MiB": peak_of(what, frames) for what in ("streaming", "training", "recomputing")}
    return {"T": frames, "decodes": decodes, "of IODINE": 6 * frames} | seconds | memory


def peak_of(what: str, frames: int) -> float:
    command = [sys.executable, __file__, "--peak", what, str(frames)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_memory(what: str, frames: int) -> float:
    """MiB on top of the imports and the model."""
    model, video = model_and_video(frames, recompute=what == "recomputing")
    run = follow if what == "streaming" else train
    return peak_mib(lambda: run(model, video), times=1)


def figure(rows: list[dict[str, float]]) -> Figure:
    """Seconds of streaming and MiB of training against T, each beside what it is compared with."""
    drawing = Figure(figsize=(7, 2.6), layout="constrained")
    panels = {"seconds": ("PROVIDE s", "IODINE s"), "MiB": ("training MiB", "recomputing MiB", "streaming MiB")}
    for axes, (unit, names) in zip(drawing.subplots(1, 2), panels.items(), strict=True):
        for name in names:
            label = name.removesuffix(" s").removesuffix(" MiB")
            axes.plot([row["T"] for row in rows], [row[name] for row in rows], marker=".", label=label)
        axes.set(xlabel="frames T", ylabel=unit, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return drawing


if __name__ == "__main__":
    main()
