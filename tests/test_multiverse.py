"""The multiverse: every pipeline equals `evaluate`, nothing peeks, and what it says of ranks is what was defined."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from conftest import PLUGINS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from uadbench.cli import multiverse as command
from uadbench.dataset import Split, Subject, Volume
from uadbench.errors import BadParameter, Incompatible, Interrupted, UnknownName, UsageError
from uadbench.evaluation import by_person, evaluate
from uadbench.metrics import Case
from uadbench.metrics.lesions import LesionCounts, overlaps
from uadbench.metrics.regions import components
from uadbench.multiverse import DIMENSIONS, USES, Pipeline, PipelineGrid, load_grid, parse_grid
from uadbench.multiverse_picture import _figure, draw_multiverse
from uadbench.multiverse_ranks import REST, Multiverse, ranks_of, variance_shares
from uadbench.multiverse_scores import Source, score_methods, thresholds_of, work
from uadbench.multiverse_views import halved, halved_map, without
from uadbench.opening import fingerprint_of
from uadbench.postprocess import clean, postprocess
from uadbench.protocol import Protocol, Step
from uadbench.protocols import get_protocol
from uadbench.registry import Registry
from uadbench.result import Cell
from uadbench.store import CellFolder

BASE = replace(get_protocol("brain-v1"), min_lesion_ml=0.006, draws=2)
GRID = {
    "metric": ["auprc", "auroc", "dice", "iou", "precision", "recall", "lesion_recall", "lesion_precision", "lesion_f1"],
    "aggregate": ["mean", "median", "pooled"],
    "resolution": ["native", "half"],
    "postprocess": ["none", "erode 1 + median 3", "gaussian 0.7"],
    "threshold": ["healthy_fpr:0.05", "conformal:0.4", "val_best_dice", "val_bisection"],
    "found_steps": ["none", "remove_small 3", "remove_small_filled 30"],
    "hit": ["any", "share", "iou", "centroid"],
}  # fmt: skip
SPLIT = Split(
    train=(Subject("t"),),
    val=tuple(Subject(f"v{i}") for i in range(3)),
    val_lesion=(Subject("m0"), Subject("m1")),
    test_lesion=(Subject("a", "1"), Subject("a", "2"), *(Subject(name) for name in "bcde")),
)


@dataclass
class Data:
    """Random volumes with an odd number of voxels; remembers what was opened."""

    opened: list[str] = field(default_factory=list)

    def load(self, subject: Subject) -> Volume:
        self.opened.append(subject.key)
        rng = np.random.default_rng([ord(c) for c in subject.key])
        shape = (5, 23, 20)
        y, x = np.mgrid[-1:1:23j, -1:1:20j]
        tissue = np.broadcast_to(y**2 + x**2 < 0.9, shape).copy()
        lesion = gaussian_filter(rng.standard_normal(shape), 1.0) > 0.3
        if subject.key == "e":  # Its lesions lie outside the foreground: no metric has a value.
            lesion &= ~tissue
        ignore = np.zeros(shape, bool)
        ignore[:, :4, :9] = subject.key == "b"
        return Volume(np.ones((1, *shape), np.float32), tissue, lesion, (2.0, 1.0, 1.0), subject.key, ignore)


def maps(path: Path, seed: int, data: Data) -> CellFolder:
    """Store random maps that know something of the lesions."""
    folder = CellFolder(path)
    for number, (role, subject) in enumerate(SPLIT.items()):
        volume = data.load(subject)
        assert volume.lesion is not None
        rng = np.random.default_rng([seed, number])
        signal = 0.0 if role == "val" else gaussian_filter(volume.lesion.astype(float), 0.8)
        score = np.abs(gaussian_filter(rng.standard_normal(volume.grid), 0.8)) + 0.4 * signal
        folder.write_map(subject.key, np.where(volume.foreground, score, 0.0).astype(np.float32), {})
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    data = Data()
    return Source(maps(tmp_path_factory.mktemp("maps"), 1, data), data.load, SPLIT)


def blocks(shape: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Every voxel of the half grid and its block, one by one."""
    for place in np.ndindex(*(-(-n // 2) if n > 1 else 1 for n in shape)):
        yield place, tuple(slice(2 * i, 2 * i + 2) for i in place)


def half_by_hand(volume: Volume) -> Volume:
    shape = tuple(-(-n // 2) if n > 1 else 1 for n in volume.grid)
    masks = {}
    for name in ("foreground", "lesion", "ignore"):
        mask = getattr(volume, name)
        masks[name] = None if mask is None else np.zeros(shape, bool)
        for place, block in blocks(volume.grid) if mask is not None else ():
            masks[name][place] = mask[block].mean() >= 0.5
    d, h, w = volume.spacing or (np.nan,) * 3
    return replace(volume, image=np.zeros((1, *shape), np.float32), spacing=(2 * d, 2 * h, 2 * w), **masks)


class HalfFolder(CellFolder):
    """The maps of another folder at half the resolution."""

    load = Data().load

    def read_map(self, key: str, grid: tuple[int, ...] | None = None):  # type: ignore[no-untyped-def]
        score, own = super().read_map(key)
        tissue = self.load(Subject(key.partition("_")[0], key.partition("_")[2])).foreground
        out = np.zeros([-(-n // 2) for n in score.shape], np.float32)
        for place, block in blocks(score.shape):
            if tissue[block].any():
                out[place] = score[block][tissue[block]].astype(np.float64).mean()
        assert out.shape == grid
        return out, own


def by_evaluation(source: Source, grid: PipelineGrid, p: Pipeline) -> dict[str, float]:
    """Evaluate under the protocol with the choices of a pipeline; all metrics with its aggregation."""
    protocol = replace(
        BASE,
        postprocess=grid.postprocess[p.postprocess],
        threshold=grid.threshold[p.threshold],
        found_steps=grid.found_steps[p.found_steps],
        hit=p.hit,
        metrics=(*USES, "auprc_pooled", "auroc_pooled", "dice_pooled"),
    )
    folder, load = source.folder, source.load
    if p.resolution == "half":
        folder, load = HalfFolder(folder.path), lambda subject: half_by_hand(source.load(subject))
    found = evaluate(folder, load, source.split, protocol)
    rows = [row for row in found.subjects if row["role"] == "test_lesion"]
    if p.aggregate == "mean":
        return {name: found.result.metrics[name].value for name in USES}
    if p.aggregate == "median":
        return {name: float(pd.Series(by_person(rows, name)).median()) for name in USES}
    cases = [case_of(folder, load(subject), subject, protocol, found.result.threshold) for subject in SPLIT.test_lesion]
    cases = [case for case in cases if case.lesion.any()]
    counts, voxels = [c.lesion_counts for c in cases], [c.confusion for c in cases]
    parts = (np.concatenate([getattr(c, name) for c in counts]) for name in ("voxels", "ml", "hit"))
    lesions = LesionCounts(*parts, sum(c.predicted for c in counts), sum(c.false for c in counts))
    tp, fp, fn = (sum(getattr(c, name) for c in voxels) for name in ("tp", "fp", "fn"))
    pooled = {name: found.result.metrics[f"{name}_pooled"].value for name in ("auprc", "auroc", "dice")}
    return pooled | {
        "iou": tp / (tp + fp + fn), "precision": tp / (tp + fp) if tp + fp else np.nan, "recall": tp / (tp + fn),
        "lesion_recall": lesions.recall, "lesion_precision": lesions.precision, "lesion_f1": lesions.f1,
    }  # fmt: skip


def case_of(folder: CellFolder, volume: Volume, subject: Subject, protocol: Protocol, threshold: float) -> Case:
    score, _ = postprocess(folder.read_map(subject.key, volume.grid)[0], volume.foreground, protocol.postprocess)
    assert volume.foreground is not None and volume.ignore is not None and volume.lesion is not None
    where = volume.foreground & ~volume.ignore
    return Case(score[where], volume.lesion[where], threshold, volume.voxel_ml, where, protocol=protocol)


def test_every_pipeline_is_what_evaluate_gives(source: Source) -> None:
    grid = parse_grid(GRID)
    values = score_methods({"m": [source]}, grid, BASE)[:, 0]
    found = dict(zip(grid.pipelines(), values, strict=True))
    assert len(found) == len(grid.pipelines())
    rng, checked = np.random.default_rng(0), set()
    lesion_wise = [p for p in grid.pipelines() if p.metric == "lesion_f1"]
    for p in (lesion_wise[i] for i in rng.permutation(len(lesion_wise))[:26]):
        for metric, wanted in by_evaluation(source, grid, p).items():
            chosen = {name: getattr(p, name) for name in USES[metric]}
            assert found[Pipeline(metric, **chosen)] == pytest.approx(wanted, abs=1e-12, nan_ok=True), (metric, p)
            checked |= {(metric, name, choice) for name, choice in chosen.items()}
    # Every choice of every dimension was among those compared, for every metric that depends on it.
    assert checked == {(m, d, c) for m, used in USES.items() for d in used for c in grid.choices(d)}
    assert len(set(np.round(values, 9))) > 500


def test_the_box_and_the_grid_of_the_protocol_are_kept(source: Source) -> None:
    base = replace(get_protocol("mddpm-paper"), draws=2, threshold=parse_grid(GRID).threshold["val_best_dice"])
    grid = parse_grid(
        GRID | {"metric": ["dice"], "postprocess": ["erode 0 + median_box 3"], "aggregate": ["mean"], "hit": ["any"],
                "resolution": ["native"], "threshold": ["val_best_dice"], "found_steps": ["remove_small_filled 7"]}
    )  # fmt: skip
    base = replace(
        base,
        postprocess=next(iter(grid.postprocess.values())),
        metrics=("dice",),
        grid=replace(base.grid, shape=(6, 10, 12)),
    )
    assert score_methods({"m": [source]}, grid, base)[0, 0] == pytest.approx(
        evaluate(source.folder, source.load, SPLIT, base).result.metrics["dice"].value, abs=1e-12
    )


def test_seeds_and_folds_are_averaged_per_person_first(source: Source, tmp_path: Path) -> None:
    other = replace(SPLIT, test_lesion=SPLIT.test_lesion[1:4])
    second = Source(maps(tmp_path, 2, Data()), source.load, other)
    grid = parse_grid(GRID | {"metric": ["auprc"], "resolution": ["native"], "postprocess": ["none"]})
    found = dict(zip(grid.pipelines(), score_methods({"m": [source, second]}, grid, BASE)[:, 0], strict=True))
    protocol = replace(BASE, postprocess=(), metrics=("auprc", "auprc_pooled"))
    results = [evaluate(s.folder, s.load, s.split, protocol) for s in (source, second)]
    tables = [pd.DataFrame([r for r in e.subjects if r["role"] == "test_lesion"]) for e in results]
    people = pd.concat([t.groupby("person")["auprc"].mean() for t in tables], axis=1).mean(axis=1)
    pooled = np.mean([e.result.metrics["auprc_pooled"].value for e in results])
    assert people.isna().sum() == 1
    wanted = {"mean": people.mean(), "median": people.median(), "pooled": pooled}
    assert {p.aggregate: v for p, v in found.items()} == pytest.approx(wanted, abs=1e-12)


def test_thresholds_see_no_test_subject_and_each_of_them_is_opened_once(tmp_path: Path) -> None:
    data = Data()
    cells = {name: [Source(maps(tmp_path / name, seed, data), data.load, SPLIT)] for seed, name in enumerate("xyz")}
    grid = parse_grid(GRID | {"metric": ["dice", "auprc"], "resolution": ["native"], "postprocess": ["none"]})
    data.opened.clear()
    done: list[int] = []
    score_methods(cells, grid, BASE, each=done.append)
    test = [s.key for s in SPLIT.test_lesion]
    first = data.opened.index("a_1")
    assert not set(data.opened[:first]) & set(test)
    assert data.opened[first:] == test
    assert sum(done) == work([s for parts in cells.values() for s in parts], grid) == 3 * (3 + 2 + 6)

    def peeking(subject: Subject) -> Volume:
        assert subject.key not in test
        volume = data.load(subject)
        # The labels of healthy validation subjects are not looked at either.
        return replace(volume, lesion=~volume.lesion) if subject.key.startswith("v") else volume

    (one,) = cells["x"]
    assert thresholds_of(replace(one, load=peeking), grid, BASE) == thresholds_of(one, grid, BASE)


def test_only_subjects_of_a_group(source: Source) -> None:
    grid = parse_grid(GRID | {"metric": ["auprc"], "aggregate": ["mean"], "resolution": ["native"]})
    kept = score_methods({"m": [source]}, grid, BASE, keep=lambda s: s.id in "bc")[:, 0]
    alone = [score_methods({"m": [source]}, grid, BASE, keep=lambda s, i=i: s.id == i)[:, 0] for i in "bc"]
    assert kept == pytest.approx(np.mean(alone, axis=0), abs=1e-12)
    assert np.isnan(score_methods({"m": [source]}, grid, BASE, keep=lambda s: s.id == "e")).all()


@pytest.mark.parametrize("shape", [(5, 23, 20), (1, 6, 7), (4, 4, 1)])
def test_half_is_the_mean_of_blocks(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    tissue, lesion = rng.random(shape) < 0.6, rng.random(shape) < 0.5
    volume = Volume(np.ones((1, *shape), np.float32), tissue, lesion, (3.0, 1.0, 2.0), "s")
    small, score = halved(volume), rng.standard_normal(shape).astype(np.float32)
    wanted = half_by_hand(volume)
    assert small.grid == wanted.grid
    assert small.ignore is None
    np.testing.assert_array_equal(small.foreground, wanted.foreground)
    np.testing.assert_array_equal(small.lesion, wanted.lesion)
    assert small.spacing == tuple(s if n == 1 else 2 * s for s, n in zip((3.0, 1.0, 2.0), shape, strict=True))
    for mask in (tissue, None):
        found = halved_map(score, mask)
        for place, block in blocks(shape):
            inside = score[block] if mask is None else score[block][mask[block]]
            assert found[place] == pytest.approx(inside.mean() if inside.size else 0.0, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(Step("remove_small", 4),), (Step("remove_small_filled", 30),)]))
def test_striking_components_is_labelling_what_is_left(seed: int, steps: tuple[Step, ...]) -> None:
    rng = np.random.default_rng(seed)
    lesion, above = (gaussian_filter(rng.standard_normal((5, 12, 12)), 0.7) > 0.45 for _ in range(2))
    regions = components(above)
    left = clean(above, steps)
    keep = np.array([left[regions.labels == k + 1].all() for k in range(len(regions.sizes))], bool)
    found = without(overlaps(components(lesion), regions), keep)
    wanted = overlaps(components(lesion), components(left))
    for name in ("lesion_voxels", "found_voxels", "centre", "lesion", "found", "shared"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


def test_the_default_grid_counts_every_pipeline_once() -> None:
    grid = load_grid()
    pipelines = grid.pipelines()
    assert len(pipelines) == len(set(pipelines)) >= 1000
    assert {p.hit for p in pipelines if p.metric == "dice"} == {""}
    assert {p.threshold for p in pipelines if p.metric == "auprc"} == {""}
    assert {p.hit for p in pipelines if p.metric == "lesion_f1"} == set(grid.hit)
    first, *lines = grid.count_in_words()
    assert first.startswith(f"{len(pipelines):,} distinct pipelines")
    assert any(line.startswith("auprc, auroc: 3 aggregate x 2 resolution x 6 postprocess = 36 each") for line in lines)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"hitt": ["any"]}, UsageError, "'hitt' is no dimension. Did you mean 'hit'"),
        ({"hit": None}, UsageError, "hit is missing"),
        ({"hit": []}, UsageError, "hit must be a list of one or more texts"),
        ({"hit": "any"}, UsageError, "hit must be a list"),
        ({"hit": ["centroids"]}, UnknownName, "Did you mean 'centroid'"),
        ({"metric": ["auprcs"]}, UnknownName, "Did you mean 'auprc'"),
        ({"aggregate": ["means"]}, UnknownName, "Did you mean 'mean'"),
        ({"resolution": ["halve"]}, UnknownName, "Did you mean 'half'"),
        ({"threshold": ["healthy_fp:0.1"]}, UnknownName, "Did you mean 'healthy_fpr'"),
        ({"threshold": ["oracle"]}, BadParameter, "chosen on test labels"),
        ({"threshold": ["healthy_fpr:1"]}, BadParameter, "the rate .* must be in"),
        ({"threshold": ["conformal:0"]}, BadParameter, "the rate .* must be in"),
        ({"threshold": ["healthy_fpr:0.05", "healthy_fpr"]}, UsageError, "lists 'healthy_fpr.0.05.' twice"),
        ({"postprocess": ["medain 3"]}, UnknownName, "Did you mean 'median'"),
        ({"postprocess": ["median"]}, BadParameter, "'' is no size"),
        ({"postprocess": ["median 4"]}, BadParameter, "an odd whole number"),
        ({"postprocess": ["gaussian inf"]}, BadParameter, "above 0"),
        ({"postprocess": ["remove_small 7"]}, UnknownName, "no step of postprocess"),
        ({"found_steps": ["remove_small 1.5"]}, BadParameter, "a whole number, 0 or more"),
    ],
)
def test_a_wrong_grid_is_one_clear_sentence(
    change: dict[str, object], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    values = {k: v for k, v in (GRID | change).items() if v is not None}
    with pytest.raises(kind, match=message):
        parse_grid(values)
    path = tmp_path / "my.toml"
    path.write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in values.items()))
    with pytest.raises(kind, match=f"my.toml: .*{message}"):
        load_grid(path)


def test_rules_that_the_data_do_not_allow_are_left_out_with_a_sentence() -> None:
    grid = parse_grid(GRID | {"threshold": ["healthy_fpr:0.05", "conformal:0.1", "val_best_dice"]})
    used, notes = grid.for_data([SPLIT, replace(SPLIT, val_lesion=())])
    assert list(used.threshold) == ["healthy_fpr(0.05)"]
    assert [note.split(" is left out: ")[0] for note in notes] == ["conformal(0.1)", "val_best_dice"]
    assert "needs 9 healthy validation subjects" in notes[0]
    assert grid.for_data([replace(SPLIT, val=SPLIT.val * 3)]) == (grid, [])
    unlabelled = [replace(SPLIT, val_lesion=())]
    with pytest.raises(Incompatible, match="no threshold rule"):
        parse_grid(GRID | {"threshold": ["val_best_dice"]}).for_data(unlabelled)
    parse_grid(GRID | {"threshold": ["val_best_dice"], "metric": ["auprc"]}).for_data(unlabelled)


def made(values: Sequence[Sequence[float]], names: str = "abc") -> Multiverse:
    pipelines = [Pipeline("auprc", "mean", "native", f"chain {i}") for i in range(len(values))]
    return Multiverse.of(list(names), pipelines, np.array(values, float))


def test_ranks_flips_and_the_share_of_being_best() -> None:
    found = made([[3, 2, 1], [3, 2, 1], [1, 2, 3], [2, 2, np.nan], [0, 0, 0]])
    assert found.methods == ["a", "b", "c"]
    assert found.ranks.tolist() == [[1, 2, 3], [1, 2, 3], [3, 2, 1], [1.5, 1.5, 3], [2, 2, 2]]
    a, _, c = found.rows()
    assert (a.least, a.median, a.most) == (1, 1.5, 3)
    assert a.best == pytest.approx((1 + 1 + 0.5 + 1 / 3) / 5)
    assert sum(row.best for row in found.rows()) == pytest.approx(1.0)
    assert c.by_metric == {"auprc": 3}
    flips = {(f.better, f.worse): (f.flip, f.tie) for f in found.flips()}
    assert flips[("a", "b")] == pytest.approx((0.2, 0.4))
    assert flips[("a", "c")] == pytest.approx((0.2, 0.2))
    table = found.table()
    assert len(table) == 15
    assert table.loc[(table["pipeline"] == 2) & (table["method"] == "c"), ["value", "rank"]].to_numpy().tolist() == [
        [3, 1]
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_ranks_agree_with_counting(seed: int, m: int) -> None:
    values = np.random.default_rng(seed).integers(0, 4, (7, m)).astype(float)
    ranks = ranks_of(values)
    for row, given_ranks in zip(values, ranks, strict=True):
        for i in range(m):
            assert given_ranks[i] == 1 + (row > row[i]).sum() + ((row == row[i]).sum() - 1) / 2
    np.testing.assert_array_equal(ranks_of(values * 3 - 100), ranks)


def test_variance_shares_of_a_known_sum() -> None:
    """Two crossed choices and their product: every effect has a mean square of its own."""
    a, b = np.repeat(["p", "q"], 4), np.tile(np.repeat(["x", "y"], 2), 2)
    third = np.tile(["u", "v"], 4)
    x, y = np.where(a == "p", 1.0, -1.0), np.where(b == "x", 1.0, -1.0)
    shares = variance_shares((5 + 3 * x + 2 * y + 1 * x * y)[:, None], {"a": a, "b": b, "third": third})
    assert shares == pytest.approx({"a": 9 / 14, "b": 4 / 14, "third": 0.0, REST: 1 / 14})
    # A second method counts by how much it varies, and one that never moves not at all.
    both = np.stack([3 * x, np.full(8, 2.0), y], axis=1)
    assert variance_shares(both, {"a": a, "b": b}) == pytest.approx({"a": 0.9, "b": 0.1, REST: 0.0})
    assert all(np.isnan(v) for v in variance_shares(np.ones((8, 2)), {"a": a}).values())


def test_variance_shares_of_choices_that_some_metrics_have_not() -> None:
    """Metrics differ by 2, and the hit criterion moves one of them by 1: means of squares by hand."""
    grid = parse_grid(GRID | {"metric": ["auprc", "lesion_f1"], "hit": ["any", "iou"]})
    pipelines = grid.pipelines()
    hit = {"": 0.0, "any": 1.0, "iou": -1.0}
    score = np.array([2.0 * (p.metric == "auprc") + hit[p.hit] for p in pipelines])
    levels = Multiverse.of(["a", "b"], pipelines, np.stack([score, -score], axis=1)).levels()
    rank, lesion = 18, len(pipelines) - 18
    between = 4.0 * rank * lesion / (rank + lesion)
    shares = variance_shares(score[:, None], levels)
    assert shares["metric"] == pytest.approx(between / (between + lesion))
    assert shares["hit"] == pytest.approx(lesion / (between + lesion))
    assert abs(shares["threshold"]) + abs(shares[REST]) < 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_variance_shares_are_those_of_least_squares(seed: int) -> None:
    """Regression on the choices: what each adds to knowing whether it applies; all of them together add up."""
    pipelines = parse_grid(GRID).pipelines()
    scores = np.random.default_rng(seed).standard_normal((len(pipelines), 2))
    levels = Multiverse.of(["a", "b"], pipelines, scores).levels()

    def explained(*dummies: np.ndarray) -> float:
        design = np.column_stack([np.ones(len(pipelines)), *dummies])
        left = scores - design @ np.linalg.lstsq(design, scores, rcond=None)[0]
        return float(1.0 - (left**2).sum() / ((scores - scores.mean(0)) ** 2).sum())

    coded = {k: np.array([v == c for c in dict.fromkeys(v.tolist()) if c], float).T for k, v in levels.items()}
    shares = variance_shares(scores, levels)
    for name, dummies in coded.items():
        applies = (levels[name] != "").astype(float)
        assert shares[name] == pytest.approx(explained(applies, dummies) - explained(applies), abs=1e-9), name
    assert 1.0 - shares[REST] == pytest.approx(explained(*coded.values()), abs=1e-9)
    assert set(shares) == {*DIMENSIONS, REST}


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture_is_reproducible(tmp_path: Path, ending: str) -> None:
    found = made(np.random.default_rng(0).random((20, 3)).tolist())
    one, two = (draw_multiverse(found, tmp_path / f"{name}.{ending}", title="$t$") for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    other = made(np.random.default_rng(1).random((20, 3)).tolist())
    assert draw_multiverse(other, tmp_path / f"three.{ending}", title="$t$").read_bytes() != one.read_bytes()
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        draw_multiverse(found, tmp_path / "x.pdf")


@pytest.mark.parametrize("m", [2, 12])
def test_every_word_of_the_picture_is_inside_and_none_covers_another(m: int) -> None:
    pipelines = parse_grid(GRID).pipelines()
    names = [f"method_{i} [steps={i}00]" for i in range(m)]
    found = Multiverse.of(names, pipelines, np.random.default_rng(m).random((len(pipelines), m)))
    figure = _figure(found, "phantom, brain-v1")
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [t for axes in figure.axes for t in axes.texts if t.get_text() and not t.get_rotation()] + figure.texts
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts]
    strips = [name for name in found.variance() if name != "metric"][:3]
    choices = {choice for name in strips for choice in found.levels()[name].tolist() if choice}
    assert {*names, *choices, REST, "phantom, brain-v1"} <= {text for text, _ in boxes}
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    for k, (text, box) in enumerate(boxes):
        for other, beside in boxes[k + 1 :]:
            apart = box.x1 <= beside.x0 or beside.x1 <= box.x0 or box.y1 <= beside.y0 + 2 or beside.y1 <= box.y0 + 2
            assert apart, (text, other)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods with two seeds each on blobs, as a run leaves them, evaluated; the maps are random."""
    root, dataset = tmp_path_factory.mktemp("runs"), Registry([PLUGINS / "blobs.py"]).dataset("blobs")()
    split, protocol = dataset.split(), replace(get_protocol("brain-v1"), draws=20)
    plain = json.loads(json.dumps(asdict(protocol.preparation)))
    for (number, name), seed in product(enumerate(("good", "fair", "poor")), (0, 1)):
        cell = Cell(name, {}, "0", "blobs", {"level": 100.0}, fingerprint_of(dataset), 0, plain, seed, "fp32")
        folder = CellFolder(root / cell.place)
        folder.create(cell, {"protocol": protocol.as_dict(), "dataset": {}, "preset": "quick"})
        for k, (role, subject) in enumerate(split.items()):
            volume = dataset.load(subject)
            noise = np.random.default_rng([number, seed, k]).random(volume.grid) * (4 + 0.3 * number)
            lesion = volume.lesion if "lesion" in role else False
            folder.write_map(subject.key, np.where(volume.foreground, noise + lesion, 0).astype(np.float32), {})
        folder.write_json("provenance.json", {})
        folder.set_status("done")
        evaluate(folder, dataset.load, split, protocol).write(folder)
    return root


def call(runs: Path, *words: str | Path) -> str:
    app = typer.Typer()
    app.command()(command.multiverse)
    plugin = ["--plugin", str(PLUGINS / "blobs.py")]
    done = CliRunner().invoke(
        app, [*map(str, words), "--out", str(runs), *plugin], env={"COLUMNS": "200"}, catch_exceptions=False
    )
    assert done.exit_code == 0
    return done.stdout


def small(folder: Path) -> Path:
    """Write a grid of 78 pipelines."""
    values = GRID | {"metric": ["auprc", "dice"], "postprocess": ["none", "median 3"], "resolution": ["native"]}
    path = folder / "small.toml"
    path.write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in values.items()))
    return path


def test_the_command_prints_exports_and_draws(runs: Path, tmp_path: Path) -> None:
    grid = small(tmp_path)
    table, figure = tmp_path / "all.csv", tmp_path / "all.svg"
    text = call(runs, "--grid", grid, "--export", table, "--figure", figure)
    # conformal:0.4 needs 2 subjects and blobs has 3; it also has one labelled validation subject.
    assert "ranks under 78 pipelines" in text
    assert "dice: 3 aggregate x 1 resolution x 2 postprocess x 4 threshold x 3 found_steps = 72" in text
    assert "which choice explains" in " ".join(text.split())
    found = pd.read_csv(table, keep_default_na=False)
    assert len(found) == 3 * 78
    assert set(found.columns) == {"pipeline", *DIMENSIONS, "method", "value", "rank"}
    assert figure.read_text(encoding="utf-8").lstrip().startswith("<?xml")
    answer = json.loads(call(runs, "good", "poor", "--grid", grid, "--json", "--where", "lesion_kind=dark"))
    assert {row["method"] for row in answer["methods"]} == {"good", "poor"}
    assert sum(row["best"] for row in answer["methods"]) == pytest.approx(1.0)
    assert sum(answer["variance"].values()) == pytest.approx(1.0)
    # The board's own pipeline gives the board's own number.
    boards = [json.loads(path.read_text()) for path in runs.glob("blobs/good/*/evaluations/brain-v1/metrics.json")]
    mean = np.mean([board["metrics"]["auprc"]["value"] for board in boards])
    own = found.query("metric == 'auprc' and aggregate == 'mean' and postprocess == 'median 3' and method == 'good'")
    assert own["value"].tolist() == pytest.approx([mean], abs=1e-12)


def test_an_interrupted_command_writes_nothing(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("uadbench.multiverse_scores.Tally.pooled", stop)
    with pytest.raises(Interrupted, match="nothing was written"):
        call(runs, "--grid", small(tmp_path), "--export", tmp_path / "all.csv", "--figure", tmp_path / "all.png")
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]


def test_wrong_input_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "nothing"
    grid = tmp_path / "bad.toml"
    grid.write_text('metrics = ["dice"]')
    for words, message in (
        (["--export", "x.txt"], "must be .csv"),
        (["--figure", "x.pdf"], ".png or .svg"),
        (["--grid", grid], "bad.toml: 'metrics' is no dimension. Did you mean 'metric'"),
        (["--grid", tmp_path / "none.toml"], "cannot be read"),
        ([], "holds no results"),
    ):
        with pytest.raises(UsageError, match=message):
            call(nowhere, *words)
    assert "3,960 distinct pipelines" in call(nowhere, "--dry-run")
