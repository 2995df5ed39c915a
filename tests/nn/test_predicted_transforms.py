"""Sequences of predicted transformations: order, milestones, stacks of networks, choices among them, refusals."""

import pytest
import torch

from unscene.errors import InputError
from unscene.nn.maps import bump
from unscene.nn.predicted_transforms import PredictedTransforms, flat_rows, joined, of_chosen
from unscene.nn.transforms import make_transforms

SIZES = {"channels": 3, "size": (6, 5), "out_size": (6, 5)}


def features(batch=2, size=7):
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(0))


def build(sequence="color_projective_tps", stack=(), milestones=(), **options):
    torch.manual_seed(0)
    return PredictedTransforms(sequence, 7, stack, milestones, **(SIZES | options))


def test_applies_what_has_parameters_from_left_to_right():
    module = build("position_color_identity", out_size=(9, 8))
    maps, parameters = torch.rand(2, 4, 5, 6, 5), {"color": 0.3 * torch.randn(2, 6), "position": torch.randn(2, 3)}
    position, color, _ = make_transforms("position_color_identity", **(SIZES | {"out_size": (9, 8)}))
    expected = color(position(maps, parameters["position"]), parameters["color"])
    assert torch.equal(module(maps, parameters), expected)
    swapped = build("color_position", out_size=(9, 8))(maps, parameters)
    assert swapped.shape == expected.shape and not torch.allclose(swapped, expected)
    assert torch.equal(build("color_identity")(maps, {}), maps)


def test_the_last_warp_places_what_comes_out():
    placement = torch.tensor([[1.5, 0.1, -0.3], [0.6, -0.4, 0.2]])
    maps = torch.rand(2, 4, 5, 6, 5)
    module = build("projective_tps_color")
    names = {"projective": 9, "tps": 32, "color": 6}
    parameters = {name: 0.1 * torch.randn(2, size) for name, size in names.items()}
    projective, tps, color = make_transforms("projective_tps_color", **SIZES)
    expected = color(tps(projective(maps, parameters["projective"]), parameters["tps"], placement), parameters["color"])
    assert torch.equal(module(maps, parameters, placement), expected)
    assert module.has_warp(parameters) and not module.has_warp({"color": parameters["color"]})
    (still,) = make_transforms("translation", **SIZES)
    alone = still(color(maps, parameters["color"]), torch.zeros(2, 2), placement)
    assert torch.equal(module(maps, {"color": parameters["color"]}, placement), alone)


def test_every_network_of_a_stack_predicts_for_itself():
    module = build(stack=(2, 3)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    predicted = module.predict(features().double(), 0)
    assert {name: tuple(values.shape) for name, values in predicted.items()} == {
        "color": (2, 2, 3, 6),
        "projective": (2, 2, 3, 9),
        "tps": (2, 2, 3, 32),
    }
    assert module.num_parameters == 47
    one = module.predictors["tps"]
    x = features().double()
    for i, (weight, bias) in enumerate(zip(one.weights, one.biases, strict=True)):
        x = (x.relu() if i else x) @ weight[1, 2] + bias[1, 2]
    torch.testing.assert_close(predicted["tps"][:, 1, 2], x)


def test_begins_as_the_identity():
    module, maps = build(stack=(3,)), torch.rand(2 * 3, 1, 5, 6, 5)
    moved = module(maps, flat_rows(module.predict(features(), 0), 2))
    torch.testing.assert_close(moved, maps)


@pytest.mark.parametrize(
    ("milestones", "active"),
    [
        ((), {0: ["color", "projective", "tps"]}),
        ((0, 4), {0: ["color", "projective"], 3: ["color", "projective"], 4: ["color", "projective", "tps"]}),
        ((2, 2), {1: ["color"], 2: ["color", "projective", "tps"]}),
    ],
)
def test_predicts_what_is_active(milestones, active):
    module = build(milestones=milestones)
    for step, names in active.items():
        assert list(module.predict(features(), step)) == names


def test_one_of_several_predictions_is_chosen_per_image_or_layer():
    values = {"color": torch.arange(2 * 3 * 4).view(2, 3, 4)}
    assert torch.equal(
        of_chosen(values, torch.tensor([2, 0]))["color"], torch.tensor([[8, 9, 10, 11], [12, 13, 14, 15]])
    )
    layers = {"tps": torch.rand(2, 2, 3, 5)}
    choice = torch.tensor([[0, 3], [1, 2]])  # 3 is the empty sprite
    chosen = of_chosen(layers, choice)["tps"]
    for b, layer, k in ((0, 0, 0), (0, 1, 2), (1, 0, 1), (1, 1, 2)):
        assert torch.equal(chosen[b, layer], layers["tps"][b, layer, k])


def test_joined_parameters_keep_their_places():
    color, tps = torch.rand(2, 3, 6), torch.rand(2, 3, 4)
    assert torch.equal(joined({"color": color, "tps": tps}, 12, color)[..., :10], torch.cat([color, tps], -1))
    assert joined({"color": color}, 12, color)[..., 6:].count_nonzero() == 0
    assert torch.equal(joined({}, 12, color), torch.zeros(2, 3, 12))


def test_bump_is_a_gaussian_about_the_middle():
    made = bump((4, 3), 2.0)
    for y in range(4):
        for x in range(3):
            expected = torch.tensor(-((y - 1.5) ** 2 + (x - 1) ** 2) / 8).exp()
            torch.testing.assert_close(made[y, x], expected)


@pytest.mark.parametrize(
    ("sequence", "milestones", "out_size", "message"),
    [
        (
            "color_tps",
            (1, 2),
            (6, 5),
            "2 milestones for the transformations 'color_tps'; give one for each but the first",
        ),
        ("color_projective_tps", (5, 3), (6, 5), r"milestones \[5, 3\] of 'color_projective_tps' must not fall"),
        ("color_position", (3,), (9, 8), r"milestones \[3\] of 'color_position' switch position on later, but only it"),
        ("color_swirl", (), (6, 5), 'transformation "swirl" of "color_swirl" is unknown'),
    ],
)
def test_bad_options_are_refused(sequence, milestones, out_size, message):
    with pytest.raises(InputError, match=message):
        build(sequence, milestones=milestones, out_size=out_size)


def test_position_may_wait_where_it_keeps_the_size():
    assert list(build("color_position", milestones=(3,)).predict(features(), 2)) == ["color"]
    assert list(build("color_position", milestones=(0,), out_size=(9, 8)).predict(features(), 0)) == [
        "color",
        "position",
    ]
