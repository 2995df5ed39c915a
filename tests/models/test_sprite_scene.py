"""Edits of scenes of sprites: what is drawn afterwards, and what they refuse."""

import copy
from dataclasses import fields, replace

import pytest
import torch

from toy_layers import COLOURS, hand_made, scene_of
from unscene.errors import InputError
from unscene.models import sprite_scene as edits
from unscene.models.sprite_scene import SpriteScene


@pytest.fixture(scope="module")
def model():
    return hand_made(image_size=(60, 80)).double()


def mask_of(model, scene, layer):
    """The layer's mask as if nothing hid it."""
    alone = torch.full_like(scene.sprite, model.num_sprites)
    alone[:, layer - 1] = scene.sprite[:, layer - 1]
    return model.render(replace(scene, sprite=alone)).masks[0, layer]


def centroid(mask):
    height, width = mask.shape
    x, y = ((2 * torch.arange(n, dtype=mask.dtype) + 1) / n - 1 for n in (width, height))
    return torch.stack([(mask * x).sum(), (mask * y[:, None]).sum()]) / mask.sum()


def picture(model, scene):
    return model.render(scene).reconstruction


# ---- place and size, for every kind of model --------------------------------------------------------------------

WHOLE = {"sprite_size": None, "layer_transforms": "identity", "empty_sprite": False}  # sprites as large as the image
KINDS = {
    "shared position": {"empty_sprite": False},
    "own position": {"sprite_transforms": "color_position", "layer_transforms": "identity", "empty_sprite": False},
    "both deform": {"sprite_transforms": "similarity", "empty_sprite": False},
    "projective": WHOLE | {"sprite_transforms": "color_projective"},  # as the recipe for one's own images
    "tps": WHOLE | {"sprite_transforms": "color_projective_tps"},
    "color behind": WHOLE | {"sprite_transforms": "affine_color"},
    "no warp": WHOLE | {"sprite_transforms": "identity"},
}
SIZE = (60, 80)


