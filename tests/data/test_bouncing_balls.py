"""Bouncing balls against the numbers measured in R-NEM's animations, recomputed from the factors where possible."""

import numpy as np
import pytest
import torch
from scipy import stats

from unscene.data.bouncing_balls import BouncingBalls, collision_masks, draw_discs, palette
from unscene.data.preprocess import to_grayscale
from unscene.errors import InputError

COLORS = [
    (166, 206, 227), (31, 120, 180), (178, 223, 138), (51, 160, 44),
    (251, 154, 153), (227, 26, 28), (253, 191, 111), (255, 127, 0),
]  # fmt: skip


def videos(count=12, **options):
    return BouncingBalls(count, **options).batch(range(count))


@pytest.fixture(scope="module")
def four():
    return videos(40)


@pytest.fixture(scope="module")
def many():
    return videos(40, variant="6-8", colors=8)


@pytest.fixture(scope="module")
def curtain():
    return videos(40, variant="curtain")


def test_shapes_and_types(many):
    assert many["image"].shape == (40, 51, 3, 64, 64) and many["image"].dtype == torch.float32
    assert many["mask"].shape == (40, 51, 64, 64) and many["mask"].dtype == torch.uint8
    assert many["visibility"].shape == (40, 9) and many["visibility"].dtype == torch.bool
    assert {name: (tuple(value.shape), value.dtype) for name, value in many["factors"].items()} == {
        "position": ((40, 9, 51, 2), torch.float32),
        "velocity": ((40, 9, 51, 2), torch.float32),
        "collision": ((40, 9, 51), torch.bool),
        "radius": ((40, 9), torch.float32),
        "mass": ((40, 9), torch.float32),
        "color": ((40, 9, 3), torch.float32),
    }


@pytest.mark.parametrize("variant", ["4", "6-8", "curtain"])
def test_a_video_does_not_depend_on_its_batch(variant):
    dataset, order = BouncingBalls(9, variant=variant), [8, 3, 5]
    whole, some, single = dataset.batch(range(9)), dataset.batch(order), dataset[3]
    elsewhere = BouncingBalls(1000, variant=variant).batch(order)
    for name, value in (whole | whole["factors"]).items():
        if name != "factors":
            assert torch.equal((some | some["factors"])[name], value[order]), name
            assert torch.equal((elsewhere | elsewhere["factors"])[name], value[order]), name
            assert torch.equal((single | single["factors"])[name], value[3]), name


def test_splits_and_seeds_share_no_video():
    streams = [BouncingBalls(4, frames=1, **o) for o in ({}, {"split": "val"}, {"split": "test"}, {"seed": 1})]
    assert len({image.numpy().tobytes() for stream in streams for image in stream.batch(range(4))["image"]}) == 16


def test_the_first_frames_do_not_depend_on_the_length(four):
    short = videos(3, frames=7)
    assert torch.equal(short["image"], four["image"][:3, :7])
    assert torch.equal(short["factors"]["velocity"], four["factors"]["velocity"][:3, :, :7])
    assert BouncingBalls(1, frames=1)[0]["image"].shape == (1, 3, 64, 64)


