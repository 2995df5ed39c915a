"""A sprite model painted by hand, scenes of it, and images that show its sprites; importable from all tests."""

import torch

from unscene.data.dataset import SceneDataset
from unscene.models.dti_sprites import DTISprites
from unscene.models.sprite_scene import SpriteScene

COLOURS = torch.tensor([[0.8, 0.2, 0.2], [0.2, 0.8, 0.4], [0.4, 0.2, 0.8]])


def hand_made(num_layers=3, image_channels=3, image_size=(24, 32), **options):
    """Three flat sprites, red, green and blue squares with an empty border, before a grey background."""
    torch.manual_seed(0)
    options = {"encoder": "resnet20", "background": True, "empty_sprite": True, "predict_occlusion": True} | options
    sizes = {"image_size": image_size, "sprite_size": (12, 12)}
    model = DTISprites(image_channels, num_sprites=3, num_layers=num_layers, **sizes | options).eval()
    with torch.no_grad():
        model.sprites.copy_(COLOURS[:, :image_channels, None, None].expand_as(model.sprites))
        model.sprite_masks.zero_()
        model.sprite_masks[..., 2:-2, 2:-2] = 1
    return model


def scene_of(model, batch=1, empty=(3,)):
    """Layer l shows sprite l - 1, from left to right, later ones in front; layers ``empty`` show nothing."""
    num_layers, channels = model.num_layers, model.image_channels
    sprite = torch.arange(num_layers).expand(batch, -1).clone() % 3
    for layer in empty:
        sprite[:, layer - 1] = model.num_sprites
    dtype = model.sprites.dtype
    s = torch.full((batch, num_layers), 1.0, dtype=dtype)
    x = torch.linspace(-0.5, 0.5, num_layers, dtype=dtype).expand(batch, -1)
    position = torch.stack([s, -x * (s.exp() + 1), torch.zeros_like(s)], 2)
    layer = {"color": torch.zeros(batch, num_layers, 2 * channels, dtype=dtype), "position": position}
    background = {"color": torch.zeros(batch, 2 * channels, dtype=dtype)}
    occlusion = torch.ones(num_layers, num_layers, dtype=dtype).tril(-1).expand(batch, -1, -1)
    return SpriteScene(sprite, layer, {}, background, occlusion)


class Painted(SceneDataset):
    """Images of the hand-made model: scene i has its sprite i % 3 alone, i pixels below the top.

    Args:
        num_scenes: number of scenes.
    """

    def __init__(self, num_scenes: int = 8):
        self.num_scenes = num_scenes

    def __len__(self):
        return self.num_scenes

    def batch(self, indices):
        image = torch.full((len(indices), 3, 24, 32), 0.5)
        for picture, i in zip(image, indices, strict=True):
            picture[:, i % 16 : i % 16 + 8, 10:18] = COLOURS[i % 3, :, None, None]
        return {"image": image}
