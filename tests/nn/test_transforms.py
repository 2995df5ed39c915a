"""Transformations against per-pixel loops in float64, at the identity, shared by several maps, and refused."""

import math

import pytest
import torch

from unscene.errors import InputError
from unscene.nn.transforms import make_transforms, soft_clamp
from unscene.nn.warps import _axes, _spline

WARPS = ["affine", "position", "similarity", "projective", "tps", "translation", "rotation"]
POINTS = ["projective", "tps"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make(name, channels=3, size=(5, 4), out_size=None, **options):
    return make_transforms(name, channels, size, out_size or size, **options)[-1]


def pixel_place(i, n, points):
    return (-1 + 2 * i / (n - 1)) if points else ((2 * i + 1) / n - 1)


def place(name, beta, x, y):
    """Where the input is seen at (x, y), from the table of the transformations."""
    if name == "affine":
        return (1 + beta[0]) * x + beta[1] * y + beta[2], beta[3] * x + (1 + beta[4]) * y + beta[5]
    if name == "position":
        return (beta[0].exp() + 1) * x + beta[1], (beta[0].exp() + 1) * y + beta[2]
    if name == "similarity":
        return (1 + beta[0]) * x - beta[1] * y + beta[2], beta[1] * x + (1 + beta[0]) * y + beta[3]
    if name == "translation":
        return x + beta[0], y + beta[1]
    if name == "rotation":
        return beta[0].cos() * x - beta[0].sin() * y, beta[0].sin() * x + beta[0].cos() * y
    if name == "projective":
        numbers = [beta[i] * 1 + (i % 4 == 0) for i in range(9)]
        px, py, z = (a * x + b * y + c for a, b, c in (numbers[:3], numbers[3:6], numbers[6:]))
        return px / z, py / z
    return thin_plate(beta, x, y)


def place_beyond(name, beta, x, y):
    """`place`, but what may fold back goes on as a shift outside the frame."""
    inside = [max(-1, min(1, u)) for u in (x, y)] if name in POINTS else (x, y)
    return [found + u - v for found, u, v in zip(place(name, beta, *inside), (x, y), inside, strict=True)]


def phi(r):
    return 0.5 * r**2 * math.log(r**2) if r > 0 else 0.0


def thin_plate(beta, x, y):
    """The spline through the displaced control points, its coefficients solved for these displacements."""
    side = [-1, -1 / 3, 1 / 3, 1]
    controls = [(cx, cy) for cy in side for cx in side]
    rows = [[phi(math.dist(p, q)) for q in controls] + [1, *p] for p in controls]
    rows += [[p[i - 1] if i else 1 for p in controls] + [0, 0, 0] for i in range(3)]
    targets = torch.cat([torch.tensor(controls, dtype=beta.dtype) + beta.view(16, 2), beta.new_zeros(3, 2)])
    coefficients = torch.linalg.solve(torch.tensor(rows, dtype=beta.dtype), targets)
    terms = [phi(math.dist((x, y), p)) for p in controls] + [1, x, y]
    return torch.tensor(terms, dtype=beta.dtype) @ coefficients


def sample(image, x, y, points, padding):
    """Bilinear in the four neighbours of a place."""
    h, w = image.shape[1:]
    column, row = (((u + 1) / 2 * (n - 1)) if points else ((u + 1) * n - 1) / 2 for u, n in ((x, w), (y, h)))
    if padding == "border":
        column, row = column.clamp(0, w - 1), row.clamp(0, h - 1)
    out = 0
    for i in (int(row.floor()), int(row.floor()) + 1):
        for j in (int(column.floor()), int(column.floor()) + 1):
            if 0 <= i < h and 0 <= j < w:
                out = out + (1 - (row - i).abs()) * (1 - (column - j).abs()) * image[:, i, j]
    return out + image[:, 0, 0] * 0


def plain_warp(name, maps, beta, size, padding, sampled_as_points, placement=((1, 0, 0), (1, 0, 0))):
    def before(i, n, factor, offset):
        """The place that is put to pixel i: it may lie between pixels."""
        there = ((2 * i + 1) / n - 1 - offset) / factor
        return pixel_place(((there + 1) * n - 1) / 2, n, name in POINTS)

    return torch.stack([
        torch.stack([
            sample(image, *place_beyond(name, b, before(j, size[1], r, x), before(i, size[0], r, y)),
                   sampled_as_points, padding)
            for i in range(size[0]) for j in range(size[1])
        ], 1).unflatten(1, size)
        for image, b, (r, x, y) in zip(maps, beta, placement, strict=True)
    ])  # fmt: skip


def assert_same(fast, expected, leaves):
    """In values and gradients, to torch's tolerance for float64 (1e-7)."""
    torch.testing.assert_close(fast, expected)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((out * weight).sum(), leaves) for out in (fast, expected)]
    torch.testing.assert_close(*gradients)


