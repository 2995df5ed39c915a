"""Speed, memory and size of all models of images on one workload, in one run, beside textbook versions.

    python benchmarks/bench_models.py [--models IODINE MONet ...] [--batch 8] [--rounds 3] [--json FILE]

Each model is that of its Multi-dSprites recipe, MulMON's that of CLE-MV, with K = 6, on images of 64 x 64 and in the
precision of the recipe. Training is loss, backward pass and Adam's step, as at the last step of the recipe; inference
is `decompose`. MulMON sees scenes of 2 views, which count as 2 images: it observes one and is asked for the other, so
that all its steps are the same work.

Where a textbook version exists (`plain_*.py`: float32, contiguous weights, slot by slot), it runs in turn with the
model from the same weights, and the ratio is the median over the rounds; its inference is its loss without a graph.
Both losses, computed with the same noise, must agree within 2 %. Peak memory is that of a process of its own (CPU), or
of the allocator (CUDA), on top of the model.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import unscene
from measuring import DEVICE, autocast, device_name, median_ratio, peak_mib, print_table, timed
from plain_genesis import genesis_loss, genesis_v2_loss
from plain_iodine import PlainIODINE
from plain_slot_attention import slot_attention_loss
from unscene import recipes
from unscene.models.base import MultiViewModel, SceneModel
from unscene.scenes import Scenes

RECIPES = {
    "IODINE": "iodine/multi_dsprites",
    "MONet": "monet/multi_dsprites",
    "Genesis": "genesis/multi_dsprites",
    "GenesisV2": "genesisv2/multi_dsprites",
    "SlotAttention": "slotattention/multi_dsprites",
    "EfficientMORL": "efficientmorl/multi_dsprites",
    "MulMON": "mulmon/cle_mv",
}
SIZE, NUM_SLOTS, NUM_VIEWS, RATE = 64, 6, 2, 1e-4
TASKS = ("training", "inference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--batch", type=int, default=8, help="images, an even number")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", nargs=2, metavar=("MODEL", "TASK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        name, task = args.peak
        model, batch = workload(name, args.batch)
        print(peak_mib(runs(name, model, batch)[task]))
        return
    device = device_name()
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, median of {args.rounds} rounds")
    rows = [measured(name, args.batch, args.rounds) for name in args.models]
    print_rows(rows)
    if args.json:
        settings = {"device": device, "torch": torch.__version__, "batch": args.batch, "slots": NUM_SLOTS}
        args.json.write_text(json.dumps(settings | {"rows": rows}, indent=2))


def workload(name: str, batch_size: int) -> tuple[SceneModel, Scenes]:
    torch.manual_seed(0)
    options = recipes.read(RECIPES[name])["model"]["init_args"] | {"num_slots": NUM_SLOTS}
    model = getattr(unscene, name)(**options).to(DEVICE)
    image = torch.rand(batch_size, model.image_channels, SIZE, SIZE, device=DEVICE)
    if not isinstance(model, MultiViewModel):
        return model, {"image": image}
    views = image.unflatten(0, (-1, NUM_VIEWS))
    return model, {"image": views, "viewpoint": torch.randn(*views.shape[:2], model.view_size, device=DEVICE)}


def measured(name: str, batch_size: int, rounds: int) -> dict[str, str | float | None]:
    model, batch = workload(name, batch_size)
    row = {"model": name, "parameters": sum(parameter.numel() for parameter in model.parameters())}
    sides = {"unscene": runs(name, model, batch)}
    if name in TEXTBOOKS:
        check_same_loss(name, model, batch["image"])
        sides["plain"] = plain_runs(name, model, batch["image"])
    for task in TASKS:
        seconds = {side: [] for side in sides}
        for _ in range(rounds + 1):
            for side, tasks in sides.items():
                seconds[side].append(timed(tasks[task]))
        ours, *plain = (values[1:] for values in seconds.values())  # the first round warms up
        row[f"{task}_images_per_s"] = batch_size / statistics.median(ours)
        row[f"{task}_times_plain"] = median_ratio(*plain, ours) if plain else None
        row[f"{task}_peak_mib"] = peak_of(name, task, batch_size)
    return row


def runs(name: str, model: SceneModel, batch: Scenes) -> dict[str, Callable[[], object]]:
    trainer, optimizer = recipes.read(RECIPES[name])["trainer"], torch.optim.Adam(model.parameters(), lr=RATE)

    def train() -> None:
        model.train()
        with precision(name):
            total = model.loss(batch, trainer["max_steps"] - 1).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    def infer() -> None:
        model.eval()
        with precision(name):
            model.decompose_batch(batch)

    return {"training": train, "inference": infer}


def precision(name: str) -> AbstractContextManager:
    return autocast() if recipes.read(RECIPES[name])["trainer"].get("precision") == "bf16-mixed" else nullcontext()


# ---- textbook versions -------------------------------------------------------------------------------------------


def plain_genesis(model: nn.Module, image: Tensor) -> Tensor:
    return genesis_loss(model, image, torch.randn(len(image), model.num_slots, sum(model.sizes)))


def plain_genesis_v2(model: nn.Module, image: Tensor) -> Tensor:
    latent_size = model.features.out_features // 2
    uniform = torch.rand(len(image), SIZE * SIZE)
    return genesis_v2_loss(model, image, uniform, torch.randn(len(image), model.num_slots, latent_size))


def plain_slot_attention(model: nn.Module, image: Tensor) -> Tensor:
    strides = [conv.stride[0] for conv in model.decoder.convs]
    return slot_attention_loss(model, image, strides, model.num_slots, model.iterations)[0]


PLAIN = {"Genesis": plain_genesis, "GenesisV2": plain_genesis_v2, "SlotAttention": plain_slot_attention}
TEXTBOOKS = ("IODINE", *PLAIN)


def textbook(name: str, model: SceneModel) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """A copy of the model's weights, and the loss of images by them."""
    if name == "IODINE":
        plain = PlainIODINE(model)
        return plain, plain.loss
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    return plain, partial(PLAIN[name], plain)


