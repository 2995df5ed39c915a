"""Speed and memory of the greedy selection of sprites beside full recomposition of every candidate.

    python benchmarks/bench_selection.py [--rounds 5] [--json FILE]

Candidates and batches of the paper's three multi-object datasets: soft discs in one place per layer, coloured at
random; images made of one per layer, some of them empty where that is allowed. Both must select the same. The two run
in turn (medians), and each in a process of its own for its peak memory on top of its inputs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from measuring import DEVICE, median_ratio, peak_resident_mib, print_table, timed
from plain_selection import plain_greedy
from unscene.nn.compositing import composite, occlusion_matrix
from unscene.nn.selection import greedy

CASES = {
    "tetrominoes": {"batch": 32, "layers": 3, "sprites": 19, "size": 35, "background": False, "sweeps": 1},
    "multi_dsprites": {"batch": 32, "layers": 5, "sprites": 3, "size": 64, "background": True, "sweeps": 3},
    "clevr6": {"batch": 8, "layers": 6, "sprites": 6, "size": 128, "background": True, "sweeps": 3},
}
SELECTIONS = {"unscene": greedy, "plain": plain_greedy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "SELECTION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak_memory(*args.peak))
        return
    print(f"{DEVICE}, {torch.get_num_threads()} threads, torch {torch.__version__}, median of {args.rounds} rounds")
    rows = {case: measured(case, args.rounds) for case in CASES}
    titles = ["dataset", *next(iter(rows.values()))]
    print_table(titles, [[case, *(f"{value:.1f}" for value in row.values())] for case, row in rows.items()])
    if args.json:
        args.json.write_text(json.dumps({"device": DEVICE, "selection": rows}, indent=2))


def arguments(case: str) -> tuple[list, dict]:
    """Inputs and options of both selections. Without a background no layer is empty."""
    setting = CASES[case]
    B, L, K, n, background = (setting[name] for name in ("batch", "layers", "sprites", "size", "background"))
    torch.manual_seed(0)
    pixels = torch.linspace(-1, 1, n, device=DEVICE)
    centre = 1.2 * torch.rand(B, L, 1, 2, 1, 1, device=DEVICE) - 0.6
    radius = 0.1 + 0.3 * torch.rand(B, L, K, 1, 1, device=DEVICE)
    distance = (pixels[:, None] - centre[:, :, :, 0]).square() + (pixels - centre[:, :, :, 1]).square()
    masks = (20 * (radius - distance.sqrt()) + 0.5).clamp(0, 1)
    colours = torch.rand(B, L, K, 3, 1, 1, device=DEVICE) * torch.ones(n, n, device=DEVICE)
    occlusion = occlusion_matrix(torch.randn(B, L * (L - 1) // 2, device=DEVICE), B, L)
    behind = torch.rand(B, 3, 1, 1, device=DEVICE) * torch.ones(n, n, device=DEVICE) if background else None
    present = torch.rand(B, L, 1, 1, device=DEVICE) > 0.3 * background
    image = composite(masks[:, :, 0] * present, colours[:, :, 0], occlusion, behind)
    image += 0.02 * torch.randn_like(image)
    options = {"empty": background, "penalty": 1e-4, "sweeps": setting["sweeps"]}
    return [image, masks, colours, occlusion, behind], options


def measured(case: str, rounds: int) -> dict[str, float]:
    inputs, options = arguments(case)
    check_same_selection(case)
    seconds = {name: [] for name in SELECTIONS}
    for _ in range(rounds + 1):
        for name, select in SELECTIONS.items():
            seconds[name].append(timed(lambda select=select: select(*inputs, **options)))
    ours, theirs = (values[1:] for values in seconds.values())
    peaks = {f"{name} MiB": peak_of(case, name) for name in SELECTIONS}
    times = {"unscene ms": 1000 * statistics.median(ours), "plain ms": 1000 * statistics.median(theirs)}
    return times | {"x plain": median_ratio(theirs, ours)} | peaks


def check_same_selection(case: str) -> None:
    inputs, options = arguments(case)
    (ours, _), (theirs, _) = (select(*inputs, **options) for select in SELECTIONS.values())
    if not torch.equal(ours, theirs):
        sys.exit(f"{case}: {(ours != theirs).any(1).sum()} of {len(ours)} images have different selections")


def peak_of(case: str, selection: str) -> float:
    command = [sys.executable, __file__, "--peak", case, selection]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_memory(case: str, selection: str) -> float:
    """MiB on top of the inputs."""
    inputs, options = arguments(case)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        SELECTIONS[selection](*inputs, **options)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of making the inputs
    before = peak_resident_mib()
    SELECTIONS[selection](*inputs, **options)
    return peak_resident_mib() - before


if __name__ == "__main__":
    main()
