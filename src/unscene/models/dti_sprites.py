"""DTI-Sprites: Unsupervised Layered Image Decomposition into Object Prototypes (Monnier et al., ICCV 2021).

An image is explained by L layers over a background. Each layer shows one of K sprites, learned pictures with a mask,
which networks move, deform and recolour to fit the image, or nothing. Which sprites fit best is found by search;
gradients then need the chosen ones alone, so a step draws all candidates without a graph and then those again with one.

Not as in the authors' code: the encoder takes one optimiser step per step, not up to eight; thin-plate splines are
sampled so that they begin as the identity; the penalty on sprites also counts in the exhaustive search; milestones are
optimisation steps, not epochs. As there: one background or none, and noise that all images and layers of a step share.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unscene import metrics
from unscene.errors import InputError
from unscene.models.base import Losses, check_image_size, check_positive
from unscene.models.prototypes import PrototypeModel
from unscene.models.sprite_scene import SpriteDecomposition, SpriteScene
from unscene.nn.compositing import binary_occlusion, composite, occlusion_matrix, visibility, visible_layers
from unscene.nn.gated import running_statistics
from unscene.nn.maps import bump
from unscene.nn.predicted_transforms import Parameters, PredictedTransforms, flat_rows, joined, of_chosen
from unscene.nn.predictors import Predictors
from unscene.nn.resnet import ResNet
from unscene.nn.selection import exhaustive, greedy
from unscene.nn.transforms import soft_clamp
from unscene.nn.warps import Placement
from unscene.scenes import Decomposition, Scenes

START_COLOUR = 0.9  # of sprites


class Prediction(NamedTuple):
    """What the networks say about images, before sprites are chosen. See SpriteScene."""

    layer: dict[str, Float[Tensor, "B L _"]]
    own: dict[str, Float[Tensor, "B L K _"]]
    background: dict[str, Float[Tensor, "B _"]]
    occlusion: Float[Tensor, "B L L"]


class Layers(NamedTuple):
    """Drawn sprites, K of them in each layer or the chosen one."""

    masks: Float[Tensor, "B L *K H W"]
    colours: Float[Tensor, "B L *K C H W"]


class DTISprites(PrototypeModel):
    """DTI-Sprites; the defaults are the paper's for Tetrominoes, recipes hold those of the other datasets.

    Args:
        image_channels: C of the images.
        image_size: (H, W), fixed.
        num_sprites: K, without the empty one.
        num_layers: L, without the background.
        sprite_size: (h, w); by default that of the images.
        mask_sigma: width of the bump that all masks begin as, in pixels of a sprite.
        background: learn one; else it is black.
        background_start: its value at the start; the callback StartFromData puts the mean of images there.
        encoder: the ResNet that all predictions share.
        encoder_pool: its features are averaged to so many places a side.
        sprite_transforms: of each sprite in each layer, see `unscene.nn.transforms`; applied left to right.
        layer_transforms: shared by the sprites of a layer, applied next.
        background_transforms: of the background.
        sprite_milestones: optimisation steps after which the second, third, ... of ``sprite_transforms`` is active.
        background_milestones: likewise.
        freeze_steps: the sprites do not change for so many optimisation steps, and every layer shows one.
        empty_sprite: a layer may show nothing.
        penalty: lambda, added to the mean squared error for each layer that does show something.
        predict_occlusion: a network says which layers hide which; else later ones hide earlier ones.
        selection: layer by layer, or all combinations at once.
        sweeps: T, how often the greedy selection visits the layers.
        mask_noise: nu, amplitude of the noise on masks in training, which makes them binary.
        hard_selection: select with binary occlusion outside training.
        resolve_cycles: label pixels where layers hide one another in a circle, see `visible_layers`.
        tps_reference_sampling: sample thin-plate splines as the authors' code.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        image_channels: int = 3,
        image_size: Sequence[int] = (35, 35),
        num_sprites: int = 19,
        num_layers: int = 3,
        sprite_size: Sequence[int] | None = (24, 24),
        mask_sigma: float = 5.0,
        background: bool = False,
        background_start: float = 0.5,
        encoder: Literal["resnet18", "resnet20", "resnet32"] = "resnet32",
        encoder_pool: int = 1,
        sprite_transforms: str = "identity",
        layer_transforms: str = "color_position",
        background_transforms: str = "color",
        sprite_milestones: Sequence[int] = (),
        background_milestones: Sequence[int] = (),
        freeze_steps: int = 1875,
        empty_sprite: bool = False,
        penalty: float = 1e-4,
        predict_occlusion: bool = False,
        selection: Literal["greedy", "exhaustive"] = "greedy",
        sweeps: int = 1,
        mask_noise: float = 0.4,
        hard_selection: bool = False,
        resolve_cycles: bool = False,
        tps_reference_sampling: bool = False,
    ) -> None:
        super().__init__()
        sprite_size = tuple(image_size if sprite_size is None else sprite_size)
        check_positive(image_channels=image_channels, image_size=image_size, sprite_size=sprite_size)
        check_positive(num_sprites=num_sprites, num_layers=num_layers, mask_sigma=mask_sigma, sweeps=sweeps)
        check_positive(encoder_pool=encoder_pool)
        check_image_size(image_size)
        _check(sprite_size, tuple(image_size), penalty, mask_noise)
        self.image_channels, self.image_size, self.sprite_size = image_channels, tuple(image_size), sprite_size
        self.num_sprites, self.num_layers, self.has_empty = num_sprites, num_layers, empty_sprite
        self.freeze_steps, self.penalty, self.selection, self.sweeps = freeze_steps, penalty, selection, sweeps
        self.mask_noise, self.hard_selection, self.resolve_cycles = mask_noise, hard_selection, resolve_cycles

        self.sprites = nn.Parameter(torch.full((num_sprites, image_channels, *sprite_size), START_COLOUR))
        self.sprite_masks = nn.Parameter(bump(sprite_size, mask_sigma).repeat(num_sprites, 1, 1, 1))
        start = torch.full((image_channels, *self.image_size), background_start)
        self.background = nn.Parameter(start) if background else None

        self.encoder = ResNet(encoder, image_channels, encoder_pool)
        features = self.encoder.size
        drawn = sprite_size if "position" in layer_transforms.split("_") else self.image_size  # by the sprites' own
        make = partial(
            PredictedTransforms,
            features=features,
            channels=image_channels,
            out_size=self.image_size,
            tps_reference_sampling=tps_reference_sampling,
        )
        each = (num_layers, num_sprites)
        self.own_transforms = make(
            sprite_transforms, stack=each, milestones=sprite_milestones, size=sprite_size, out_size=drawn
        )
        self.layer_transforms = make(layer_transforms, stack=(num_layers,), size=drawn)
        sequence = background_transforms if background else "identity"
        self.background_transforms = make(
            sequence, milestones=background_milestones, size=self.image_size, padding="border"
        )
        pairs = num_layers * (num_layers - 1) // 2
        self.occlusion = Predictors(features, pairs) if predict_occlusion and pairs else None

        self._count_from_zero(num_layers, num_sprites + empty_sprite)

    # ---- the two verbs -----------------------------------------------------------------------------------------

    def loss(self, batch: Scenes, step: int = 0) -> Losses:
        """Mean squared error of the best composition; the choice of sprites has no gradient.

        In training mode masks are noisy, the model is then ``step`` + 1 steps old, and the chosen sprites are counted;
        in evaluation mode it is the mean of `reconstruction_error`, and nothing changes.
        """
        image = self._checked(batch["image"])
        if self.training:
            self.steps.fill_(step)
        prediction, sprites, noise = self._predict(image), self._sprites(noisy=self.training), self._noise()
        background = self._draw_background(prediction.background, len(image))
        choice = self._select(image, prediction, self._draw_all(prediction, sprites, noise), background)
        masks, colours = self._draw_chosen(SpriteScene(choice, *prediction), sprites, noise)
        error = (image - composite(masks, colours, prediction.occlusion, background)).square().mean()
        if self.training:
            self._count(choice)
            self.steps.fill_(step + 1)
        shown = (choice < self.num_sprites).sum(1, dtype=error.dtype).mean()
        return Losses(error, {"mse": error.detach(), "layers_shown": shown})

    @torch.no_grad()
    def decompose(self, image: Float[Tensor, "B C H W"], *, num_slots: int | None = None) -> SpriteDecomposition:
        """Decompose images into the background, slot 0, and L layers; ``num_slots`` can only be their number.

        Raises:
            InputError: the images do not fit, or another number of slots is asked for.
        """
        if num_slots not in (None, self.num_layers + 1):
            raise InputError(
                f"num_slots is {num_slots}; this model has {self.num_layers} layers and a background, "
                f"so {self.num_layers + 1} slots; every layer has networks of its own, so train one with more layers"
            )
        return self.render(self.parse(image))

    # ---- scenes of sprites ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def parse(self, image: Float[Tensor, "B C H W"]) -> SpriteScene:
        """The sprites of images and how they are transformed, in evaluation mode whatever the mode is."""
        image = self._checked(image)
        with running_statistics(self):
            prediction = self._predict(image)
            background = self._draw_background(prediction.background, len(image))
            choice = self._select(image, prediction, self._draw_all(prediction, self._sprites()), background)
        return SpriteScene(choice, *prediction)

    @torch.no_grad()
    def render(self, scene: SpriteScene, hard: bool = True) -> SpriteDecomposition:
        """The layers of a scene (B, L + 1, ...), the background first.

        ``hard``: values are clamped and occlusion is binary, as in the paper's figures; else all is as in training, and
        masks need not sum to 1. ``sprite_ids`` are -1 for the background and for layers that show nothing.
        ``layer_order`` numbers the layers from the back. ``slots`` hold the sprite's number, one-hot, and the
        parameters of its transformations, not the placement that edits give.
        """
        masks, colours = self._draw_chosen(scene, self._sprites())
        behind = self._draw_background(scene.background, len(masks))
        behind = torch.zeros_like(colours[:, 0]) if behind is None else behind
        components, occlusion = torch.cat([behind.unsqueeze(1), colours], 1), scene.occlusion
        if hard:
            masks, components, occlusion = masks.clamp(0, 1), components.clamp(0, 1), binary_occlusion(occlusion)
        weights = visibility(masks, occlusion)
        if hard:  # where layers hide one another in a circle the background is left
            layers = weights[:, 1:]
            weights = torch.cat([(1 - layers.sum(1, keepdim=True)).clamp(min=0), layers], 1)
        shown = torch.where(scene.sprite < self.num_sprites, scene.sprite, -1)
        nothing = shown.new_full((len(shown), 1), -1)
        order = torch.cat([nothing, binary_occlusion(scene.occlusion).sum(2).long()], 1) + 1
        ids = torch.cat([nothing, shown], 1)
        slots = self._slots(scene, ids)
        return SpriteDecomposition(weights, components, slots, layer_order=order, sprite_ids=ids, scene=scene)

    @torch.no_grad()
    def layer_masks(self, scene: SpriteScene) -> Float[Tensor, "B L H W"]:
        """The masks of the layers, each as if nothing hid it; outside [0, 1] by a little."""
        return self._draw_chosen(scene, self._sprites()).masks

    @torch.no_grad()
    def instances(self, image: Float[Tensor, "B C H W"]) -> Int[Tensor, "B H W"]:
        """Label maps: 0 the background, l the l-th layer, from masks above 0.5 and binary occlusion."""
        return self._instances(self.parse(image))

    @torch.no_grad()
    def semantic(self, image: Float[Tensor, "B C H W"]) -> Int[Tensor, "B H W"]:
        """Label maps: 0 the background, k + 1 the k-th sprite."""
        scene = self.parse(image)
        ids = torch.nn.functional.pad(scene.sprite + 1, (1, 0))
        return ids.gather(1, self._instances(scene).flatten(1)).view(-1, *self.image_size)

    def cluster(self, image: Float[Tensor, "B C H W"]) -> Int[Tensor, " B"]:
        """The sprite of each image, for models of one layer; K is the empty one."""
        if self.num_layers > 1:
            raise InputError(f"images cluster by their only sprite, but this model has {self.num_layers} layers")
        return self.parse(image).sprite.squeeze(1)

    def reconstruction_error(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        """Mean squared error per image, without noise and with the occlusion as predicted."""
        decomposition = self.render(self.parse(image), hard=False)
        return (image - decomposition.reconstruction).square().mean((1, 2, 3))

    def own_scores(
        self, scenes: Scenes, decomposition: Decomposition, before: Scenes | None = None
    ) -> dict[str, Tensor]:
        """ARI and FG-ARI as the paper has them, ``layer_ari`` and ``layer_fg_ari``.

        Label maps are those of `instances`. For FG-ARI, objects' pixels that fell to the background go to the layer
        of the closest colour there. Images are parsed again unless ``decomposition`` knows their scene.
        """
        if "mask" not in scenes:
            return {}
        image, true = scenes["image"], scenes["mask"]
        labels = self._instances(getattr(decomposition, "scene", None) or self.parse(image))
        filled = metrics.fill_background(labels, decomposition.components[:, 1:], image)
        return {"layer_ari": metrics.ari(true, labels), "layer_fg_ari": metrics.fg_ari(true, filled)}

    # ---- for training -------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> bool:
        """Are the sprites kept as they are at the present step?"""
        return bool(self.steps < self.freeze_steps)

    def prototype_axes(self) -> dict[str, int]:
        """Parameters that belong to sprites: the axis along which these lie."""
        own = {f"own_transforms.{name}": 1 for name, _ in self.own_transforms.named_parameters()}
        return {"sprites": 0, "sprite_masks": 0, **own}

    @torch.no_grad()
    def start_from(self, images: Float[Tensor, "N C H W"], generator: torch.Generator | None = None) -> None:
        """Let the background begin as the mean of images."""
        if self.background is None:
            raise InputError("this model has no background that could begin as the mean of images; leave that out")
        self.background.copy_(self._checked(images).mean(0))

    # ---- prediction, drawing, selection -----------------------------------------------------------------------------

    def _predict(self, image: Tensor) -> Prediction:
        step = int(self.steps)
        features = self.encoder(image).to(image.dtype)
        with torch.autocast(image.device.type, enabled=False):
            logits = None if self.occlusion is None else self.occlusion(features)
            return Prediction(
                self.layer_transforms.predict(features, step),
                self.own_transforms.predict(features, step),
                self.background_transforms.predict(features, step),
                occlusion_matrix(logits, len(image), self.num_layers, device=image.device).to(image.dtype),
            )

    def _sprites(self, noisy: bool = False) -> Float[Tensor, "K E h w"]:
        """Colours, mask and footprint (1 all over the canvas) of all sprites.

        Masks are clamped before they are warped, but ``noisy`` ones later, after the noise.
        """
        colours, masks = self.sprites, self.sprite_masks
        if self.training and self.frozen:
            colours, masks = colours.detach(), masks.detach()
        return torch.cat([soft_clamp(colours), masks if noisy else soft_clamp(masks), torch.ones_like(masks)], 1)

    def _noise(self) -> Float[Tensor, "K H W"] | None:
        """The noise on masks, which all images and layers of a training step share."""
        if not self.training:
            return None
        like = self.sprite_masks
        uniform = torch.rand(self.num_sprites, *self.image_size, dtype=like.dtype, device=like.device)
        return self.mask_noise * (2 * uniform - 1)

    @torch.no_grad()
    def _draw_all(self, prediction: Prediction, sprites: Tensor, noise: Tensor | None = None) -> Layers:
        """All K sprites in each layer, (B, L, K, ...)."""
        batch, num_layers = prediction.occlusion.shape[:2]
        maps = sprites.expand(batch * num_layers, *sprites.shape)
        own, layer = flat_rows(prediction.own, 3), flat_rows(prediction.layer, 2)
        return self._draw(maps, own, layer, noise, (batch, num_layers, self.num_sprites))

    def _draw_chosen(self, scene: SpriteScene, sprites: Tensor, noise: Tensor | None = None) -> Layers:
        """The chosen sprite of each layer, (B, L, ...); the empty one has neither colour nor mask nor footprint."""
        there, index = scene.sprite < self.num_sprites, scene.sprite.clamp(max=self.num_sprites - 1)
        maps = (sprites[index] * there[..., None, None, None]).flatten(0, 1).unsqueeze(1)
        noise = None if noise is None else noise[index].flatten(0, 1).unsqueeze(1)
        own, layer = flat_rows(of_chosen(scene.own, scene.sprite), 2), flat_rows(scene.layer, 2)
        placement = None if scene.placement is None else scene.placement.flatten(0, 1)
        return self._draw(maps, own, layer, noise, scene.sprite.shape, placement)

    def _draw(
        self,
        maps: Float[Tensor, "N S E h w"],
        own: Parameters,
        layer: Parameters,
        noise: Float[Tensor, "*N S H W"] | None,
        shape: Sequence[int],
        placement: Placement | None = None,
    ) -> Layers:
        """Transform each map by itself, then the S ones of a layer together; ``shape`` is that of N and S then.

        ``placement``, for S = 1, is done by the last warp there is.
        """
        last = self.own_transforms.has_warp(own) and not self.layer_transforms.has_warp(layer)
        if own:
            moved = self.own_transforms(maps.reshape(-1, 1, *maps.shape[2:]), own, placement if last else None)
            maps = moved.flatten(0, 1).unflatten(0, maps.shape[:2])
        drawn = self.layer_transforms(maps, layer, None if last else placement)
        colours, mask, footprint = drawn.split([self.image_channels, 1, 1], 2)
        if noise is not None:
            mask = soft_clamp(mask + footprint * noise.unsqueeze(-3))
        return Layers(mask.reshape(*shape, *mask.shape[3:]), colours.reshape(*shape, *colours.shape[2:]))

    def _draw_background(self, parameters: Parameters, batch: int) -> Float[Tensor, "B C H W"] | None:
        if self.background is None:
            return None
        return self.background_transforms(soft_clamp(self.background).expand(batch, -1, -1, -1), parameters)

    def _select(
        self, image: Tensor, prediction: Prediction, layers: Layers, background: Tensor | None
    ) -> Int[Tensor, "B L"]:
        binary = self.hard_selection and not self.training
        occlusion = binary_occlusion(prediction.occlusion) if binary else prediction.occlusion
        scene = (image, *layers, occlusion, background)
        options = {"empty": self.has_empty and not (self.training and self.frozen), "penalty": self.penalty}
        if self.selection == "exhaustive":
            return exhaustive(*scene, **options)[0]
        return greedy(*scene, **options, sweeps=self.sweeps)[0]

    # ---- small things ------------------------------------------------------------------------------------------

    def _instances(self, scene: SpriteScene) -> Int[Tensor, "B H W"]:
        return visible_layers(self.layer_masks(scene), scene.occlusion, resolve_cycles=self.resolve_cycles)

    def _slots(self, scene: SpriteScene, ids: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """The one-hot sprite, and the parameters of the layer, of the chosen sprite and of the background."""
        like = scene.occlusion.new_zeros(*scene.sprite.shape, 1)
        layer = joined(scene.layer, self.layer_transforms.num_parameters, like)
        sprites = joined(of_chosen(scene.own, scene.sprite), self.own_transforms.num_parameters, like)
        behind = joined(scene.background, self.background_transforms.num_parameters, like[:, 0])
        one_hot = torch.nn.functional.one_hot(ids + 1, self.num_sprites + 1)[..., 1:].to(like.dtype)
        rows = torch.nn.functional.pad(torch.cat([layer, sprites], -1), (0, 0, 1, 0))
        return torch.cat([one_hot, rows, torch.nn.functional.pad(behind.unsqueeze(1), (0, 0, 0, self.num_layers))], -1)


def _check(sprite_size: tuple[int, ...], image_size: tuple[int, ...], penalty: float, mask_noise: float) -> None:
    if len(sprite_size) != 2 or any(own > whole for own, whole in zip(sprite_size, image_size, strict=False)):
        raise InputError(f"sprite_size is {sprite_size}; give a height and a width of at most the image's {image_size}")
    if min(penalty, mask_noise) < 0:
        raise InputError(f"penalty is {penalty} and mask_noise {mask_noise}; neither can be negative")
