"""How fast rendered datasets are made, in the way of `unscene data generate`: by processes, stored part by part.

    python benchmarks/bench_render.py [--datasets clevr6 ...] [--seconds 60] [--processes N] [--json FILE]

Each dataset is generated into a temporary folder in steps that go on where the last one ended, each of four times as
many scenes, until one takes half of ``--seconds``. Reported are its seconds and CPU seconds (of all processes) per
scene, less the start of processes and renderer, which is measured with one scene, and what 10,000 scenes would take.
The goals are those of the design, for two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from measuring import device_name, print_table
from unscene.data import save_shards
from unscene.data.open import open_generator

GOALS = {  # seconds per scene
    "clevr6": 0.15,  # 10,000 in 25 minutes; with llvm in 15
    "clevr": None,
    "cle_mv": 0.5,
    "shapes_mv": 0.5,
    "objects_room": 0.006,  # 10,000 in 2 minutes on one core
    "objects_room_flight": 0.045,  # likewise 0.09
    "clevrer_like": 8.0,
}
OPTIONS: dict[str, dict[str, Any]] = {"clevrer_like": {"image_size": (128, 128), "frames": 16}}
WHOLE_VIDEO = 128 / 16  # so many times as long


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(f"{device_name()}, {args.processes} processes")
    rows = [measured(name, args.processes, args.seconds) for name in args.datasets]
    print_table(
        ["dataset", "renderer", "scenes", "start s", "s", "CPU s", "goal s", "10,000 take"], [*map(cells, rows)]
    )
    if args.json:
        args.json.write_text(json.dumps({"device": device_name(), "rows": rows}, indent=2) + "\n")


def measured(name: str, processes: int, seconds: float) -> dict[str, Any]:
    """One row of the table; seconds are per scene."""
    options = OPTIONS.get(name, {})

    def generate(folder: str, count: int) -> tuple[float, float]:
        return timed(lambda: save_shards(name, folder, {"train": count}, options=options, processes=processes))

    with tempfile.TemporaryDirectory() as folder:
        start = generate(f"{folder}/start", 1)  # and the time for this one scene
        done, count, wall = 0, processes, 0.0
        while wall < seconds / 2:
            done, count = done + count, 4 * count
            both = generate(f"{folder}/all", done + count)
            wall, cpu = both[0] - start[0], both[1] - start[1]
    scale = WHOLE_VIDEO if "frames" in options else 1.0
    provenance = open_generator(name, "train", num_scenes=1, **options).provenance()
    return {
        "dataset": name,
        "renderer": " ".join(provenance.values()),
        "scenes": count,
        "start": start[0],
        "seconds": scale * wall / count,
        "cpu_seconds": scale * cpu / count,
        "goal": GOALS[name],
    }


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process and those that it has ended."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    run()
    return time.perf_counter() - wall, cpu_seconds() - cpu


def cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def cells(row: dict[str, Any]) -> list[str]:
    numbers = [f"{row['start']:.1f}", f"{row['seconds']:.4f}", f"{row['cpu_seconds']:.4f}"]
    goal = "-" if row["goal"] is None else f"{row['goal']:.3f}"
    whole = timedelta(seconds=round(10_000 * row["seconds"]))
    return [row["dataset"], row["renderer"], str(row["scenes"]), *numbers, goal, str(whole)]


if __name__ == "__main__":
    main()
