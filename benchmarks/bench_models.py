"""Speed, memory and size of all models of images on one workload, in one run, beside textbook versions.

    python benchmarks/bench_models.py [--models IODINE MONet ...] [--batch 8] [--rounds 3] [--json FILE]

Each model is that of its Multi-dSprites recipe, MulMON's that of CLE-MV, with K = 6, on images of 64 x 64 and in the
precision of the recipe. Training is loss, backward pass and Adam's step, as at the last step of the recipe; inference
is `decompose`. MulMON sees scenes of 2 views, which count as 2 images: it observes one and is asked for the other, so
that all its steps are the same work.

A textbook version (`plain_*.py`: float32, contiguous weights, slot by slot) runs in turn with each model from the same
weights, and the ratio is the median over the rounds. Its inference is its loss without a graph, of MulMON with both
views observed, which is as many decodes and refinements as `decompose` has. Both losses, computed with the same noise,
must agree within 2 %. Peak memory is that of a process of its own (CPU), or of the allocator (CUDA), on top of the
model.
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
from pathlib import Path

import torch
from torch import Tensor, nn

import unscene
from measuring import DEVICE, autocast, device_name, median_ratio, peak_mib, print_table, timed
from plain_efficient_morl import efficient_morl_loss
from plain_genesis import genesis_loss, genesis_v2_loss
from plain_iodine import PlainIODINE
from plain_monet import monet_loss
from plain_mulmon import draw_views, mulmon_loss
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


def measured(name: str, batch_size: int, rounds: int) -> dict[str, str | float]:
    model, batch = workload(name, batch_size)
    row = {"model": name, "parameters": sum(parameter.numel() for parameter in model.parameters())}
    check_same_loss(name, model, batch)
    sides = {"unscene": runs(name, model, batch), "plain": plain_runs(name, model, batch)}
    for task in TASKS:
        seconds = {side: [] for side in sides}
        for _ in range(rounds + 1):
            for side, tasks in sides.items():
                seconds[side].append(timed(tasks[task]))
        ours, plain = (values[1:] for values in seconds.values())  # the first round warms up
        row[f"{task}_images_per_s"] = batch_size / statistics.median(ours)
        row[f"{task}_times_plain"] = median_ratio(plain, ours)
        row[f"{task}_peak_mib"] = peak_of(name, task, batch_size)
    return row


def runs(name: str, model: SceneModel, batch: Scenes) -> dict[str, Callable[[], object]]:
    loss, precision = training_loss(name, model, batch), precision_of(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)

    def train() -> None:
        model.train()
        total = loss()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    def infer() -> None:
        model.eval()
        with precision():
            model.decompose_batch(batch)

    return {"training": train, "inference": infer}


def training_loss(name: str, model: SceneModel, batch: Scenes) -> Callable[[], Tensor]:
    """That of the recipe's last step."""
    last_step, precision = recipes.read(RECIPES[name])["trainer"]["max_steps"] - 1, precision_of(name)

    def loss() -> Tensor:
        with precision():
            return model.loss(batch, last_step).total

    return loss


def precision_of(name: str) -> Callable[[], AbstractContextManager]:
    return autocast if recipes.read(RECIPES[name])["trainer"].get("precision") == "bf16-mixed" else nullcontext


# ---- textbook versions -------------------------------------------------------------------------------------------


def plain_iodine(model: PlainIODINE, batch: Scenes) -> Tensor:
    return model.loss(batch["image"])


def plain_monet(model: nn.Module, batch: Scenes) -> Tensor:
    return monet_loss(model, batch["image"], model.encoder.convs[0].padding)


def plain_genesis(model: nn.Module, batch: Scenes) -> Tensor:
    noise = torch.randn(len(batch["image"]), model.num_slots, sum(model.sizes))
    return genesis_loss(model, batch["image"], noise)


def plain_genesis_v2(model: nn.Module, batch: Scenes) -> Tensor:
    image, latent_size = batch["image"], model.features.out_features // 2
    uniform = torch.rand(len(image), SIZE * SIZE)
    return genesis_v2_loss(model, image, uniform, torch.randn(len(image), model.num_slots, latent_size))


def plain_slot_attention(model: nn.Module, batch: Scenes) -> Tensor:
    strides = [conv.stride[0] for conv in model.decoder.convs]
    return slot_attention_loss(model, batch["image"], strides, model.num_slots, model.iterations)[0]


def plain_efficient_morl(model: nn.Module, batch: Scenes) -> Tensor:
    pads = [conv.padding[0] for conv in model.decoder.convs]
    return efficient_morl_loss(model, batch["image"], model.iterations, pads)[0]


def plain_mulmon(model: nn.Module, batch: Scenes) -> Tensor:
    return mulmon_loss(model, batch["image"], *draw_views(model, batch["viewpoint"]))


def plain_mulmon_inference(model: nn.Module, batch: Scenes) -> Tensor:
    viewpoint = batch["viewpoint"]
    observed = torch.arange(NUM_VIEWS).expand(len(viewpoint), -1)
    return mulmon_loss(model, batch["image"], viewpoint, observed, queried=observed[:, :0])


PLAIN = {
    "IODINE": plain_iodine,
    "MONet": plain_monet,
    "Genesis": plain_genesis,
    "GenesisV2": plain_genesis_v2,
    "SlotAttention": plain_slot_attention,
    "EfficientMORL": plain_efficient_morl,
    "MulMON": plain_mulmon,
}
PLAIN_INFERENCE = PLAIN | {"MulMON": plain_mulmon_inference}


def textbook(name: str, model: SceneModel) -> nn.Module:
    """A copy of the model's weights, as its textbook version wants them."""
    return PlainIODINE(model) if name == "IODINE" else copy.deepcopy(model).to(memory_format=torch.contiguous_format)


def plain_runs(name: str, model: SceneModel, batch: Scenes) -> dict[str, Callable[[], object]]:
    plain = textbook(name, model)
    optimizer = torch.optim.Adam(plain.parameters(), lr=RATE)

    def train() -> None:
        with torch.device(DEVICE):  # where the equations make their zeros and noise
            total = PLAIN[name](plain, batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    def infer() -> None:
        with torch.no_grad(), torch.device(DEVICE):
            PLAIN_INFERENCE[name](plain, batch)

    return {"training": train, "inference": infer}


def check_same_loss(name: str, model: SceneModel, batch: Scenes) -> None:
    model, plain = copy.deepcopy(model), textbook(name, model)  # a loss may change buffers
    torch.manual_seed(1)
    with torch.no_grad():
        fast = training_loss(name, model, batch)().item()
    torch.manual_seed(1)
    with torch.no_grad(), torch.device(DEVICE):
        slow = PLAIN[name](plain, batch).item()
    if not abs(fast - slow) <= 0.02 * abs(slow):  # nor if one is NaN
        sys.exit(f"{name}: the losses differ: {fast} (unscene) and {slow} (plain)")


# ---- memory and printing -----------------------------------------------------------------------------------------


def peak_of(name: str, task: str, batch_size: int) -> float:
    command = [sys.executable, __file__, "--batch", str(batch_size), "--peak", name, task]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def print_rows(rows: list[dict[str, str | float]]) -> None:
    titles = ["model", "parameters", "training/s", "x plain", "MiB", "inference/s", "x plain", "MiB"]
    formats = ["", ",d", ".1f", ".1f", ".0f", ".1f", ".1f", ".0f"]
    cells = [[format(v, f) for v, f in zip(row.values(), formats, strict=True)] for row in rows]
    print_table(titles, cells)


if __name__ == "__main__":
    main()
