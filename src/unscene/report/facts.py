"""What the head of the page and its table of scores say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from unscene.errors import InputError
from unscene.report.run import Run

METRICS = {
    "fg_ari": "FG-ARI",
    "frame_fg_ari": "FG-ARI per frame",
    "frame_ari": "ARI per frame",
    "frame_fg_ari_legacy": "FG-ARI per frame, undefined = 1",
    "last_frame_fg_ari": "FG-ARI of the last frame",
    "undefined_frames": "Frames without foreground",
    "slot_stability": "Slot stability",
    "mota": "MOTA",
    "motp": "MOTP",
    "match": "Matches per object",
    "miss": "Misses per object",
    "id_switch": "Switches per object",
    "false_positive": "False positives per object",
    "mostly_detected": "Objects mostly detected",
    "mostly_tracked": "Objects mostly tracked",
    "ari": "ARI",
    "layer_fg_ari": "FG-ARI of layers, missed pixels by colour",
    "layer_ari": "ARI of layers",
    "miou": "mIoU",
    "miou_fg": "mIoU of objects",
    "covering": "Segmentation covering",
    "mse": "MSE",
    "mse_rgb": "MSE of colour vectors",
    "similarity": "Similarity of slots",
    "similarity_abs": "Similarity of slots, absolute",
    "dup_image": "Images with duplicates",
    "dup_fg_image": "Images with duplicates, background aside",
    "dup_latent": "Images with duplicates, by latents",
    "split_image": "Images with an object in two slots",
    "rmse": "RMSE (of colour vectors)",
    "query_miou": "mIoU of views not seen",
    "query_fg_ari": "FG-ARI of views not seen",
    "query_rmse": "RMSE of views not seen",
    "scene_miou": "mIoU of all views together",
    "scene_fg_ari": "FG-ARI of all views together",
    "kl": "KL (nats)",
    "loss": "Loss (nats)",
    "intra": "Loss within shares",
    "inter": "Loss outside of shares",
    "upper_bound_loss": "Upper-bound loss",
    "relational_loss": "Relational loss",
    "confidence": "Confidence",
    "gap": "Inference gap (nats)",
}
CLASS_METRICS = {
    "semantic_accuracy": "Pixels of the right class",
    "semantic_class_accuracy": "Pixels of the right class, mean over classes",
    "semantic_miou": "mIoU of classes",
    "clustering_accuracy": "Clustering accuracy",
    "clustering_nmi": "Clustering NMI",
    "cosegmentation_accuracy": "Cosegmentation accuracy",
}


def facts(config: Mapping[str, Any], evaluation: Mapping[str, Any], run: Run) -> dict[str, str]:
    """What was trained on what, when and how long, as far as the folder tells."""
    about, meta = config.get("about") or {}, evaluation.get("meta", {})
    data = config.get("data") or {}
    found = {
        "Method": about.get("method") or _class_name(config.get("model")) or meta.get("model"),
        "Data": about.get("dataset") or _class_name(data.get("train")) or meta.get("dataset"),
        "Paper": about.get("paper"),
        "Steps": _logged(run, "step", np.max),
        "Images per second": _logged(run, "images_per_second", np.median),
        "Batch size": data.get("batch_size"),
        "Seed": config.get("seed"),
        "Last weights": _date(run),
        "Evaluated on": meta.get("device"),
        "Slots": meta.get("num_slots"),
        "Iterations": meta.get("iterations"),
        "Versions": f"unscene {version('unscene')}, torch {version('torch')}",
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def scores(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table: name, mean, std, n measured here, and the published value where the recipe knows one."""
    published = (config.get("about") or {}).get("published") or {}
    measured, labels = evaluation["metrics"] | _class_scores(evaluation["meta"]), METRICS | CLASS_METRICS
    return [
        {"name": label, "published": published.get(name), **measured[name]}
        for name, label in labels.items()
        if name in measured
    ]


def _class_scores(meta: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of `unscene evaluate --classes`, counted over all images at once, so that nothing spreads."""
    return {
        f"{group}_{name}": {"mean": value, "std": None, "n": meta["n"]}
        for group in ("semantic", "clustering", "cosegmentation")
        for name, value in meta.get(group, {}).items()
    }


def _class_name(settings: Mapping[str, Any] | None) -> str | None:
    return settings["class_path"].rpartition(".")[2] if settings else None


def _logged(run: Run, column: str, summary: Callable[[np.ndarray], float]) -> str | None:
    """A number that sums up a column of metrics.csv, None if there is no such column."""
    try:
        values = run.metrics[column]
    except (InputError, KeyError):
        return None
    return f"{summary(values[np.isfinite(values)]):,.0f}"


def _date(run: Run) -> str | None:
    weights = run.path / "model" / "model.safetensors"
    return f"{datetime.fromtimestamp(weights.stat().st_mtime):%Y-%m-%d %H:%M}" if weights.is_file() else None