def random_beta(transform, rows=2, scale=0.2, dtype=torch.float64):
    return (scale * torch.randn(rows, transform.num_parameters, dtype=dtype)).requires_grad_()


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("name", [*WARPS, "tps as in the reference code"])
def test_warps_equal_a_loop_over_pixels(name, padding):
    reference = " " in name
    name = name.split()[0]
    size = (6, 7) if name == "position" else (5, 4)
    transform = make(name, 1, (5, 4), size, padding=padding, tps_reference_sampling=reference)
    maps = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    beta = random_beta(transform)
    expected = plain_warp(name, maps, beta, size, padding, name in POINTS and not reference)
    assert_same(transform(maps, beta), expected, [maps, beta])


@pytest.mark.parametrize("name", [*WARPS, "tps as in the reference code"])
def test_placed_warps_equal_a_loop_over_pixels(name):
    reference = " " in name
    name = name.split()[0]
    size = (6, 7) if name == "position" else (5, 4)
    transform = make(name, 1, (5, 4), size, tps_reference_sampling=reference)
    maps, beta = torch.randn(2, 3, 5, 4, dtype=torch.float64), random_beta(transform)
    placement = torch.tensor([[1.5, 0.1, -0.3], [0.6, -0.4, 0.2]], dtype=torch.float64)
    expected = plain_warp(name, maps, beta, size, "zeros", name in POINTS and not reference, placement.tolist())
    assert_same(transform(maps, beta, placement), expected, [beta])
    shared = transform(torch.stack([maps, -maps], 1), beta, placement)
    torch.testing.assert_close(shared, torch.stack([expected, -expected], 1))
    nowhere_else = placement.new_tensor([1.0, 0.0, 0.0]).expand(2, 3)
    torch.testing.assert_close(transform(maps, beta, nowhere_else), transform(maps, beta), rtol=0, atol=1e-12)


def test_maps_too_small_to_be_seen_have_finite_gradients():
    transform = make("position", 1, (4, 4))
    for s in (25.0, 89.0, 1e4):
        beta = torch.tensor([[s, 0.0, 0.5]], requires_grad=True)
        out = transform(torch.ones(1, 1, 4, 4), beta)
        assert not out.any() and torch.autograd.grad(out.sum(), beta)[0].isfinite().all()


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["color", "linearcolor"])
def test_colours_equal_a_loop_over_channels(name, channels, clamp):
    transform = make(name, channels, clamp=clamp)
    maps = torch.randn(2, channels + 2, 5, 4, dtype=torch.float64, requires_grad=True)
    beta = random_beta(transform)
    expected = maps.clone()
    for n in range(2):
        for c in range(channels):
            gain, shift = (beta[n, 2 * c], beta[n, 2 * c + 1]) if name == "color" else (beta[n, c], 0)
            x = (1 + gain) * maps[n, c] + shift
            soft = torch.where(x < 0, 0.01 * x, torch.where(x > 1, 1 + 0.01 * (x - 1), x))
            expected[n, c] = soft if clamp else x
    assert_same(transform(maps, beta), expected, [maps, beta])


@pytest.mark.parametrize("scale", [0.2, 3])
def test_morpho_equals_a_loop_over_windows(scale):
    transform = make("morpho", 1, (5, 4), morpho_kernel=3)
    maps = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    beta = random_beta(transform, scale=scale)
    expected = maps.clone()
    for n in range(2):
        start = torch.full((9,), -5.0, dtype=torch.float64)
        start[4] = 5
        window = (beta[n, 1:] + start).sigmoid()
        for i in range(5):
            for j in range(4):
                places = [(i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)]
                inside = [0 <= p < 5 and 0 <= q < 4 for p, q in places]
                v = torch.stack([maps[n, 0, p, q] if ok else maps.new_zeros(()) for (p, q), ok in zip(places, inside)])  # noqa: B905
                weights = (beta[n, 0] * v).exp() * window
                expected[n, 0, i, j] = (v * weights).sum() / weights.sum()
    assert_same(transform(maps, beta), expected, [maps, beta])