@pytest.mark.parametrize("size", [32, 16])
def test_smaller_frames_are_means_of_blocks(size):
    whole, small = (
        BouncingBalls(3, frames=4, colors=8, collisions=True, image_size=n).batch(range(3)) for n in (64, size)
    )
    n = 64 // size
    assert small["image"].shape == (3, 4, 3, size, size)
    y, x = size // 2, size // 3
    block = whole["image"][..., n * y : n * y + n, n * x : n * x + n]
    torch.testing.assert_close(small["image"][..., y, x], block.mean((-2, -1)))
    for name in ("mask", "collision"):
        assert torch.equal(small[name][..., y, x], whole[name][..., n * y + n // 2, n * x + n // 2])
    for name in ("position", "velocity", "radius"):
        torch.testing.assert_close(small["factors"][name] * n, whole["factors"][name])
    assert torch.equal(small["factors"]["mass"], whole["factors"]["mass"])


@pytest.mark.parametrize("name", ["four", "many", "curtain"])
def test_energy_is_constant(name, request):
    factors = request.getfixturevalue(name)["factors"]
    energy = (factors["mass"][..., None] * factors["velocity"].double().square().sum(-1)).sum(1)
    assert (energy / energy[:, :1] - 1).abs().max() < 1e-3 / 2
    assert factors["collision"].any(2).float().mean() > 0.3  # and they do collide


@pytest.mark.parametrize(("name", "speed"), [("four", 64 / 30), ("many", 64 / 30), ("curtain", 3.2)])
def test_start(name, speed, request):
    factors = request.getfixturevalue(name)["factors"]
    norm = factors["velocity"][:, :, 0].square().sum((1, 2)).sqrt()
    torch.testing.assert_close(norm, torch.full_like(norm, speed), rtol=1e-5, atol=0)
    position, radius = factors["position"][:, 1:, 0].numpy(), factors["radius"][:, 1:].numpy()
    for centers, radii in zip(position, radius, strict=True):
        centers, radii = centers[radii > 0], radii[radii > 0, None]
        assert (centers >= radii - 1e-4).all() and (centers <= 64 - radii + 1e-4).all()
        distance = np.linalg.norm(centers[:, None] - centers, axis=-1) + 1000 * np.eye(len(centers))
        assert (distance >= radii + radii.T - 1e-4).all()
    assert not factors["collision"][:, :, 0].any()


def test_balls_stay_in_the_box_but_for_a_sub_step(many):
    position, radius = many["factors"]["position"], many["factors"]["radius"]
    beyond = torch.maximum(radius[..., None, None] - position, position + radius[..., None, None] - 64)
    assert beyond[radius > 0].max() < 1.5
    assert beyond[radius > 0].max() > 0  # which is how far the wall lets them in


def test_kinds_and_numbers_of_balls(four, many, curtain):
    count = (many["factors"]["radius"] > 0).sum(1)
    assert set(count.tolist()) == {6, 7, 8}
    assert ((four["factors"]["radius"] > 0).sum(1) == 4).all() and (
        (curtain["factors"]["radius"] > 0).sum(1) == 3
    ).all()
    kinds = torch.stack([many["factors"][name][many["factors"]["radius"] > 0] for name in ("radius", "mass")], 1)
    values, counts = kinds.unique(dim=0, return_counts=True)
    torch.testing.assert_close(values, torch.tensor([[5.12, 1.0], [6.4, 6.0]]))
    assert stats.binomtest(int(counts[0]), int(counts.sum())).pvalue > 1e-3


@pytest.mark.parametrize(("radius", "area"), [(5.12, 82.4), (6.4, 128.7), (7.68, 185.3)])
def test_disc_areas(radius, area):
    position = np.random.default_rng(0).uniform(10, 54, (1, 1, 4000, 2)).astype(np.float32)
    areas = (draw_discs(position, np.full((1, 1), radius, np.float32)) == 1).sum((2, 3))
    assert abs(areas.mean() - area) < 0.15 and areas.std() < 3


def test_discs_are_hard_cut_off_by_the_border_and_covered_by_later_ones():
    position = np.random.default_rng(1).uniform(-4, 68, (3, 5, 2, 2)).astype(np.float32)
    radius = np.random.default_rng(2).uniform(1, 9, (3, 5)).astype(np.float32)
    expected = np.zeros((3, 2, 64, 64), np.uint8)
    y, x = np.indices((64, 64)) + 0.5
    for video, t, ball in np.ndindex(3, 2, 5):
        px, py = position[video, ball, t]
        expected[video, t][(x - px) ** 2 + (y - py) ** 2 < radius[video, ball] ** 2] = ball + 1
    np.testing.assert_array_equal(draw_discs(position, radius), expected)


def test_the_mask_is_where_the_factors_say(many):
    expected = draw_discs(many["factors"]["position"][:, 1:].numpy(), many["factors"]["radius"][:, 1:].numpy())
    np.testing.assert_array_equal(many["mask"], expected)
    assert torch.equal(many["visibility"][:, 1:], many["factors"]["radius"][:, 1:] > 0)


def test_white_balls_in_three_channels_or_one(four):
    assert torch.equal(four["image"], (four["mask"] > 0).float()[:, :, None].expand(-1, -1, 3, -1, -1))
    gray = videos(5, grayscale=True)["image"]
    assert torch.equal(gray, four["image"][:5, :, :1])


@pytest.mark.parametrize(("colors", "order"), [(8, range(8)), (4, [0, 1, 2, 3, 0, 1, 2, 3])])
def test_colors_go_with_the_id(colors, order):
    scenes = videos(4, variant="6-8", colors=colors, frames=20)
    table = torch.tensor([(0, 0, 0), *(COLORS[i] for i in order)])
    expected = table[scenes["mask"].long()].movedim(-1, 2)
    torch.testing.assert_close(scenes["image"] * 255, expected.float())
    present = scenes["factors"]["radius"] > 0
    torch.testing.assert_close(scenes["factors"]["color"] * 255, table * present[..., None].float())


def test_colored_videos_have_the_masks_of_the_white_ones(many):
    white = videos(3, variant="6-8")
    assert torch.equal(white["mask"], many["mask"][:3])
    gray = videos(3, variant="6-8", colors=8, grayscale=True)
    torch.testing.assert_close(gray["image"], to_grayscale(many["image"][:3]))
    assert gray["factors"]["color"].shape == (3, 9, 1)


def test_three_frames_are_not_taken_for_three_channels():
    assert torch.equal(
        videos(2, frames=3, colors=8, grayscale=True)["image"][:, :, 0].gt(0), videos(2, frames=3)["mask"] > 0
    )


def test_the_curtain_hides_balls_in_a_still_square(curtain):
    full = draw_discs(curtain["factors"]["position"][:, 1:].numpy(), curtain["factors"]["radius"][:, 1:].numpy())
    mask = curtain["mask"].numpy()
    hidden = (full != mask).any(1)
    for video, pixels in enumerate(hidden):
        rows, columns = np.nonzero(pixels)
        if not rows.size:
            continue
        assert np.ptp(rows) < 28 and np.ptp(columns) < 28
        window = np.s_[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert not mask[video][window].any()  # black in every frame, whatever moves there
    widest = max(np.ptp(np.nonzero(pixels)[0]) for pixels in hidden if pixels.any())
    assert widest == 27 and hidden.any((1, 2)).mean() > 0.9
    assert torch.equal(curtain["image"][:, :, 0] > 0, curtain["mask"] > 0)


def test_clips_are_what_would_be_cut_from_whole_videos(many, curtain):
    for whole, options in ((many, {"variant": "6-8", "colors": 8}), (curtain, {"variant": "curtain"})):
        clips = BouncingBalls(40, **options).batch_clips([5, 0, 5], [47, 8, 0], 4)
        for i, (video, start) in enumerate(((5, 47), (0, 8), (5, 0))):
            for name in ("image", "mask"):
                assert torch.equal(clips[name][i], whole[name][video, start : start + 4])
            for name in ("position", "velocity", "collision"):
                assert torch.equal(clips["factors"][name][i], whole["factors"][name][video, :, start : start + 4])
            seen = set(clips["mask"][i].unique().tolist())
            assert clips["visibility"][i].nonzero()[:, 0].tolist() == sorted(seen)


def test_collision_masks_are_wider_discs_after_a_contact(four):
    masks, factors = collision_masks(four), four["factors"]
    assert torch.equal(masks.flatten(2).any(2), factors["collision"].any(1))
    video, frame = factors["collision"].any(1).nonzero()[0].tolist()
    touching = factors["collision"][video, :, frame].nonzero()[:, 0]
    y, x = np.indices((64, 64)) + 0.5
    expected = np.zeros((64, 64), bool)
    for ball in touching:
        px, py = factors["position"][video, ball, frame].tolist()
        expected |= (x - px) ** 2 + (y - py) ** 2 < (factors["radius"][video, ball].item() + 2) ** 2
    assert len(touching) >= 2
    np.testing.assert_array_equal(masks[video, frame], expected)
    assert torch.equal(videos(3, collisions=True)["collision"], masks[:3]) and "collision" not in four


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "5"}, "unknown variant '5' of bouncing balls; choose one of 4, 6-8, curtain"),
        ({"colors": 6}, "colors is 6; balls come in 8 or 4 colours, or white with None"),
        ({"frames": 0}, "frames is 0; a video has at least 1 frame"),
        ({"image_size": 48}, "image_size is 48; bouncing balls come with 64, 32 or 16 pixels a side"),
        ({"num_scenes": 0}, "num_scenes is 0; ask for at least 1 scene"),
        ({"split": "training"}, "unknown split 'training'; choose one of train, val, test"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        BouncingBalls(**options)


def test_shuffled_colors_differ_between_videos_and_are_those_of_the_factors():
    batch = BouncingBalls(200, variant="6-8", frames=1, colors=8, shuffled=True).batch(range(200))
    color, there = batch["factors"]["color"], batch["factors"]["radius"] > 0
    assert (color[~there] == 0).all()
    known = torch.from_numpy(palette(8, False))[1:]
    dealt = (color[:, 1:, None] == known).all(-1).float()  # (B, ball, colour)
    assert (dealt.sum(2) == there[:, 1:]).all() and (dealt.sum(1) <= 1).all()
    assert (dealt.mean(0) > 0).all()  # every ball has had every colour
    pixels = batch["image"].movedim(2, -1)
    rows = torch.arange(200)[:, None, None, None].expand_as(batch["mask"])
    assert torch.equal(pixels, color[rows, batch["mask"].long()])


def test_shuffled_white_balls_stay_white():
    image = BouncingBalls(2, frames=1, shuffled=True).batch(range(2))["image"]
    assert set(image.unique().tolist()) == {0.0, 1.0}
