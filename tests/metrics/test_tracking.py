"""Tracking on films drawn as text: one line per video, one word per frame, one letter per block of six pixels."""

import pytest
import torch

from unscene.errors import InputError
from unscene.metrics import mot, slot_stability, track_counts
from unscene.metrics.tracking import TrackCounts

COUNTS = ("objects", "matches", "misses", "switches", "false_positives", "tracks", "detected", "tracked")


def film(text, block=6):
    """Label map (1, T, block, blocks): '.' is id 0, letters are 1, 2, ...; a block has ``block`` pixels."""
    ids = torch.tensor([[0 if c == "." else ord(c) - ord("a") + 1 for c in word] for word in text.split()])
    return ids[None, :, None, :].expand(1, -1, block, -1)


def counts(true, pred, **options):
    found = track_counts(film(true), film(pred), **options)
    return {name: int(getattr(found, name)) for name in COUNTS}


def expect(objects, matches, misses=0, switches=0, false_positives=0, tracks=1, detected=0, tracked=0):
    return dict(
        zip(COUNTS, (objects, matches, misses, switches, false_positives, tracks, detected, tracked), strict=True)
    )


def test_a_perfect_film():
    assert counts("..ab ..ab a..b", "..ab ..ab a..b") == expect(6, 6, tracks=2, detected=2, tracked=2)
    scores = mot(film("..ab ..ab a..b"), film("..ab ..ab a..b"))
    assert all(value.dtype == torch.float64 and value.shape == (1,) for value in scores.values())
    ones = {"mota", "motp", "match", "mostly_detected", "mostly_tracked"}
    assert {name: value.item() for name, value in scores.items()} == {name: float(name in ones) for name in scores}


def test_an_exchange_is_one_switch_for_each_object():
    assert counts("..ab ..ab ..ab ..ab ..ab", "..ab ..ab ..ba ..ba ..ba") == expect(
        10, 8, switches=2, tracks=2, detected=2, tracked=2
    )  # 4 of 5 frames are just enough
    scores = mot(film("..ab ..ab"), film("..ab ..ba"))
    assert (scores["mota"].item(), scores["id_switch"].item(), scores["mostly_tracked"].item()) == (0.5, 0.5, 0.0)
    assert (scores["match"].item(), scores["mostly_detected"].item()) == (0.5, 1.0)


def test_an_object_that_comes_back_in_another_slot_is_a_switch():
    assert counts("..a ... ..a", "..a ... ..b") == expect(2, 1, switches=1, detected=1)


def test_misses_and_false_positives():
    # frame 1: the object has no slot of its own, and slot b holds nothing but an eighth of the background
    assert counts(".......a .......a", ".......a .b......") == expect(2, 1, misses=1, false_positives=1)
    assert mot(film(".......a .......a"), film(".......a .b......"))["mota"].item() == 0


def test_slots_on_the_background_are_background():
    # b has 2 of 5 blocks of the true background: IoU 0.4; without it c (IoU 0.2 exactly) is a false positive
    assert counts(".....a", "bb...a") == expect(1, 1, detected=1, tracked=1)
    assert counts(".....a", "c....a") == expect(1, 1, false_positives=1, detected=1, tracked=1)


def test_a_match_goes_on_while_it_fits_though_another_slot_is_better():
    # slot a keeps 1/2 of the object in frame 1, slot b takes the other half: equal, so the old one stays
    found = track_counts(film("......aa ......aa"), film("......aa ......ab"))
    assert (found.matches.item(), found.switches.item(), found.false_positives.item()) == (2, 0, 1)
    assert found.overlap.item() == pytest.approx(1.5)
    # at a threshold of 1/4 an old match with 1/3 stays, though b has 2/3
    assert counts(".........aaa .........aaa", ".........aaa .........abb", iou_threshold=0.25)["switches"] == 0
    assert counts(".........aaa .........aaa", ".........aaa .........abb")["switches"] == 1


def test_iou_below_the_threshold_is_no_match():
    assert counts("......aaa", "......abc") == expect(1, 0, misses=1, false_positives=3)
    assert counts("......aaa", "......abc", iou_threshold=1 / 3)["matches"] == 1


def test_small_masks_are_dropped_on_both_sides():
    true, pred = film("..a ..a", block=5), film("..a .b.", block=5)
    assert not any(value.any() for value in track_counts(true, pred))
    assert track_counts(true, pred, ignored=4).objects.item() == 2


def test_videos_are_scored_alone_and_pooled_by_their_counts():
    true, pred = torch.cat([film("..ab ..ab"), film("...a ....")]), torch.cat([film("..ab ..ba"), film(".... ....")])
    both = track_counts(true, pred)
    for i in range(2):
        assert [c[i] for c in both] == [c[0] for c in track_counts(true[i : i + 1], pred[i : i + 1])]
    assert mot(true, pred)["mota"].tolist() == [0.5, 0.0]
    assert both.pooled().scores()["mota"].item() == pytest.approx(1 - 3 / 5)
    assert isinstance(both.pooled(), TrackCounts)


def test_without_objects_there_is_no_score():
    scores = mot(film("... ..."), film("... ..a"))
    assert all(value.isnan() for value in scores.values())


def test_ids_may_be_sparse():
    true, pred = film("..ab ..ab"), film("..ab ..ba")
    sparse = track_counts(true * 1000, 7 + pred * 900)
    assert all(torch.equal(a, b) for a, b in zip(sparse, track_counts(true, pred), strict=True))


@pytest.mark.parametrize(
    ("true", "pred", "stability"),
    [
        ("..ab ..ab", "..ab ..ab", 1.0),
        ("..ab ..ab ..ab", "..ab ..ba ..ba", 0.5),
        ("..ab ..ab ..ab", "..ab ..ba ..ab", 0.0),
        ("..a ... ..a", "..a ... ..b", 0.0),
        ("..a ... ..a", "..a ... ..a", 1.0),
        ("..a ..b", "..a ..a", None),
        (".aaa .aaa", ".aab .acc", 0.0),
        ("..ab ..ab", ".... ....", 1.0),  # one slot for all is stable
    ],
)
def test_slot_stability(true, pred, stability):
    score = slot_stability(film(true), film(pred))
    assert score.dtype == torch.float64
    assert score.isnan() if stability is None else score.item() == stability


def test_images_are_refused():
    maps = torch.zeros(2, 4, 5, dtype=torch.int64)
    for function in (mot, slot_stability):
        with pytest.raises(InputError, match=r"true must be a label map \(B, T, H, W\).*give single images a T of 1"):
            function(maps, maps)