@pytest.fixture(scope="module", params=KINDS)
def parsed(request):
    """A model of some kind in float64, whose sprites are not in their middle, and a scene of two images."""
    model = hand_made(num_layers=2, image_size=SIZE, **KINDS[request.param]).double()
    height, width = model.sprite_size
    with torch.no_grad():
        model.sprite_masks.fill_(-0.3)
        model.sprite_masks[..., height // 4 : height * 5 // 8, width * 3 // 8 : width * 3 // 4] = 1.2
        for transforms in (model.own_transforms, model.layer_transforms):
            for name, predictor in transforms.predictors.items():
                scale = 0.5 if name == "position" else 0.03
                predictor.biases[2].add_(torch.randn_like(predictor.biases[2]), alpha=scale)
    image = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    return model, model.parse(image)


def test_moving_puts_the_centre_there(parsed):
    model, scene = parsed
    moved = edits.move(model, scene, 2, (0.3, -0.4))
    before, after = model.layer_masks(scene), model.layer_masks(moved)
    for mask, centre in zip(after[:, 1], edits.places(model, moved)[0][:, 1], strict=True):
        expected = torch.tensor([0.3, -0.4], dtype=torch.float64)
        torch.testing.assert_close(centroid(mask.clamp(0, 1)), expected, atol=5e-3, rtol=0)
        torch.testing.assert_close(centre, expected)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    torch.testing.assert_close(edits.places(model, moved)[0][:, 0], edits.places(model, scene)[0][:, 0])


@pytest.mark.parametrize("factor", [0.7, 1.5])
def test_scaling_keeps_the_centre(parsed, factor):
    model, scene = parsed
    before = edits.move(model, scene, 2, (0.2, -0.1))
    after = edits.scale(model, before, 2, factor)
    for small, large in zip(model.layer_masks(before)[:, 1], model.layer_masks(after)[:, 1], strict=True):
        small, large = small.clamp(0, 1), large.clamp(0, 1)
        torch.testing.assert_close(centroid(large), centroid(small), atol=5e-3, rtol=0)
        assert large.sum() / small.sum() == pytest.approx(factor**2, rel=0.05)
    torch.testing.assert_close(edits.places(model, after)[1][:, 1], factor**2 * edits.places(model, before)[1][:, 1])
    other_order = edits.move(model, edits.scale(model, scene, 2, factor), 2, (0.2, -0.1))
    torch.testing.assert_close(other_order.placement, after.placement)


def test_moving_by_whole_pixels_moves_the_pixels(parsed):
    """So nothing is sampled twice, which would blur it, and what an edit takes out of the image can come back."""
    model, scene = parsed
    x, y = edits.places(model, scene)[0][0, 0].tolist()
    one = one_of(scene, 0)
    away = edits.scale(model, edits.move(model, edits.scale(model, one, 1, 0.5), 1, (-1.0, 1.0)), 1, 2.0)
    there = (x + 6 / SIZE[1], y - 10 / SIZE[0])
    moved = edits.move(model, away, 1, there)
    before, after = model.layer_masks(one)[0, 0], model.layer_masks(moved)[0, 0]
    torch.testing.assert_close(after[:-5, 3:], before[5:, :-3], rtol=0, atol=1e-9)


def test_an_identity_changes_nothing(parsed):
    model, scene = parsed
    same = edits.move(
        model, edits.scale(model, scene, 1, 1.0), 1, edits.places(model, one_of(scene, 0))[0][0, 0].tolist()
    )
    torch.testing.assert_close(picture(model, same)[0], picture(model, scene)[0], rtol=0, atol=1e-9)
    assert torch.equal(edits.scale(model, same, 2, 1.0).placement, same.placement)


def test_what_the_border_cuts_off_is_there_when_moved_in(model):
    scene = scene_of(model)
    scene.layer["position"][0, 0] = torch.tensor([1.0, 0.9 * (1 + torch.e), 0.0])  # its middle at the left border
    centres, areas = edits.places(model, scene)
    assert centres[0, 0, 0] > -0.9 and areas[0, 0] < 0.8 * areas[0, 1]
    moved = edits.move(model, scene, 1, (0.0, 0.0))
    torch.testing.assert_close(mask_of(model, moved, 1).sum(), mask_of(model, scene, 2).sum(), rtol=0.02, atol=0)


def test_layers_can_be_larger_than_the_image(model):
    assert mask_of(model, edits.scale(model, scene_of(model), 1, 50.0), 1).min() > 0.999


def centre_pixel(model, scene, layer):
    """The colour in the middle of a layer."""
    x, y = edits.places(model, scene)[0][0, layer - 1].tolist()
    height, width = model.image_size
    return picture(model, scene)[0, :, round((y + 1) / 2 * height), round((x + 1) / 2 * width)]


def test_recolouring_gives_that_colour(model):
    target = torch.tensor([0.9, 0.1, 0.6], dtype=torch.float64)
    scene = edits.recolour(model, scene_of(model), 2, target.tolist())
    torch.testing.assert_close(centre_pixel(model, scene, 2), target)
    torch.testing.assert_close(centre_pixel(model, scene, 1), COLOURS[0].double())
    assert not scene.layer["color"][0, 1, 1::2].any()  # a gain alone


def test_the_mean_is_that_under_the_mask(model):
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.sprites[0, :, :2] = 7.0  # outside of the mask
        model.sprites[1, 0, :6] = 0.4
    expected = COLOURS.double()
    expected[1, 0] = (0.4 + 0.2) / 2
    torch.testing.assert_close(edits.mean_colours(model), expected, atol=1e-5, rtol=0)


def test_what_is_black_can_become_bright(model):
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.sprites[0] = 0.0
    scene = edits.recolour(model, scene_of(model), 1, (0.9, 0.5, 0.0))
    expected = torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(centre_pixel(model, scene, 1), expected)


def test_recolouring_knows_the_sprites_own_colours(model):
    own = torch.zeros(1, 3, 3, 6, dtype=torch.float64)
    own[0, 1, 1] = torch.tensor([0.5, 0.1, -0.5, 0.0, 0.2, 0.1])
    target = torch.tensor([0.3, 0.6, 0.8], dtype=torch.float64)
    both = hand_made(sprite_transforms="color", image_size=(60, 80)).double()
    scene = edits.recolour(both, replace(scene_of(both), own={"color": own}), 2, target.tolist())
    assert torch.equal(scene.own["color"], own)
    torch.testing.assert_close(centre_pixel(both, scene, 2), target)
    plain = hand_made(sprite_transforms="color", layer_transforms="position", image_size=(60, 80)).double()
    position = {"position": scene_of(plain).layer["position"]}
    scene = edits.recolour(plain, replace(scene_of(plain), own={"color": own}, layer=position), 2, target.tolist())
    torch.testing.assert_close(centre_pixel(plain, scene, 2), target)
    changed = (scene.own["color"] != own).any(3)
    assert changed[0].nonzero().tolist() == [[1, 1]]


def test_mere_gains_and_grey_images():
    model = hand_made(image_channels=1, layer_transforms="linearcolor_position").double()
    scene = scene_of(model)
    gains = {"linearcolor": torch.zeros(1, 3, 1, dtype=torch.float64), "position": scene.layer["position"]}
    scene = edits.recolour(model, replace(scene, layer=gains), 1, [0.3])
    torch.testing.assert_close(centre_pixel(model, scene, 1), torch.tensor([0.3], dtype=torch.float64))


def test_swapping_takes_what_was_foreseen_for_the_other_sprite(model):
    scene = edits.swap(model, scene_of(model), 1, 2)
    torch.testing.assert_close(centre_pixel(model, scene, 1), COLOURS[2].double())
    assert model.render(scene).sprite_ids.tolist() == [[-1, 2, 1, -1]]
    own = hand_made(sprite_transforms="color").double()
    values = torch.zeros(1, 3, 3, 6, dtype=torch.float64)
    values[0, 0, 2, 1] = 0.1
    scene = edits.swap(own, replace(scene_of(own), own={"color": values}), 1, 2)
    expected = COLOURS[2].double() + torch.tensor([0.1, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(centre_pixel(own, scene, 1), expected)


def test_deleting_shows_what_was_behind(model):
    scene = edits.delete(model, scene_of(model), 2)
    assert edits.empty_layers(model, scene) == [2, 3]
    expected = picture(model, scene_of(model, empty=(2, 3)))
    torch.testing.assert_close(picture(model, scene), expected)
    assert not torch.equal(expected, picture(model, scene_of(model)))


def test_a_copy_hides_the_original_and_is_like_it(model):
    scene = scene_of(model)
    twice = edits.duplicate(model, scene, 1)
    assert twice.sprite.tolist() == [[0, 1, 0]]
    assert twice.occlusion[0].tolist() == [[0, 0, 0], [1, 0, 1], [1, 0, 0]]  # 2 hides both, the copy the original
    torch.testing.assert_close(picture(model, edits.delete(model, twice, 1)), picture(model, scene))
    elsewhere = edits.move(model, twice, 3, (0.8, 0.8))
    torch.testing.assert_close(
        centroid(mask_of(model, elsewhere, 3)), torch.full((2,), 0.8).double(), atol=5e-3, rtol=0
    )
    torch.testing.assert_close(mask_of(model, elsewhere, 1), mask_of(model, scene, 1))
    again = edits.duplicate(model, edits.delete(model, elsewhere, 1), 3)
    torch.testing.assert_close(mask_of(model, again, 1), mask_of(model, elsewhere, 3))


def test_a_copy_has_the_originals_own_parameters():
    model = hand_made(sprite_transforms="color").double()
    own = torch.rand(1, 3, 3, 6, dtype=torch.float64)
    twice = edits.duplicate(model, replace(scene_of(model), own={"color": own}), 1, 3)
    assert torch.equal(twice.own["color"][:, 2], own[:, 0]) and torch.equal(twice.own["color"][:, :2], own[:, :2])


def test_order(model):
    scene = scene_of(model)
    for layer in (1, 2):
        scene = edits.move(model, scene, layer, (0.0, 0.0))
    torch.testing.assert_close(centre_pixel(model, scene, 1), COLOURS[1].double())
    front = edits.reorder(model, scene, 1, "front")
    torch.testing.assert_close(centre_pixel(model, front, 1), COLOURS[0].double())
    assert model.render(front).layer_order.tolist() == [[0, 3, 1, 2]]
    back = edits.reorder(model, front, 1, "back")
    torch.testing.assert_close(picture(model, back), picture(model, scene))


EDITS = [
    (edits.swap, 2),
    (edits.move, (0.5, 0.5)),
    (edits.scale, 0.7),
    (edits.recolour, (0.5, 0.1, 0.2)),
    (edits.delete,),
    (edits.duplicate, 3),
    (edits.reorder, "front"),
]


@pytest.mark.parametrize(("edit", "value"), [(e[0], e[1:]) for e in EDITS])
def test_edits_change_nothing_in_place_and_all_images_alike(model, edit, value):
    scene = scene_of(model, batch=2)
    scene.layer["color"][1] = 0.1
    before = copy.deepcopy(scene)
    together = edit(model, scene, 1, *value)
    for field in fields(SpriteScene):
        ours, theirs = getattr(scene, field.name), getattr(before, field.name)
        for one, other in zip(*(list(v.values()) if isinstance(v, dict) else [v] for v in (ours, theirs)), strict=True):
            assert one is other is None or torch.equal(one, other)
    for i in range(2):
        alone = edit(model, one_of(scene, i), 1, *value)
        torch.testing.assert_close(picture(model, together)[i : i + 1], picture(model, alone))
    assert not torch.allclose(picture(model, together), picture(model, scene)) or edit in (
        edits.duplicate,
        edits.reorder,
    )


def one_of(scene, i):
    def cut(value):
        if isinstance(value, dict):
            return {name: cut(own) for name, own in value.items()}
        return None if value is None else value[i : i + 1]

    return SpriteScene(**{field.name: cut(getattr(scene, field.name)) for field in fields(SpriteScene)})


def test_what_is_parsed_can_be_edited():
    model = hand_made(num_layers=1, layer_transforms="color_position", empty_sprite=False)
    scene = model.parse(torch.rand(2, 3, 24, 32))
    centres, areas = edits.places(model, scene)  # untrained networks say zero: half the image's side, 8 / 12 of it mask
    torch.testing.assert_close(centres, torch.zeros(2, 1, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(areas, torch.full((2, 1), (0.5 * 8 / 12) ** 2), rtol=0.02, atol=0)
    assert (edits.recolour(model, scene, 1, (0.1, 0.2, 0.3)).layer["color"] != 0).any()


@pytest.mark.parametrize(
    ("edit", "layer", "value", "message"),
    [
        (edits.swap, 3, (1,), "^layer 3 is empty, so there is nothing to edit; those that show something are 1, 2$"),
        (edits.swap, 4, (1,), "^there is no layer 4; this model has the layers 1 to 3$"),
        (edits.delete, 0, (), "there is no layer 0"),
        (edits.swap, 1, (3,), "^there is no sprite 3; this model has the sprites 0 to 2$"),
        (edits.swap, 1, (-1,), "there is no sprite -1"),
        (edits.move, 1, ((20.0, 30.0),), r"the centre \(20.0, 30.0\) is not in the image; give x and y from -1"),
        (edits.move, 1, ((0.1,),), r"the centre \(0.1,\) is not in the image"),
        (edits.scale, 1, (0.0,), "the factor of scale is 0.0; give one above 0"),
        (edits.scale, 1, (float("nan"),), "the factor of scale is nan"),
        (edits.recolour, 1, ((0.1, 0.2),), r"the colour \(0.1, 0.2\) does not fit; give 3 values from 0 to 1"),
        (edits.recolour, 1, ((200.0, 10.0, 0.0),), "does not fit; give 3 values"),
        (edits.duplicate, 1, (2,), "^layer 2 is not empty, so it cannot take a copy of layer 1; choose 3$"),
        (edits.reorder, 1, ("top",), "a layer cannot be brought to 'top'; give front or back"),
    ],
)
def test_refusals(model, edit, layer, value, message):
    with pytest.raises(InputError, match=message):
        edit(model, scene_of(model), layer, *value)


def test_refusals_that_depend_on_the_scene(model):
    with pytest.raises(InputError, match="there is no empty layer for a copy of layer 1; delete one first"):
        edits.duplicate(model, scene_of(model, empty=()), 1)
    with pytest.raises(InputError, match="layer 1 is empty, .*; no layer shows anything"):
        edits.delete(model, scene_of(model, empty=(1, 2, 3)), 1)
    some = scene_of(model, batch=2)
    some.sprite[1, 0] = 3
    with pytest.raises(InputError, match="layer 1 is empty in image 1 of the batch, .* are 2$"):
        edits.move(model, some, 1, (0.0, 0.0))


def test_what_has_no_mask_has_no_place(model):
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.sprite_masks[0] = -0.5
    centres, areas = edits.places(model, scene_of(model))
    assert not centres[0, 0].any() and areas[0, 0] == 0 < areas[0, 1]
    for edit, value in ((edits.move, (0.0, 0.0)), (edits.scale, 2.0)):
        with pytest.raises(
            InputError, match="^the mask of layer 1 is empty, so the layer has no centre and cannot be m"
        ):
            edit(model, scene_of(model), 1, value)
    with pytest.raises(InputError, match="the mask of layer 1 is empty in image 0 of the batch, so"):
        edits.move(model, scene_of(model, batch=2), 1, (0.0, 0.0))


def test_models_without_colour(model):
    bare = replace(scene_of(model), layer={})
    with pytest.raises(InputError, match="cannot be recoloured; train one whose layer_transforms have color"):
        edits.recolour(model, bare, 1, (0.1, 0.2, 0.3))
