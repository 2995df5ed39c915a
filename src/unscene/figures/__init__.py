"""Figures of scenes, decompositions and training runs. Functions return figures or arrays; never show, never save."""

from unscene.figures.colours import colour_labels, overlay, palette
from unscene.figures.curves import loss_curves
from unscene.figures.filmstrip import filmstrip, horizon_curves
from unscene.figures.panels import decomposition_panel, mask_logits_panel, refinement_panel
from unscene.figures.sheet import contact_sheet

__all__ = [
    "colour_labels",
    "contact_sheet",
    "decomposition_panel",
    "filmstrip",
    "horizon_curves",
    "loss_curves",
    "mask_logits_panel",
    "overlay",
    "palette",
    "refinement_panel",
]