def test_morpho_stays_finite_where_exponents_overflow():
    transform = make("morpho", 1, (5, 4), morpho_kernel=3)
    maps = torch.rand(2, 1, 5, 4, requires_grad=True)
    beta = torch.zeros(2, 10)
    beta[:, 0] = torch.tensor([2000.0, -2000.0])
    beta.requires_grad_()
    out = transform(maps, beta)
    gradients = torch.autograd.grad(out.sum(), [maps, beta])
    assert all(x.isfinite().all() for x in (out, *gradients))
    largest, place = maps[0, 0].flatten().max(0)
    torch.testing.assert_close(out[0, 0].flatten()[place], largest)  # dilated by far: the largest wins its window


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("size", [(6, 6), (5, 8)])
@pytest.mark.parametrize("name", ["identity", "color", "linearcolor", *sorted({*WARPS} - {"position"})])
def test_at_the_start_maps_stay_as_they_are(name, size, padding):
    transform = make(name, 3, size, padding=padding)
    maps = torch.rand(2, 5, *size)
    torch.testing.assert_close(transform(maps, torch.zeros(2, transform.num_parameters)), maps, atol=1e-5, rtol=0)


def test_at_the_start_a_positioned_map_has_half_the_side_of_the_frame():
    maps = torch.rand(2, 5, 8, 6)
    out = make("position", 3, (8, 6), (16, 12))(maps, torch.zeros(2, 3))
    torch.testing.assert_close(out[:, :, 4:12, 3:9], maps, atol=1e-5, rtol=0)
    out[:, :, 4:12, 3:9] = 0
    assert out.abs().max() < 1e-5


def test_centre_and_half_side_of_a_positioned_map():
    s, tx, ty = -0.3, 0.4, -0.7
    out = make("position", 1, (12, 12), (96, 64))(torch.ones(1, 1, 12, 12), torch.tensor([[s, tx, ty]]))[0, 0]
    scale = math.exp(s) + 1
    y, x = (torch.tensor([pixel_place(i, n, False) for i in range(n)]) for n in (96, 64))
    centre = (out.sum(0) @ x / out.sum()).item(), (out.sum(1) @ y / out.sum()).item()
    assert centre == pytest.approx((-tx / scale, -ty / scale), abs=5e-3)
    inside = out > 0.5  # bilinear coverage is one half at the border
    assert (inside.any(0).sum() / 64).item() == pytest.approx(1 / scale, abs=1.5 / 64)
    assert (inside.any(1).sum() / 96).item() == pytest.approx(1 / scale, abs=1.5 / 96)


def test_the_reference_codes_spline_covers_half_of_the_border():
    out = make("tps", 1, (6, 6), tps_reference_sampling=True)(torch.ones(1, 1, 6, 6), torch.zeros(1, 32))[0, 0]
    torch.testing.assert_close(out[0, 1:-1], torch.full((4,), 0.5))
    torch.testing.assert_close(out[[0, 0, -1, -1], [0, -1, 0, -1]], torch.full((4,), 0.25))
    torch.testing.assert_close(out[1:-1, 1:-1], torch.ones(4, 4))


@pytest.mark.parametrize("name", ["color", "linearcolor", *WARPS, "morpho"])
def test_every_parameter_has_a_gradient_at_the_start(name):
    channels = 1 if name == "morpho" else 3
    transform = make(name, channels, (8, 9))
    maps = 0.05 + 0.9 * torch.rand(1, channels, 8, 9)
    beta = torch.zeros(1, transform.num_parameters, requires_grad=True)
    out = transform(maps, beta)
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), beta)
    assert (gradient.abs() > 1e-6).all()


def test_points_of_no_depth_are_not_divided_by_it():
    transform = make("projective", 1, (3, 3))
    beta = torch.zeros(1, 9, requires_grad=True)
    with torch.no_grad():
        beta[0, 8] = -1  # depth 0 everywhere
    maps = torch.rand(1, 1, 3, 3)
    out = transform(maps, beta)
    torch.testing.assert_close(out, maps)
    assert torch.autograd.grad(out.sum(), beta)[0].isfinite().all()


