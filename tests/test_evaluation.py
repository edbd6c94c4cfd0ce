"""The whole way from stored maps to numbers, against a second one that is written plainly with scikit-learn and scipy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import structural_similarity
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Split, Subject, Volume
from uadbench.errors import DataError, DegenerateScores, Incompatible, StoreError, UADBenchError, UsageError
from uadbench.evaluation import _check, evaluate
from uadbench.metrics.table import METRICS
from uadbench.protocol import Grid, Preparation, Protocol, Step, Threshold, variant
from uadbench.protocols import PROTOCOLS, get_protocol
from uadbench.results import Evaluation, evaluation_code, is_current
from uadbench.store import CellFolder

GRID = (6, 16, 18)
MM = (3.0, 2.0, 1.5)
BALL = np.ones((3, 3, 3), int)
ALL = Protocol("all", "every metric", tuple(METRICS), "auprc", draws=60, threshold=Threshold("healthy_fpr", 0.1),
               other_thresholds=(Threshold("val_best_dice", 0.0),))  # fmt: skip


class Maps:
    """A cell's folder with maps in memory, and the volumes that belong to them."""

    def __init__(self, seed: int = 0, *, annotated: bool = True) -> None:
        rng = np.random.default_rng(seed)
        d, h, w = np.meshgrid(*(np.linspace(-1, 1, n) for n in GRID), indexing="ij")
        inside = h**2 + w**2 + 0.3 * d**2 < 0.9
        self.volumes: dict[str, Volume] = {}
        self.maps: dict[str, FloatArray] = {}
        self.reconstructions: dict[str, FloatArray] = {}
        roles: dict[str, list[Subject]] = {"val": [], "val_lesion": [], "test_lesion": [], "test_healthy": []}
        for role, count in (("val", 4), ("val_lesion", 2), ("test_lesion", 5), ("test_healthy", 4)):
            for i in range(count):
                # Two scans of one person among the lesion subjects.
                person = f"{role}{min(i, 3)}"
                subject = Subject(person, scan=str(i), groups={"kind": "ab"[i % 2]})
                lesion = np.zeros(GRID, bool)
                if "lesion" in role and not (role == "test_lesion" and i == 2):
                    for _ in range(3):
                        z, y, x = rng.integers(0, 4), rng.integers(3, 11), rng.integers(3, 12)
                        lesion[z : z + 2, y : y + rng.integers(1, 4), x : x + rng.integers(1, 4)] = True
                score = ndimage.gaussian_filter(rng.random(GRID), 0.7) + 0.15 * lesion * rng.random(GRID)
                score = np.round(score * 200).astype(np.float32) / 200  # ties
                score[~inside] = 0.0
                mask = lesion if annotated or "lesion" not in role else None
                self.volumes[subject.key] = Volume(
                    rng.random((1, *GRID)).astype(np.float32),
                    subject=subject.key,
                    foreground=inside,
                    lesion=mask,
                    spacing=MM,
                )
                self.maps[subject.key] = score
                if role.startswith("test_"):
                    blurred = ndimage.gaussian_filter(self.volumes[subject.key].image, (0, 0, 1, 1))
                    self.reconstructions[subject.key] = np.where(inside, blurred, 0.0).astype(np.float32)
                roles[role].append(subject)
        self.split = Split((), tuple(roles["val"]), tuple(roles["test_lesion"]), tuple(roles["test_healthy"]),
                           tuple(roles["val_lesion"]))  # fmt: skip

    def read_map(self, key: str, grid: tuple[int, ...] | None = None) -> tuple[FloatArray, dict[int, float]]:
        return self.maps[key], {}

    def read_reconstruction(self, key: str) -> FloatArray | None:
        return self.reconstructions.get(key)

    def run(self, protocol: Protocol) -> Evaluation:
        return evaluate(self, lambda s: self.volumes[s.key], self.split, protocol)  # type: ignore[arg-type]

    def values(self, subject: Subject) -> tuple[FloatArray, BoolArray]:
        volume = self.volumes[subject.key]
        assert volume.foreground is not None
        assert volume.lesion is not None
        return self.maps[subject.key][volume.foreground], volume.lesion[volume.foreground]


