"""DTI-Clustering against the equations; hand-made clusters; its start, curriculum and counters; sizes; refusals."""

import pytest
import torch

import unscene
from plain_sprites import assert_same_gradients, clustering_loss, default_float64
from unscene import DTIClustering, InputError

TINY = {"image_size": (10, 8), "num_sprites": 3, "weight_sigma": 3.0}


def tiny(**options):
    torch.manual_seed(0)
    return DTIClustering(**(TINY | options))


def images(batch=4, channels=3, size=(10, 8), dtype=torch.float32):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1), dtype=dtype)


def weights(sigma):
    """exp(-r^2 / 2 sigma^2) of each pixel, r from the middle of the image of 10 x 8."""
    if sigma is None:
        return torch.ones(10, 8, dtype=torch.float64)
    rows = [[((y - 4.5) ** 2 + (x - 3.5) ** 2) / (2 * sigma**2) for x in range(8)] for y in range(10)]
    return torch.exp(-torch.tensor(rows, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "step", "active"),
    [
        ({"weight_sigma": None}, 0, ["color", "projective"]),
        ({"milestones": (0, 3)}, 2, ["color"]),
        ({"milestones": (0, 3)}, 3, ["color", "projective"]),
        ({"transforms": "color_tps", "image_channels": 1}, 0, ["color", "tps"]),
    ],
    ids=str,
)
def test_equals_the_equations_in_values_and_gradients(options, step, active):
    model = tiny(**options).double()
    image = images(8, channels=model.image_channels, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder"):
                parameter += 0.03 * torch.randn_like(parameter)
        model.sprites.copy_(image[:3] + 0.1 * torch.randn_like(image[:3]))
    fast = model.loss({"image": image}, step)
    sigma = options.get("weight_sigma", 3.0)
    with default_float64():
        plain, winner = clustering_loss(model, image, active, weights(sigma))
    tolerance = 1e-6 if sigma else 1e-12  # the weights are made in float32
    torch.testing.assert_close(fast.total, plain, rtol=tolerance, atol=0)
    assert model.usage.tolist() == [torch.bincount(winner, minlength=3).tolist()] and len(winner.unique()) > 1
    if sigma:
        model.weight.copy_(weights(sigma))
        fast = model.loss({"image": image}, step)
    assert_same_gradients(model, fast.total, plain)


def flat(*greys, channels=3):
    return torch.tensor(greys).view(-1, 1, 1, 1).expand(-1, channels, 10, 8)


def with_greys(*greys, **options):
    model = tiny(num_sprites=len(greys), **options).eval()
    with torch.no_grad():
        model.sprites.copy_(flat(*greys))
    return model


def test_images_belong_to_the_closest_prototype():
    model = with_greys(0.2, 0.5, 0.9, weight_sigma=None)
    image = flat(0.9, 0.2, 0.5, 0.4)
    assert model.cluster(image).tolist() == [2, 0, 1, 1]
    torch.testing.assert_close(model.reconstruction_error(image), torch.tensor([0, 0, 0, 0.01]))
    decomposition = model.decompose(image, num_slots=1)
    assert decomposition.sprite_ids.tolist() == [[2], [0], [1], [1]]
    assert decomposition.slots[:, 0].tolist() == [[0, 0, 1] + 15 * [0], [1] + 17 * [0]] + 2 * [[0, 1] + 16 * [0]]
    assert (decomposition.masks == 1).all() and torch.equal(decomposition.segmentation, torch.zeros(4, 10, 8).long())
    torch.testing.assert_close(decomposition.reconstruction, flat(0.9, 0.2, 0.5, 0.5))


def test_the_middle_of_an_image_weighs_most():
    image = flat(0.0, 0.0).clone()
    image[0, :, 3:7, 2:6], image[1, :, 0] = 1, 1
    assert with_greys(0.0, 1.0, weight_sigma=1.0).cluster(image).tolist() == [1, 0]
    assert with_greys(0.0, 1.0, weight_sigma=None).cluster(image).tolist() == [0, 0]


def test_prototypes_start_as_different_images():
    model = tiny()
    model.start_from(images(5), torch.Generator().manual_seed(3))
    chosen = (model.sprites[:, None] == images(5)).flatten(2).all(2)
    assert chosen.sum(1).tolist() == [1, 1, 1] and chosen.sum(0).max() == 1
    again = tiny()
    again.start_from(images(5), torch.Generator().manual_seed(3))
    assert torch.equal(model.sprites, again.sprites)


def test_training_counts_and_grows_older_but_evaluation_does_not():
    model, batch = tiny(milestones=(0, 2)), {"image": images()}
    for step in range(4):
        model.zero_grad()
        model.loss(batch, step).total.backward()
        assert model.steps == step + 1 and not model.frozen
        gradient = model.transforms.predictors["projective"].biases[2].grad
        assert (gradient is not None) == (step >= 2)
    assert model.usage.sum() == model.usage_images == 16
    state = {name: value.clone() for name, value in model.state_dict().items()}
    total = model.eval().loss(batch, 0).total
    torch.testing.assert_close(total, model.reconstruction_error(batch["image"]).mean())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for name, axis in model.prototype_axes().items():
        assert model.get_parameter(name).shape[axis] == 3


def test_any_mode_sees_the_same_and_keeps_the_mode():
    model = tiny()
    model.loss({"image": images()}, 0)
    masks, picture = model.decompose(images(1)).masks, model.decompose(images(1)).reconstruction
    assert model.training and masks.shape == (1, 1, 10, 8)
    assert torch.equal(picture, model.eval().decompose(images(1)).reconstruction)


def test_bfloat16_gives_finite_gradients():
    model = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        total = model.loss({"image": images()}, 0).total
    total.backward()
    assert total.isfinite() and all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_saved_model_sees_the_same(tmp_path):
    model = tiny()
    model.start_from(images(), None)
    model.loss({"image": images()}, 6)
    model.save_pretrained(tmp_path)
    loaded = unscene.load(tmp_path)
    assert loaded.steps == 7 and torch.equal(loaded.usage, model.usage)
    assert torch.equal(loaded.cluster(images()), model.cluster(images()))
    assert torch.equal(loaded.reconstruction_error(images()), model.reconstruction_error(images()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_sprites": 0}, "num_sprites is 0; it needs to be above 0"),
        ({"weight_sigma": 0.0}, "weight_sigma is 0.0; it needs to be above 0"),
        ({"image_size": (32,)}, r"image_size is \(32,\); give height and width"),
        ({"milestones": (1,)}, "1 milestones for the transformations 'identity_color_projective'"),
        ({"transforms": "color_swirl"}, 'transformation "swirl" of "color_swirl" is unknown'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        tiny(**options)


def test_bad_calls_are_refused():
    with pytest.raises(InputError, match="num_slots is 2; a model that clusters has 1 slot, the whole image"):
        tiny().decompose(images(), num_slots=2)
    with pytest.raises(InputError, match="3 prototypes cannot begin as 2 images; give StartFromData more images"):
        tiny().start_from(images(2), None)
    with pytest.raises(InputError, match=r"image is \(9, 8\) but this model was built for image_size=\(10, 8\)"):
        tiny().start_from(images(size=(9, 8)), None)
    with pytest.raises(InputError, match="image has 1 channels but the model was built for 3"):
        tiny().loss({"image": images(channels=1)}, 0)
