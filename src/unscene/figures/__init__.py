"""Figures of scenes, decompositions and training runs. Functions return figures or arrays; never show, never save."""

from unscene.figures.colours import colour_labels, overlay, palette
from unscene.figures.comparison import comparison_panel
from unscene.figures.components import components_panel, decoder_masks_panel
from unscene.figures.curves import loss_curves
from unscene.figures.filmstrip import filmstrip, horizon_curves
from unscene.figures.panels import decomposition_panel, mask_logits_panel, refinement_panel
from unscene.figures.sheet import contact_sheet
from unscene.figures.sprites import (
    clusters_panel,
    layers_panel,
    manipulation_grid,
    sprite_gallery,
    sprite_sheet,
)
from unscene.figures.views import uncertainty_map, views_panel

__all__ = [
    "sprite_sheet",
    "sprite_gallery",
    "manipulation_grid",
    "layers_panel",
    "clusters_panel",
    "colour_labels",
    "comparison_panel",
    "components_panel",
    "contact_sheet",
    "decoder_masks_panel",
    "decomposition_panel",
    "filmstrip",
    "horizon_curves",
    "loss_curves",
    "mask_logits_panel",
    "overlay",
    "palette",
    "refinement_panel",
    "uncertainty_map",
    "views_panel",
]