def nanmean_by_person(values: dict[str, float], person: dict[str, str]) -> float:
    people: dict[str, list[float]] = {}
    for key, value in values.items():
        people.setdefault(person[key], []).append(value)
    means = [np.nanmean(v) for v in people.values() if np.isfinite(v).any()]
    return float(np.mean(means)) if means else float("nan")


def surface(mask: BoolArray) -> FloatArray:
    """Coordinates in mm of the voxels of a mask with a face neighbour outside."""
    border = mask & ~ndimage.binary_erosion(mask)
    return np.argwhere(border) * np.array(MM)


def plain(maps: Maps) -> dict[str, float]:
    """Every metric of the protocol ALL, written down a second time."""
    split = maps.split
    healthy = np.sort(np.concatenate([maps.values(s)[0] for s in split.val]))
    threshold = healthy[len(healthy) - 1 - int(0.1 * len(healthy))]
    val = [np.concatenate(x) for x in zip(*(maps.values(s) for s in split.val_lesion), strict=True)]
    best_val = max(np.unique(val[0]), key=lambda t: f1_score(val[1], val[0] > t))
    ill = [s for s in split.test_lesion if maps.values(s)[1].any()]
    pooled_s, pooled_l = (np.concatenate(x) for x in zip(*(maps.values(s) for s in ill), strict=True))
    levels = np.unique(np.concatenate([maps.values(s)[0] for s in ill]))
    out: dict[str, float] = {}
    per: dict[str, dict[str, float]] = {}
    person = {s.key: s.id for s in split.test_lesion}

    def put(name: str, subject: Subject, value: float) -> None:
        per.setdefault(name, {})[subject.key] = value

    sizes: list[tuple[float, float]] = []
    false: list[float] = []
    tops: list[float] = []
    normal = [np.sort(maps.values(s)[0])[::-1] for s in split.test_healthy]
    for s in ill:
        score, lesion = maps.values(s)
        found = score > threshold
        put("auprc", s, average_precision_score(lesion, score))
        put("auroc", s, roc_auc_score(lesion, score))
        put("dice", s, f1_score(lesion, found))
        put("dice_val_best", s, f1_score(lesion, score > best_val))
        put("iou", s, (found & lesion).sum() / (found | lesion).sum())
        put("precision", s, (found & lesion).sum() / found.sum())
        put("recall", s, (found & lesion).sum() / lesion.sum())
        put("specificity", s, (~found & ~lesion).sum() / (~lesion).sum())
        put("oracle_dice_subject", s, max(f1_score(lesion, score >= t) for t in np.unique(score)))
        volume = maps.volumes[s.key]
        mask = volume.lesion & volume.foreground  # type: ignore[operator]
        hot = (maps.maps[s.key] > threshold) & volume.foreground
        labels, count = ndimage.label(mask, BALL)
        parts, number = ndimage.label(hot, BALL)
        hit = [bool((hot & (labels == k)).any()) for k in range(1, count + 1)]
        wrong = [k for k in range(1, number + 1) if not (mask & (parts == k)).any()]
        recall, precision = np.mean(hit), 1 - len(wrong) / number if number else np.nan
        put("lesion_recall", s, recall)
        put("lesion_precision", s, precision)
        put("lesion_f1", s, 2 * recall * precision / (recall + precision) if any(hit) else 0.0)
        ml = np.array([(labels == k).sum() * np.prod(MM) / 1000 for k in range(1, count + 1)])
        for name, chosen in (("small", ml < 0.1), ("medium", (ml >= 0.1) & (ml < 1)), ("large", ml >= 1)):
            put(f"lesion_recall_{name}", s, np.mean(np.array(hit)[chosen]) if chosen.any() else np.nan)
        top = ndimage.maximum(maps.maps[s.key], parts, range(1, number + 1))
        false += [top[k - 1] for k in wrong]
        for k in range(1, count + 1):
            touching = [top[j - 1] for j in np.unique(parts[labels == k]) if j]
            tops.append(max(touching, default=-np.inf))
        sizes += list(zip(ml, hit, strict=True))
        a, b = surface(hot), surface(mask)
        gap = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)) if len(a) else np.zeros((0, len(b)))
        ab, ba = gap.min(1), gap.min(0)
        put("hd95", s, max(np.percentile(ab, 95), np.percentile(ba, 95)))
        put("hd100", s, max(ab.max(), ba.max()))
        put("nsd", s, ((ab <= 2).sum() + (ba <= 2).sum()) / (len(ab) + len(ba)))
        put("avd", s, 100 * abs(int(hot.sum()) - int(mask.sum())) / mask.sum())
        put("aupimo", s, np.nan)  # Four healthy subjects of under a thousand voxels cannot resolve a rate of 1e-5.
    out |= {name: nanmean_by_person(values, person) for name, values in per.items() if name != "aupimo"}
    out["aupimo"] = np.nan
    assert sum(len(n) for n in normal) < 1e5
    for name in ("auprc", "dice"):
        people: dict[str, list[float]] = {}
        for key, v in per[name].items():
            people.setdefault(person[key], []).append(v)
        out[f"{name}_median"] = float(np.median([np.mean(v) for v in people.values()]))
    out["auprc_pooled"] = average_precision_score(pooled_l, pooled_s)
    out["auroc_pooled"] = roc_auc_score(pooled_l, pooled_s)
    out["dice_pooled"] = f1_score(pooled_l, pooled_s > threshold)
    out["oracle_dice"] = max(f1_score(pooled_l, pooled_s >= t) for t in levels)
    out["oracle_dice_shared"] = max(
        np.mean([f1_score(maps.values(s)[1], maps.values(s)[0] >= t) for s in ill]) for t in levels
    )
    for k in (1, 2, 4, 8):
        cuts = [c for c in {*tops, *false, np.inf} if np.sum(np.array(false) >= c) <= k * len(ill) and c > -np.inf]
        out[f"froc_{k}"] = float(np.mean(np.array(tops) >= min(cuts)))
    for name, limit in (("aupro", 0.3), ("aupro_05", 0.05)):
        out[name] = plain_aupro(maps, ill, limit, BALL)
        out[name.replace("aupro", "aupro_2d")] = plain_aupro(maps, ill, limit, BALL * [[[0]], [[1]], [[0]]])
    shown = {s.key: plain_restoration(maps, s) for s in (*ill, *split.test_healthy)}
    out["recon_l1"], out["recon_ssim"] = np.mean([shown[s.key]["tissue"] for s in split.test_healthy], axis=0)
    for i, name in enumerate(("recon_l1_lesion", "recon_ssim_lesion")):
        out[name] = nanmean_by_person({s.key: shown[s.key]["lesion"][i] for s in ill}, person)
    fp = {s.key: (maps.values(s)[0] > threshold) for s in split.test_healthy}
    hot = {s.key: (maps.maps[s.key] > threshold) & maps.volumes[s.key].foreground for s in split.test_healthy}
    out["healthy_fp_ml"] = np.mean([f.sum() * np.prod(MM) / 1000 for f in fp.values()])
    out["healthy_fpr"] = np.mean([f.mean() for f in fp.values()])
    out["healthy_realised"] = np.mean([f.mean() / 0.1 for f in fp.values()])
    out["healthy_components"] = np.mean([ndimage.label(m, BALL)[1] for m in hot.values()])
    out["healthy_slices"] = np.mean([m.any(axis=(1, 2)).mean() for m in hot.values()])
    out["healthy_flagged"] = np.mean([f.any() for f in fp.values()])
    everyone = [*split.test_lesion, *split.test_healthy]
    score = np.array(
        [np.sort(maps.values(s)[0])[::-1][: -(-len(maps.values(s)[0]) // 100)].mean(dtype=float) for s in everyone]
    )
    label = np.array([s in split.test_lesion for s in everyone])
    out |= {f"subject_{k}": v for k, v in plain_detection(label, score).items()}
    label, score = [], []  # type: ignore[assignment]
    for s in everyone:
        volume = maps.volumes[s.key]
        for z in range(GRID[0]):
            values = np.sort(maps.maps[s.key][z][volume.foreground[z]])[::-1]  # type: ignore[index]
            if len(values):
                score.append(values[: -(-len(values) // 100)].mean(dtype=float))  # type: ignore[attr-defined]
                label.append((volume.lesion[z] & volume.foreground[z]).any())  # type: ignore[attr-defined,index]
    return out | {f"slice_{k}": v for k, v in plain_detection(np.array(label), np.array(score)).items()}


def plain_detection(label: Any, score: Any) -> dict[str, float]:
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    at = {f"tpr_fpr{100 * x:02.0f}": tpr[fpr <= x].max() for x in (0.01, 0.05, 0.1)}
    return {"auroc": roc_auc_score(label, score), "ap": average_precision_score(label, score), **at,
            "fpr_tpr95": fpr[tpr >= 0.95].min()}  # fmt: skip


def plain_restoration(maps: Maps, subject: Subject) -> dict[str, tuple[float, float]]:
    """l1 and SSIM in the foreground and in the lesions, of the image on the scale that methods see."""
    volume, rebuilt = maps.volumes[subject.key], maps.reconstructions[subject.key][0]
    assert volume.foreground is not None
    assert volume.lesion is not None
    low, high = np.percentile(volume.image[0][volume.foreground], [1, 99])
    image = np.where(volume.foreground, np.maximum((volume.image[0] - low) / (high - low), 0), 0)
    near = np.stack([
        structural_similarity(a.astype(float), b.astype(float), data_range=1.0, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False, full=True)[1]
        for a, b in zip(image, rebuilt, strict=True)
    ])  # fmt: skip
    regions = {"tissue": volume.foreground, "lesion": volume.lesion & volume.foreground}
    off = np.abs(image - rebuilt)
    return {name: (off[where].mean(), near[where].mean()) for name, where in regions.items() if where.any()}


def plain_aupro(maps: Maps, ill: list[Subject], limit: float, near: Any) -> float:
    regions, healthy = [], []
    for s in ill:
        volume = maps.volumes[s.key]
        labels, count = ndimage.label(volume.lesion & volume.foreground, near)  # type: ignore[operator]
        regions += [maps.maps[s.key][labels == k] for k in range(1, count + 1)]
        healthy.append(maps.maps[s.key][volume.foreground & ~volume.lesion])  # type: ignore[operator]
    normal = np.concatenate(healthy)
    levels = np.unique(np.concatenate([normal, *regions]))[::-1]
    rate = np.array([0.0, *((normal >= t).mean() for t in levels)])
    overlap = np.array([0.0, *(np.mean([(r >= t).mean() for r in regions]) for t in levels)])
    grid = np.unique([*rate[rate < limit], limit])
    upper = np.interp(limit, rate, overlap)
    kept = rate < limit
    x, y = np.append(rate[kept], limit), np.append(overlap[kept], upper)
    assert len(grid) <= len(x)
    return float(np.trapezoid(y, x) / limit) if hasattr(np, "trapezoid") else float(np.trapz(y, x) / limit)


@pytest.fixture(scope="module")
def both() -> tuple[Evaluation, dict[str, float]]:
    maps = Maps()
    return maps.run(ALL), plain(maps)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_is_what_a_plain_program_computes(name: str, both: tuple[Evaluation, dict[str, float]]) -> None:
    found, expected = both
    assert found.result.metrics[name].value == pytest.approx(expected[name], abs=1e-6, nan_ok=True)


def test_intervals_hold_their_value_and_empty_references_are_counted(both: tuple[Evaluation, dict[str, float]]) -> None:
    result = both[0].result
    for name, value in result.metrics.items():
        if np.isfinite(value.ci_low) and "median" not in name:
            assert value.ci_low - 1e-9 <= value.value <= value.ci_high + 1e-9, name
    assert result.metrics["auprc"].n == 3  # 5 scans of 4 people, one of whom has no lesion
    assert result.metrics["auprc"].excluded == 1
    assert result.metrics["aupimo"].n == 0
    assert result.thresholds.keys() == {"healthy_fpr(0.1)", "val_best_dice"}
    together = {m.name for m in METRICS.values() if m.compute is None}
    assert set(both[0].draws) == together | {f"{name}/without" for name in together}
    recall = np.mean([np.mean([r["hit"] for r in both[0].lesions if r["subject"] == "test_lesion1_1"])])
    row = next(r for r in both[0].subjects if r["subject"] == "test_lesion1_1")
    assert recall == row["lesion_recall"]


def test_many_subjects_need_no_more_memory_and_give_the_same(
    both: tuple[Evaluation, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uadbench.pool.KEPT", 2)
    again = Maps().run(ALL)
    assert again.result.metrics == both[0].result.metrics or repr(again.result) == repr(both[0].result)
    for name, draws in both[0].draws.items():
        np.testing.assert_array_equal(draws, again.draws[name])


def test_too_coarse_histograms_are_replaced_by_exact_values() -> None:
    maps = Maps()
    for key, score in maps.maps.items():
        rng = np.random.default_rng(len(key) + int(key[-1]))
        maps.maps[key] = np.where(score > 0, 0.5 + 1e-6 * rng.random(GRID), 0.0).astype(np.float32)
    wanted = ("auprc", "auprc_pooled", "auroc_pooled", "oracle_dice", "aupro", "aupro_2d_05")
    found = maps.run(replace(ALL, metrics=wanted)).result
    assert [found.pooled[key] for key in ("path", "aupro_path", "aupro_2d_path")] == ["exact"] * 3
    ill = [s for s in maps.split.test_lesion if maps.values(s)[1].any()]
    score, lesion = (np.concatenate(x) for x in zip(*(maps.values(s) for s in ill), strict=True))
    assert found.metrics["auprc_pooled"].value == pytest.approx(average_precision_score(lesion, score), abs=1e-9)
    assert found.metrics["aupro"].value == pytest.approx(plain_aupro(maps, ill, 0.3, BALL), abs=1e-9)
    flat = plain_aupro(maps, ill, 0.05, BALL * [[[0]], [[1]], [[0]]])
    assert found.metrics["aupro_2d_05"].value == pytest.approx(flat, abs=1e-9)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_protocol_evaluates(name: str) -> None:
    protocol = replace(PROTOCOLS[name], draws=20)
    result = Maps().run(protocol).result
    assert list(result.metrics) == list(protocol.metrics)
    assert result.labels_used == protocol.threshold.labels_used
    assert np.isfinite(result.metrics[protocol.rank_by].value)
    assert is_current(result, protocol)
    assert not is_current(result, replace(protocol, draws=21))
    assert not is_current(replace(result, code="older"), protocol)
    assert result.code == evaluation_code()


def test_the_published_chain_is_the_plain_one() -> None:
    """mddpm-paper against its steps written with scipy: erosion, median, halving, small components, Dice."""
    maps = Maps(3)
    protocol = replace(get_protocol("mddpm-paper"), draws=20, grid=None)

    def chain(subject: Subject) -> tuple[FloatArray, BoolArray]:
        volume = maps.volumes[subject.key]
        cross = ndimage.generate_binary_structure(2, 1)
        mask = volume.foreground
        eroded = np.stack([ndimage.binary_erosion(m, cross, iterations=1) for m in mask])  # type: ignore[union-attr]
        out = ndimage.median_filter(np.where(eroded, maps.maps[subject.key], 0.0), size=5)
        return out, volume.lesion  # type: ignore[return-value]

    wide = Step("erode", 1)  # 18 // 25 would be no erosion at all
    protocol = replace(protocol, postprocess=(wide, *protocol.postprocess[1:]))
    result = maps.run(protocol).result
    val = [chain(s) for s in maps.split.val_lesion]
    low, high, best, threshold = 0.0, max(float(s.max()) for s, _ in val), 0.0, 0.0
    for _ in range(10):
        points = [low + q * (high - low) for q in (0.25, 0.75)]
        dice = []
        for point in points:
            found = np.concatenate([(s > point).ravel() for s, _ in val])
            truth = np.concatenate([m.ravel() for _, m in val])
            dice.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
        k = 0 if dice[0] >= dice[1] else 1
        if dice[k] >= best:
            best, threshold = dice[k], points[k]
        middle = low + 0.5 * (high - low)
        low, high = (low, middle) if k == 0 else (middle, high)
    assert result.threshold == pytest.approx(threshold, abs=1e-12)
    expected: dict[str, list[float]] = {}
    for s in maps.split.test_lesion:
        score, lesion = chain(s)
        if not lesion.any():
            continue
        labels, count = ndimage.label(score > threshold, BALL)
        sizes = ndimage.sum_labels(np.ones(GRID), labels, range(1, count + 1))
        found = np.isin(labels, 1 + np.flatnonzero(sizes > 7))
        expected.setdefault(s.id, []).append(2 * (found & lesion).sum() / (found.sum() + lesion.sum()))
    assert result.metrics["dice"].value == pytest.approx(np.mean([np.mean(v) for v in expected.values()]), abs=1e-12)


def test_thresholds_never_see_a_test_subject_and_say_whose_labels_they_read() -> None:
    maps = Maps()
    base = maps.run(replace(ALL, metrics=("dice",))).result
    for subject in maps.split.test_lesion:
        maps.maps[subject.key] = maps.maps[subject.key] * 3 + 1
    assert maps.run(replace(ALL, metrics=("dice",))).result.thresholds == base.thresholds
    for policy in ("healthy_subject_max", "conformal", "val_best_dice", "val_bisection", "oracle"):
        rule = Threshold(policy, 0.25)
        result = Maps().run(replace(ALL, threshold=rule, other_thresholds=(), metrics=("dice",))).result
        assert result.labels_used == rule.labels_used
    assert Maps().run(replace(ALL, threshold=Threshold("fixed", 0.4), metrics=("dice",))).result.threshold == 0.4


def test_an_oracle_threshold_is_the_best_one_and_never_ranks() -> None:
    maps = Maps()
    chosen = replace(ALL, threshold=Threshold("oracle"), metrics=("dice_pooled", "oracle_dice"))
    metrics = maps.run(chosen).result.metrics
    assert metrics["dice_pooled"].value == pytest.approx(metrics["oracle_dice"].value, abs=1e-12)


def test_too_few_healthy_subjects_make_the_threshold_infinite() -> None:
    result = Maps().run(replace(ALL, threshold=Threshold("conformal", 0.1), metrics=("dice", "healthy_flagged"))).result
    assert result.threshold == float("inf")
    assert result.metrics["dice"].value == 0.0
    assert result.metrics["healthy_flagged"].value == 0.0


def test_lesions_without_masks_leave_the_image_level() -> None:
    with pytest.raises(DataError, match="E-DATA-404: test_lesion0_0 is in test_lesion but has no lesion mask"):
        Maps(annotated=False).run(replace(ALL, other_thresholds=()))
    result = Maps(annotated=False).run(replace(ALL, other_thresholds=(), masks=False)).result
    assert np.isnan(result.metrics["auprc"].value)
    assert result.metrics["auprc"].excluded == 4
    assert np.isfinite(result.metrics["subject_auroc"].value)
    assert np.isfinite(result.metrics["healthy_fpr"].value)


def test_labelled_validation_subjects_are_asked_for_where_there_are_none() -> None:
    maps = Maps()
    maps.split = replace(maps.split, val_lesion=())
    with pytest.raises(Incompatible, match=r"chooses its threshold by val_best_dice.*--threshold healthy_fpr:0.05"):
        maps.run(ALL)


def test_constant_maps_are_no_result() -> None:
    maps = Maps()
    for key in maps.maps:
        maps.maps[key] = np.zeros(GRID, np.float32)
    with pytest.raises(DegenerateScores, match="constant map"):
        maps.run(ALL)


def test_numbers_that_cannot_both_be_right_are_refused() -> None:
    _check(0.33, 0.269, "x")
    with pytest.raises(UADBenchError, match="impossible with a largest Dice"):
        _check(0.34, 0.269, "x")
    _check(float("nan"), 0.2, "x")


def test_a_grid_moves_maps_and_masks_alike() -> None:
    maps = Maps()
    whole = replace(
        ALL, metrics=("auprc", "dice", "recall"), grid=Grid((3.0, 2.0, 3.0), (6, 16, 9)), other_thresholds=()
    )
    moved = maps.run(whole).result
    native = maps.run(replace(whole, grid=None)).result
    assert moved.metrics["auprc"].value == pytest.approx(native.metrics["auprc"].value, abs=0.12)
    assert moved.metrics["auprc"].value != native.metrics["auprc"].value
    same = maps.run(replace(whole, grid=Grid(MM, GRID))).result
    assert same.metrics == native.metrics
    padded = maps.run(replace(whole, grid=Grid(MM, (8, 20, 22)))).result
    assert padded.metrics["auprc"].value == pytest.approx(native.metrics["auprc"].value, abs=1e-12)


def test_a_map_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = CellFolder(tmp_path)
    folder.write_map("a", np.ones((2, 3, 4), np.float32), {})
    with pytest.raises(StoreError, match=r"has the shape \(2, 3, 4\) but its subject has \(2, 3, 5\)"):
        folder.read_map("a", (2, 3, 5))


def test_variants_of_a_protocol_have_a_name_of_their_own() -> None:
    base = get_protocol("brain-v1")
    bare = variant(base, without=["median"])
    assert bare.name == "brain-v1 (without median)"
    assert bare.postprocess == ()
    strict = variant(base, threshold=Threshold.parse("healthy_fpr:0.01"))
    assert strict.name == "brain-v1 (healthy_fpr(0.01))"
    assert variant(base) is base
    with pytest.raises(UsageError, match="has no step 'erode'; its steps: median"):
        variant(base, without=["erode"])
    with pytest.raises(UsageError, match="Did you mean 'healthy_fpr'"):
        Threshold.parse("healthy_fp:0.1")
    with pytest.raises(UsageError, match="is no number"):
        Threshold.parse("healthy_fpr:x")
    assert base.preparation == Preparation()


def test_a_rule_without_labels_makes_any_protocol_free_of_them() -> None:
    maps = Maps()
    maps.split = replace(maps.split, val_lesion=())
    free = variant(get_protocol("mddpm-paper"), threshold=Threshold("healthy_fpr", 0.05))
    assert free.name == "mddpm-paper (healthy_fpr(0.05))"
    result = maps.run(replace(free, draws=20)).result
    assert result.labels_used == "none"
    assert "dice_val_best" not in result.metrics


def test_the_jackknife_leaves_out_one_person_at_a_time(both: tuple[Evaluation, dict[str, float]]) -> None:
    """AUROC of subjects without each person, and pooled Dice without each person, recomputed from fewer subjects."""
    maps, draws = Maps(), both[0].draws
    ill = [s for s in maps.split.test_lesion if maps.values(s)[1].any()]
    people = list(dict.fromkeys(s.id for s in ill))
    threshold = both[0].result.threshold
    for i, person in enumerate(people):
        rest = [maps.values(s) for s in ill if s.id != person]
        score, lesion = (np.concatenate(x) for x in zip(*rest, strict=True))
        assert draws["dice_pooled/without"][i] == pytest.approx(f1_score(lesion, score > threshold), abs=1e-6)
        assert draws["auprc_pooled/without"][i] == pytest.approx(average_precision_score(lesion, score), abs=2e-3)
    assert len(draws["subject_auroc/without"]) == 8


def test_slices_are_counted_once_and_healthy_ones_need_no_mask() -> None:
    """Healthy slices of a patient are in the whole scan already; healthy scans mostly come without a mask file."""
    maps = Maps()
    some = replace(ALL, metrics=("slice_auroc", "slice_ap"), other_thresholds=())
    before = maps.run(some).result.metrics
    for subject in maps.split.test_healthy:
        maps.volumes[subject.key] = replace(maps.volumes[subject.key], lesion=None)
    assert maps.run(some).result.metrics == before
    patient = maps.split.test_lesion[0]
    twin = replace(patient, scan="healthy")
    maps.volumes[twin.key] = replace(maps.volumes[patient.key], subject=twin.key, lesion=None)
    maps.maps[twin.key] = maps.maps[patient.key]
    maps.split = replace(maps.split, test_healthy=(*maps.split.test_healthy, twin))
    assert maps.run(some).result.metrics == before


def test_without_healthy_subjects_nothing_is_told_apart() -> None:
    maps = Maps()
    maps.split = replace(maps.split, test_healthy=())
    result = maps.run(replace(ALL, other_thresholds=())).result
    for name in ("subject_auroc", "subject_ap", "subject_tpr_fpr05", "healthy_fpr", "aupimo"):
        assert np.isnan(result.metrics[name].value), name
    assert np.isfinite(result.metrics["slice_auroc"].value)


def test_what_a_grid_crops_is_counted_as_not_seen() -> None:
    maps = Maps()
    cropped = replace(ALL, metrics=("auprc",), grid=Grid(MM, (3, 16, 18)), other_thresholds=(), region="box")
    found = maps.run(cropped).result.lesion_outside
    total = seen = 0
    for subject in maps.split.test_lesion:
        lesion = maps.volumes[subject.key].lesion
        assert lesion is not None
        total += lesion.sum()
        seen += lesion[1:4].sum()
    assert found == pytest.approx(1 - seen / total, abs=0.02)
    assert found > 0.1


def test_constant_and_broken_maps_fail_in_every_region() -> None:
    for region in ("foreground", "box"):
        maps = Maps()
        for subject in maps.split.test_lesion + maps.split.test_healthy:
            maps.maps[subject.key] = np.where(maps.volumes[subject.key].foreground, 0.5, 0.0).astype(np.float32)
        with pytest.raises(DegenerateScores, match="constant map"):
            maps.run(replace(ALL, region=region, metrics=("auroc",)))  # type: ignore[arg-type]
    for role in ("val", "test_lesion", "test_healthy"):
        maps = Maps()
        maps.maps[getattr(maps.split, role)[0].key][2, 8, 9] = np.nan
        with pytest.raises(DegenerateScores, match="1 of 1728 scores of .* are NaN or infinite"):
            maps.run(replace(ALL, metrics=("auroc",)))


def test_what_is_to_be_ignored_counts_for_no_threshold() -> None:
    maps = Maps()
    plain = maps.run(replace(ALL, metrics=("dice",), other_thresholds=())).result
    for subject in maps.split.val:
        ignore = np.zeros(GRID, bool)
        ignore[:2] = True
        maps.volumes[subject.key] = replace(maps.volumes[subject.key], ignore=ignore)
        maps.maps[subject.key][:2] += 5.0
    result = maps.run(replace(ALL, metrics=("dice",), other_thresholds=())).result
    assert result.threshold == pytest.approx(plain.threshold, abs=0.05)


def test_rates_that_nothing_can_promise_are_refused() -> None:
    for text in ("healthy_fpr:1.5", "conformal:0", "fixed:nan", "healthy_subject_max:-0.1"):
        with pytest.raises(UsageError, match="the rate .* must be"):
            Threshold.parse(text)
    assert Threshold.parse("fixed:-3").rate == -3
    assert variant(get_protocol("mddpm-paper"), threshold=Threshold.parse("val_bisection")).name == "mddpm-paper"


def test_a_threshold_that_cannot_be_chosen_is_a_reason() -> None:
    maps = Maps()
    for subject in maps.split.val_lesion:
        maps.volumes[subject.key] = replace(maps.volumes[subject.key], lesion=np.zeros(GRID, bool))
    with pytest.raises(Incompatible, match="val_best_dice cannot be chosen: no voxel of these subjects is a lesion"):
        maps.run(ALL)


def test_hit_criterion_and_reduction_can_be_chosen() -> None:
    base = replace(get_protocol("brain-v1"), draws=20)
    other = variant(base, hit="iou", reduction="max")
    assert other.name == "brain-v1 (hit by iou, scored by max)"
    maps = Maps()
    a, b = maps.run(base).result.metrics, maps.run(other).result.metrics
    assert a["lesion_recall"].value > b["lesion_recall"].value
    assert a["subject_auroc"].value != b["subject_auroc"].value
    assert a["auprc"] == b["auprc"]
    with pytest.raises(UsageError, match="Did you mean 'centroid'"):
        variant(base, hit="centroids")
    with pytest.raises(UsageError, match="no reduction is called 'p50'"):
        variant(base, reduction="p50")