def test_a_quarter_turn_is_anticlockwise():
    maps = torch.rand(1, 1, 5, 5)
    out = make("rotation", 1, (5, 5))(maps, torch.full((1, 1), math.pi / 2))
    torch.testing.assert_close(out, maps.rot90(1, (2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["identity", "color", "linearcolor", *WARPS, "morpho"])
def test_maps_that_share_a_row_are_transformed_as_if_each_had_it(name):
    channels = 1 if name == "morpho" else 3
    transform = make(name, channels, (5, 4), (6, 7) if name == "position" else None)
    sprites = torch.randn(3, channels + 2, 5, 4, dtype=torch.float64, requires_grad=True)
    maps = sprites.expand(2, -1, -1, -1, -1)  # of three sprites, the same for two images
    beta = random_beta(transform)
    apart = torch.stack([transform(maps[:, s], beta) for s in range(3)], 1)
    leaves = [sprites] if name == "identity" else [sprites, beta]
    assert_same(transform(maps, beta), apart, leaves)


@pytest.mark.parametrize("name", ["color", "linearcolor", *WARPS, "morpho"])
def test_autocast_changes_nothing(name):
    channels = 1 if name == "morpho" else 3
    transform = make(name, channels)
    maps, beta = torch.rand(2, channels, 5, 4), random_beta(transform, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = transform(maps, beta)
        assert transform(maps.bfloat16(), beta.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(out, transform(maps, beta), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["affine", "tps"])
def test_constants_made_in_inference_mode_serve_training_too(name):
    _axes.cache_clear()
    _spline.cache_clear()
    transform = make(name, 1)
    maps = torch.rand(1, 1, 5, 4)
    beta = torch.zeros(1, transform.num_parameters, requires_grad=True)
    with torch.inference_mode():
        transform(maps, beta)
    assert torch.autograd.grad(transform(maps, beta).square().sum(), beta)[0].abs().sum() > 0
    out = transform(maps.double(), beta.double())  # and float32 constants do not serve float64
    torch.testing.assert_close(out, maps.double(), rtol=0, atol=1e-12)


def test_soft_clamp():
    x = torch.tensor([-2.0, -0.5, 0.25, 0.5, 1.5, 3.0], requires_grad=True)
    y = soft_clamp(x)
    torch.testing.assert_close(y, torch.tensor([-0.02, -0.005, 0.25, 0.5, 1.005, 1.02]))
    slopes = torch.tensor([0.01, 0.01, 1, 1, 0.01, 0.01])
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], slopes)
    bounds = torch.tensor([0.0, 1.0], requires_grad=True)
    assert torch.equal(torch.autograd.grad(soft_clamp(bounds).sum(), bounds)[0], torch.ones(2))


def test_sequences_are_applied_in_their_order_and_position_changes_the_size():
    transforms = make_transforms("identity_color_similarity_position_tps", 3, [5, 4], [6, 7])
    assert [t.name for t in transforms] == ["identity", "color", "similarity", "position", "tps"]
    assert [t.num_parameters for t in transforms] == [0, 6, 4, 3, 32]
    maps = torch.rand(2, 4, 5, 4)
    sizes = []
    for transform in transforms:
        maps = transform(maps, torch.zeros(2, transform.num_parameters))
        sizes.append(tuple(maps.shape[2:]))
    assert sizes == [(5, 4)] * 3 + [(6, 7)] * 2


def test_a_single_pixel_can_be_transformed():
    maps = torch.rand(1, 1, 1, 1)
    for transform in make_transforms("color_affine_projective_tps", 1, (1, 1), (1, 1)):
        torch.testing.assert_close(transform(maps, torch.zeros(1, transform.num_parameters)), maps)


@pytest.mark.parametrize(
    ("sequence", "channels", "size", "kernel", "message"),
    [
        (
            "color_shear",
            3,
            (5, 4),
            7,
            '"shear" of "color_shear" is unknown; known are identity, color, linearcolor, aff',
        ),
        ("", 3, (5, 4), 7, 'transformation "" of "" is unknown'),
        ("color_tps_color", 3, (5, 4), 7, '"color" comes twice in "color_tps_color"'),
        ("color", 3, (8, 8), 7, r'"color" keeps the size \(8, 8\), but \(5, 4\) is wanted; add "position"'),
        ("identity_morpho", 3, (5, 4), 7, '"identity_morpho" has morpho, which is for grey images, but there are 3'),
        ("morpho", 1, (5, 4), 4, "morpho_kernel is 4; it must be odd"),
    ],
)
def test_refusals(sequence, channels, size, kernel, message):
    with pytest.raises(InputError, match=message):
        make_transforms(sequence, channels, size, (5, 4), morpho_kernel=kernel)
