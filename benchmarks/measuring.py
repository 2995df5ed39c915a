"""What the benchmarks share: timing, single convolutions for the roofline, peak memory, names, aligned tables."""

from __future__ import annotations

import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from unscene.training.memory import keep_freed_memory

keep_freed_memory()  # as in training, for all that is measured

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def device_name() -> str:
    """Of the GPU, or of the CPU where the system says it."""
    if DEVICE == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    known = re.search(r"^model name\s*: (.+)$", info.read_text(), re.M) if info.exists() else None
    return known[1] if known else platform.processor() or "CPU"


def autocast():
    return torch.autocast(DEVICE, torch.bfloat16)


def timed(run: Callable[[], object]) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def conv_runs(
    layer: torch.nn.Conv2d | torch.nn.ConvTranspose2d, batch: int, channels: int, size: tuple[int, int]
) -> list[Callable[[], None]]:
    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, device=DEVICE, dtype=torch.bfloat16).to(memory_format=torch.channels_last)

    transposed = isinstance(layer, torch.nn.ConvTranspose2d)
    ends = (channels, layer.out_channels) if transposed else (layer.out_channels, channels)
    x, weight = tensor(batch, channels, *size), tensor(*ends, *layer.kernel_size)
    bias = torch.zeros(layer.out_channels, device=DEVICE, dtype=torch.bfloat16)
    geometry = (layer.stride, layer.padding, (1, 1), transposed, layer.output_padding, 1)

    def forward() -> Tensor:
        return torch.ops.aten.convolution(x, weight, bias, *geometry)

    gradient = torch.randn_like(forward())

    def backward(*mask: bool) -> None:
        torch.ops.aten.convolution_backward(gradient, x, weight, [len(bias)], *geometry, mask)

    return [forward, lambda: backward(True, False, False), lambda: backward(True, True, True)]


def peak_resident_mib() -> float:
    """Of this process since it began; getrusage would count the parent's peak in."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def peak_mib(run: Callable[[], object], times: int = 2) -> float:
    """What ``run`` needs on top of what is in memory, in MiB; on a CPU in a process that has done nothing larger."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(times):
            run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of what was done before
    before = peak_resident_mib()
    for _ in range(times):
        run()
    return peak_resident_mib() - before


def print_table(titles: list[str], rows: list[list[str]]) -> None:
    """Words to the left, numbers to the right."""
    lines = [titles, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    for line in lines:
        cells = zip(line, rows[0], widths, strict=True)
        print("  ".join(c.rjust(w) if like[:1].isdigit() else c.ljust(w) for c, like, w in cells))
