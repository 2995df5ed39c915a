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


def test_moving_puts_the_centre_there(model):
    scene = edits.move(model, scene_of(model), 2, (0.3, -0.4))
    expected = torch.tensor([0.3, -0.4], dtype=torch.float64)
    torch.testing.assert_close(centroid(mask_of(model, scene, 2)), expected, atol=5e-3, rtol=0)
    torch.testing.assert_close(edits.places(scene)[0][0, 1], expected)
    assert torch.equal(scene.layer["position"][:, [0, 2]], scene_of(model).layer["position"][:, [0, 2]])


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_scaling_keeps_the_centre(model, factor):
    before = edits.move(model, scene_of(model), 2, (0.2, -0.1))
    after = edits.scale(model, before, 2, factor)
    small, large = mask_of(model, before, 2), mask_of(model, after, 2)
    torch.testing.assert_close(centroid(large), centroid(small), atol=5e-3, rtol=0)
    assert large.sum() / small.sum() == pytest.approx(factor**2, rel=0.05)
    assert edits.places(after)[1][0, 1] == pytest.approx(factor * edits.places(before)[1][0, 1].item())


def test_nothing_grows_beyond_the_image(model):
    centres, half_sides = edits.places(edits.scale(model, scene_of(model), 1, 1e6))
    assert 0.99 < half_sides[0, 0] < 1
    torch.testing.assert_close(centres, edits.places(scene_of(model))[0])


def centre_pixel(model, scene, layer):
    """The colour in the middle of a layer."""
    x, y = edits.places(scene)[0][0, layer - 1].tolist()
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
    assert mask_of(model, elsewhere, 3).sum() > 0 and torch.equal(
        elsewhere.layer["position"][:, 0], twice.layer["position"][:, 0]
    )


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
            assert torch.equal(one, other)
    for i in range(2):
        alone = edit(model, one_of(scene, i), 1, *value)
        torch.testing.assert_close(picture(model, together)[i : i + 1], picture(model, alone))
    assert not torch.allclose(picture(model, together), picture(model, scene)) or edit in (
        edits.duplicate,
        edits.reorder,
    )


def one_of(scene, i):
    values = {field.name: getattr(scene, field.name) for field in fields(SpriteScene)}
    cut = {
        n: {k: t[i : i + 1] for k, t in v.items()} if isinstance(v, dict) else v[i : i + 1] for n, v in values.items()
    }
    return SpriteScene(**cut)


def test_what_is_parsed_can_be_edited():
    model = hand_made(num_layers=1, layer_transforms="color_position", empty_sprite=False)
    scene = model.parse(torch.rand(2, 3, 24, 32))
    assert torch.equal(edits.places(scene)[1], torch.full((2, 1), 0.5))  # untrained networks say zero
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


def test_models_without_position_or_colour(model):
    bare = replace(scene_of(model), layer={})
    for edit, value in ((edits.move, (0.0, 0.0)), (edits.scale, 2.0)):
        with pytest.raises(
            InputError, match="cannot be moved or scaled; train one whose layer_transforms have position"
        ):
            edit(model, bare, 1, value)
    with pytest.raises(InputError, match="cannot be recoloured; train one whose layer_transforms have color"):
        edits.recolour(model, bare, 1, (0.1, 0.2, 0.3))
