"""Components, lesion-wise counts and FROC: by hand, and against references written with scipy and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.froc import Candidates, candidates, froc, froc_draws
from uadbench.metrics.lesions import (
    Hit,
    HitRule,
    LesionCounts,
    lesion_counts,
    overlaps,
    recall_by_size,
)
from uadbench.metrics.regions import Regions, components

ALL: tuple[Hit, ...] = ("any", "share", "iou", "centroid")


def random_mask(seed: int, shape: tuple[int, ...] = (6, 7, 8), density: float = 0.12) -> BoolArray:
    return np.random.default_rng(seed).random(shape) < density


def sets(mask: BoolArray) -> list[set[tuple[int, ...]]]:
    """The components as sets of coordinates, by scipy."""
    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return [{tuple(map(int, p)) for p in np.argwhere(labels == k)} for k in range(1, count + 1)]


@pytest.mark.parametrize("density", [0.0, 0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(6, 7, 8), (1, 20, 20), (1, 1, 1)])
def test_components_are_those_of_scipy(density: float, shape: tuple[int, ...]) -> None:
    mask = random_mask(1, shape, density)
    regions = components(mask)
    assert regions.labels.dtype == np.uint32
    assert regions.labels.shape == mask.shape
    ours = [{tuple(map(int, p)) for p in np.argwhere(regions.labels == k + 1)} for k in range(len(regions.sizes))]
    assert sorted(map(sorted, ours)) == sorted(map(sorted, sets(mask)))
    assert [len(s) for s in ours] == list(regions.sizes)


def test_neighbours_at_a_corner_are_one_component_and_memory_order_does_not_matter() -> None:
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert components(mask).sizes.tolist() == [2]
    assert components(np.asfortranarray(mask)).sizes.tolist() == [2]
    assert components(mask[::-1]).sizes.tolist() == [2]
    with pytest.raises(ValueError, match=r"\(D, H, W\)"):
        components(mask[0])


def counts(lesion: BoolArray, found: BoolArray, voxel_ml: float = 1.0, **rule: object) -> LesionCounts:
    return lesion_counts(overlaps(components(lesion), components(found)), voxel_ml, HitRule(**rule))  # type: ignore[arg-type]


def flat(*boxes: tuple[slice, slice], shape: tuple[int, int] = (20, 20)) -> BoolArray:
    mask = np.zeros((1, *shape), bool)
    for rows, columns in boxes:
        mask[0, rows, columns] = True
    return mask


def test_each_criterion_by_hand() -> None:
    lesion = flat((slice(0, 5), slice(0, 4)))  # 20 voxels, centre (2, 1)
    touching = flat((slice(4, 6), slice(3, 10)))  # 14 voxels, 1 shared: share 0.05, IoU 1/33
    tenth = flat((slice(4, 5), slice(2, 10)))  # 8 voxels, 2 shared: share 0.1, IoU 2/26
    half = flat((slice(0, 5), slice(2, 4)))  # 10 shared: share and IoU 0.5, without the centre
    centre = flat((slice(2, 3), slice(1, 2)))  # the centre alone: share and IoU 0.05
    expected = {"any": "1111", "share": "0110", "iou": "0010", "centroid": "0001"}
    for hit, digits in expected.items():
        for found, digit in zip((touching, tenth, half, centre), digits, strict=True):
            result = counts(lesion, found, hit=hit)
            assert result.hit.tolist() == [digit == "1"], (hit, digit)
            assert (result.predicted, result.false) == (1, int(digit == "0"))


def test_thresholds_are_parameters() -> None:
    lesion, found = flat((slice(0, 5), slice(0, 4))), flat((slice(0, 5), slice(2, 4)))
    for name in ("share", "iou"):
        assert counts(lesion, found, hit=name, **{name: 0.5}).recall == 1.0
        assert counts(lesion, found, hit=name, **{name: 0.51}).recall == 0.0


def test_the_centre_of_a_ring_is_one_of_its_voxels() -> None:
    lesion = flat((slice(2, 9), slice(2, 9)))
    lesion[0, 3:8, 3:8] = False
    hole = flat((slice(5, 6), slice(5, 6)))
    assert counts(lesion, hole, hit="centroid").recall == 0.0
    first_nearest = flat((slice(2, 3), slice(5, 6)))  # four voxels are equally near; the first in memory is taken
    assert counts(lesion, first_nearest, hit="centroid").recall == 1.0
    assert counts(lesion, flat((slice(8, 9), slice(5, 6))), hit="centroid").recall == 0.0


def test_fragments_together_cover_the_share_but_none_has_the_iou() -> None:
    lesion = flat((slice(0, 1), slice(0, 20)))
    found = flat((slice(0, 1), slice(1, 2)), (slice(0, 1), slice(5, 6)), (slice(0, 1), slice(9, 10)))
    assert counts(lesion, found, hit="share", share=0.15).recall == 1.0
    assert counts(lesion, found, hit="share", share=0.15).false == 0
    assert counts(lesion, found, hit="share", share=0.16).false == 3
    assert counts(lesion, found, hit="iou").hit.tolist() == [False]


def test_touching_lesions_are_one_and_one_component_can_hit_two() -> None:
    two = flat((slice(0, 2), slice(0, 2)), (slice(0, 2), slice(3, 5)))
    one = flat((slice(0, 2), slice(0, 2)), (slice(2, 4), slice(2, 4)))
    found = flat((slice(1, 2), slice(0, 5)))
    assert (len(counts(two, found).hit), counts(two, found).recall, counts(two, found).precision) == (2, 1.0, 1.0)
    assert len(counts(one, found).hit) == 1


@pytest.mark.parametrize("hit", ALL)
def test_empty_full_and_single_voxel_masks(hit: Hit) -> None:
    none, full, lesion = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
    lesion[1, 2, 3] = True
    nothing = counts(none, none, hit=hit)
    assert np.isnan([nothing.recall, nothing.precision, nothing.f1]).all()
    missed = counts(lesion, none, hit=hit)
    assert (missed.recall, missed.f1) == (0.0, 0.0)
    assert np.isnan(missed.precision)
    alarm = counts(none, lesion, hit=hit)
    assert np.isnan([alarm.recall, alarm.f1]).all()
    assert (alarm.precision, alarm.false) == (0.0, 1)
    perfect = counts(lesion, lesion, hit=hit)
    assert (perfect.recall, perfect.precision, perfect.f1) == (1.0, 1.0, 1.0)
    everything = counts(lesion, full, hit=hit)
    assert everything.recall == float(hit != "iou")  # 1/60 of intersection over union


def test_small_lesions_and_components_are_left_out() -> None:
    lesion = flat((slice(0, 1), slice(0, 2)), (slice(5, 8), slice(5, 8)))  # 2 and 9 voxels
    found = flat(
        (slice(0, 3), slice(0, 2)),  # on the small lesion: not false
        (slice(5, 6), slice(5, 6)),  # 1 voxel on the large lesion: too small to hit
        (slice(12, 15), slice(12, 15)),  # false
        (slice(18, 19), slice(18, 19)),  # too small to be false
    )
    every = counts(lesion, found, 0.01)
    assert (every.hit.tolist(), every.predicted, every.false) == ([True, True], 4, 2)
    some = counts(lesion, found, 0.01, min_ml=0.03)
    assert (some.hit.tolist(), some.predicted, some.false) == ([False], 1, 1)
    assert counts(lesion, found, 0.01, min_ml=0.09).voxels.tolist() == [9]  # exactly the smallest size counts
    assert counts(lesion, found, 0.01, min_ml=0.091).voxels.tolist() == []
    with pytest.raises(ValueError, match="size of a voxel"):
        counts(lesion, found, float("nan"), min_ml=0.01)
    with pytest.raises(ValueError, match="must be any"):
        counts(lesion, found, hit="dice")


def brute_counts(lesion: BoolArray, found: BoolArray, rule: HitRule) -> tuple[list[bool], int, int]:
    """Hits, predicted and false by definition, with sets; a voxel has 1 ml."""
    every, all_found = sets(lesion), [c for c in sets(found) if len(c) >= rule.min_ml]
    large = [x for x in every if len(x) >= rule.min_ml]
    small = [x for x in every if len(x) < rule.min_ml]

    def centre(x: set[tuple[int, ...]]) -> tuple[int, ...]:
        total = [sum(p[a] for p in x) for a in range(3)]
        return min(sorted(x), key=lambda p: sum((len(x) * p[a] - total[a]) ** 2 for a in range(3)))

    hits, true = [], set()
    for x in large:
        if rule.hit == "any":
            who = [i for i, c in enumerate(all_found) if c & x]
        elif rule.hit == "share":
            who = [i for i, c in enumerate(all_found) if c & x]
            if sum(len(c & x) for c in all_found) / len(x) < rule.share:
                who = []
        elif rule.hit == "iou":
            who = [i for i, c in enumerate(all_found) if len(c & x) / len(c | x) >= rule.iou]
        else:
            who = [i for i, c in enumerate(all_found) if centre(x) in c]
        hits.append(bool(who))
        true |= set(who)
    false = sum(i not in true and not any(c & x for x in small) for i, c in enumerate(all_found))
    return hits, len(true) + false, false


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(ALL), st.sampled_from([0.1, 0.3, 0.5]), st.sampled_from([0.0, 2.0, 3.0]))
def test_counts_equal_the_definition(seed: int, hit: Hit, level: float, min_ml: float) -> None:
    lesion, found = random_mask(seed), random_mask(seed + 1, density=0.15)
    rule = HitRule(hit, level, level, min_ml)
    result = lesion_counts(overlaps(components(lesion), components(found)), 1.0, rule)
    hits, predicted, false = brute_counts(lesion, found, rule)
    assert sorted(result.hit.tolist()) == sorted(hits)
    assert (result.predicted, result.false) == (predicted, false)
    assert sorted(result.voxels) == sorted(len(x) for x in sets(lesion) if len(x) >= min_ml)
    if hits:
        recall, precision = np.mean(hits), 1 - false / predicted if predicted else 0.0
        assert result.f1 == pytest.approx(2 * recall * precision / (recall + precision) if recall else 0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(ALL))
def test_a_larger_share_or_iou_never_finds_more(seed: int, hit: Hit) -> None:
    found = overlaps(components(random_mask(seed)), components(random_mask(seed + 1, density=0.2)))
    results = [lesion_counts(found, 1.0, HitRule(hit, level, level)) for level in (0.01, 0.2, 0.7)]
    recalls, false = [r.recall for r in results], [r.false for r in results]
    assert recalls == sorted(recalls, reverse=True)
    assert false == sorted(false)
    assert results[0].recall <= lesion_counts(found, 1.0).recall  # one shared voxel is the mildest criterion


def test_recall_by_size() -> None:
    ml = np.array([0.05, 0.4, 0.1, 5.0])
    both = LesionCounts((1000 * ml).astype(np.int64), ml, np.array([False, True, False, True]), 4, 1)
    assert (both.recall, both.predicted, both.precision) == (0.5, 4, 0.75)
    assert recall_by_size(both).tolist() == [0.0, 0.5, 1.0]
    assert recall_by_size(both, [1000.0]).tolist()[0] == 0.5
    assert np.isnan(recall_by_size(both, [1000.0])[1])
    unknown = LesionCounts(np.array([5]), np.array([np.nan]), np.array([True]), 1, 0)
    assert np.isnan(recall_by_size(unknown)).all()


def test_froc_by_hand() -> None:
    first = Candidates(np.array([0.9, 0.4, -np.inf]), np.array([0.8, 0.4, 0.3]))
    second = Candidates(np.empty(0), np.array([0.7]))
    # Two volumes, so one false component a volume means two: 0.8 and 0.7; at 0.4 a third comes with the second lesion.
    assert froc([first, second], [0, 0.5, 1, 1.5, 8]) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert np.isnan(froc([second])).all()
    assert np.isnan(froc([])).all()
    assert froc([Candidates(np.array([-np.inf]), np.empty(0))]).tolist() == [0.0] * 4
    assert froc([Candidates(np.array([1.0, 2.0]), np.empty(0))], [0]).tolist() == [1.0]


def test_under_share_a_lesion_is_hit_from_the_cut_that_covers_it() -> None:
    lesion, score = flat((slice(0, 1), slice(0, 20))), np.zeros((1, 20, 20))
    for column, confidence in ((1, 0.3), (5, 0.9), (9, 0.5), (13, 0.7)):
        score[0, 0, column] = confidence
    found = overlaps(components(lesion), components(score > 0.0), score)
    for share, cut in ((0.05, 0.9), (0.1, 0.7), (0.15, 0.5), (0.2, 0.3), (0.21, -np.inf)):
        assert candidates(found, 1.0, HitRule("share", share)).lesion.tolist() == [cut]


def scored(seed: int) -> tuple[BoolArray, BoolArray, FloatArray]:
    score = np.round(np.random.default_rng(seed).random((6, 7, 8)) * 8) / 8
    return random_mask(seed + 1), score > 0.8, score


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(ALL), st.sampled_from([0.1, 0.4]), st.sampled_from([0.0, 2.0]))
def test_froc_equals_trying_every_cut(seed: int, hit: Hit, level: float, min_ml: float) -> None:
    rule = HitRule(hit, level, level, min_ml)
    volumes = [scored(seed + 10 * i) for i in range(3)]
    given_ = [candidates(overlaps(components(x), components(f), s), 1.0, rule) for x, f, s in volumes]
    cuts = [np.inf, *sorted({float(v) for _, f, s in volumes for v in s[f]})]
    rows = []
    for cut in cuts:
        hits: list[bool] = []
        for lesion, found, score in volumes:
            kept = np.zeros_like(found)
            for c in sets(found):
                place = tuple(np.array(sorted(c)).T)
                kept[place] = score[place].max() >= cut
            hits += brute_counts(lesion, kept, rule)[0]
        rows.append((np.mean([np.sum(g.false >= cut) for g in given_]), np.mean(hits) if hits else np.nan))
    for volume, candidate in zip(volumes, given_, strict=True):
        assert len(candidate.false) == brute_counts(volume[0], volume[1], rule)[2]
    at = (0, 0.5, 1, 2, 4)
    expected = [max(sensitivity for false, sensitivity in rows if false <= k) for k in at]
    assert froc(given_, at) == pytest.approx(expected, nan_ok=True)


def test_froc_of_resampled_volumes_is_that_of_the_list() -> None:
    volumes = [candidates(overlaps(components(x), components(f), s), 1.0) for x, f, s in map(scored, range(0, 60, 10))]
    weights = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=100).astype(float)
    draws = froc_draws(volumes, weights)
    assert draws.shape == (100, 4)
    for row, result in zip(weights.astype(int), draws, strict=True):
        assert result == pytest.approx(froc([volumes[i] for i in range(6) for _ in range(row[i])]))
    assert np.ptp(draws[:, 0]) > 0.0


def test_froc_of_very_many_false_components_is_that_of_the_list() -> None:
    rng = np.random.default_rng(1)
    volumes = [Candidates(rng.random(40) + 0.4 * i, rng.random(60 + 1000 * i)) for i in range(4)]
    weights = np.array([[1.0, 1, 1, 1], [4, 0, 0, 0], [0, 0, 0, 4]])
    lists = [[volumes[i] for i in range(4) for _ in range(int(row[i]))] for row in weights]
    for chosen, result in zip(lists, froc_draws(volumes, weights, [1, 50, 200, 2000]), strict=True):
        false = np.concatenate([v.false for v in chosen])
        lesion = np.concatenate([v.lesion for v in chosen])
        for k, value in zip([1, 50, 200, 2000], result, strict=True):
            cuts = [c for c in [-np.inf, *false, *lesion] if (false >= c).sum() <= 4 * k]
            assert value == pytest.approx(max(((lesion >= c).mean() for c in cuts), default=0.0))


def test_confidences_are_the_largest_scores_and_grids_must_agree() -> None:
    lesion, found, score = scored(3)
    regions = components(found)
    expected: NDArray[np.float64] = ndimage.maximum(score, regions.labels, np.arange(1, len(regions.sizes) + 1))
    assert overlaps(components(lesion), regions, score).confidence.tolist() == list(expected)
    with pytest.raises(ValueError, match="give the scores"):
        candidates(overlaps(components(lesion), regions), 1.0)
    with pytest.raises(ValueError, match="one grid"):
        overlaps(components(lesion[1:]), regions)
    with pytest.raises(ValueError, match="one grid"):
        overlaps(components(lesion), regions, score[1:])
    assert isinstance(regions, Regions)


def test_thin_volumes_of_isolated_voxels_are_labelled() -> None:
    """Some of these masks stop cc3d 4.1 if they reach it as bool."""
    for shape in ((1, 63, 63), (3, 3, 3), (1, 1, 5), (1, 5, 1)):
        mask = np.zeros(shape, bool)
        mask[::2, ::2, ::2] = True
        assert len(components(mask).sizes) == mask.sum()