def plain_runs(name: str, model: SceneModel, image: Tensor) -> dict[str, Callable[[], object]]:
    plain, loss = textbook(name, model)
    optimizer = torch.optim.Adam(plain.parameters(), lr=RATE)

    def train() -> None:
        optimizer.zero_grad()
        with torch.device(DEVICE):  # where the equations make their zeros and noise
            loss(image).backward()
        optimizer.step()

    def infer() -> None:
        with torch.no_grad(), torch.device(DEVICE):
            loss(image)

    return {"training": train, "inference": infer}


def check_same_loss(name: str, model: SceneModel, image: Tensor) -> None:
    model, (_, loss) = copy.deepcopy(model), textbook(name, model)  # a loss may change buffers
    torch.manual_seed(1)
    with precision(name), torch.no_grad():
        fast = model.loss({"image": image}, 0).total.item()
    torch.manual_seed(1)
    with torch.no_grad(), torch.device(DEVICE):
        slow = loss(image).item()
    if abs(fast - slow) > 0.02 * abs(slow):
        sys.exit(f"{name}: the losses differ: {fast} (unscene) and {slow} (plain)")


# ---- memory and printing -----------------------------------------------------------------------------------------


def peak_of(name: str, task: str, batch_size: int) -> float:
    command = [sys.executable, __file__, "--batch", str(batch_size), "--peak", name, task]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def print_rows(rows: list[dict[str, str | float | None]]) -> None:
    titles = ["model", "parameters", "training/s", "x plain", "MiB", "inference/s", "x plain", "MiB"]
    formats = ["", ",d", ".1f", ".1f", ".0f", ".1f", ".1f", ".0f"]
    cells = [["-" if v is None else format(v, f) for v, f in zip(row.values(), formats, strict=True)] for row in rows]
    print_table(titles, cells)


if __name__ == "__main__":
    main()
