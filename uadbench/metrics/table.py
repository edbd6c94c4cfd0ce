"""The table of all metrics: name, title, what it is computed over, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from uadbench.errors import unknown_name
from uadbench.metrics import Case, Metric, Over
from uadbench.metrics import overlap as flat
from uadbench.metrics.lesions import SIZE_EDGES, recall_by_size
from uadbench.metrics.pimo import aupimo
from uadbench.metrics.ranking import auroc, average_precision, best_dice
from uadbench.metrics.reconstruction import mean_absolute_error, ssim
from uadbench.metrics.surface import volume_difference

Compute = Callable[[Case], float]
LESION: Over = "lesion subjects"
HEALTHY: Over = "healthy subjects"

NEAR_MM = 2.0
"""Tolerance of the normalised surface Dice."""

INTENSITY_RANGE = 1.0
"""Data range of the structural similarity: that of healthy tissue after normalisation."""

MEAN = ", mean over lesion subjects"
AT = " at the protocol's threshold"
PEEKS = "; it peeks at the test labels and never ranks"


def _by_threshold(case: Case, policy: str) -> float:
    if policy not in case.thresholds:
        return float("nan")
    return flat.dice(case.found_at(case.thresholds[policy]), case.lesion)


def _flagged_slices(case: Case) -> float:
    assert case.where is not None
    return flat.flagged_slice_share(case.found_volume, case.where)


def _realised(case: Case) -> float:
    rule = None if case.protocol is None else case.protocol.threshold
    if rule is None or rule.policy not in ("healthy_fpr", "healthy_subject_max", "conformal"):
        return float("nan")
    found = (
        flat.false_positive_rate(case.found)
        if rule.policy == "healthy_fpr"
        else float(flat.flagged_subject(case.found))
    )
    return flat.realised_to_nominal(found, rule.rate)


def _by_size(case: Case, place: int) -> float:
    return float(recall_by_size(case.lesion_counts)[place])


def _pimo(case: Case) -> float:
    return float("nan") if case.normal is None else aupimo(case.score[case.lesion], case.normal)


def _restored(case: Case, kind: Literal["l1", "ssim"], where: Literal["tissue", "lesion"]) -> float:
    seen = case.restoration
    if seen is None:
        return float("nan")
    region = seen.tissue if where == "tissue" else seen.lesion
    if kind == "l1":
        return mean_absolute_error(seen.image, seen.reconstruction, region)
    return ssim(seen.image, seen.reconstruction, region, INTENSITY_RANGE)


def _lesion(name: str, title: str, compute: Compute, text: str, source: str = "", **more: bool) -> Metric:
    """Return a metric that is averaged over lesion subjects, higher is better."""
    return Metric(name, title, LESION, True, text + MEAN, source, compute, **more)  # type: ignore[arg-type]


def _healthy(name: str, title: str, compute: Compute, text: str) -> Metric:
    """Return a metric that is averaged over healthy test subjects, lower is better."""
    return Metric(name, title, HEALTHY, False, text + " per healthy test subject, mean", "", compute)


def _together(name: str, title: str, over: Over, text: str, source: str = "", *, up: bool = True) -> Metric:
    """Return a metric that is computed over all subjects at once."""
    return Metric(name, title, over, up, text, source, oracle=name.startswith("oracle_"))


VOXEL = (
    _lesion("auprc", "AUPRC", lambda c: average_precision(c.curve), "average precision over the voxels of a subject"),
    Metric("auprc_median", "AUPRC median", LESION, True, "the same, median over lesion subjects",
           compute=lambda c: average_precision(c.curve), aggregate="median", of="auprc"),
    _lesion("auroc", "AUROC", lambda c: auroc(c.curve), "area under the ROC curve over the voxels of a subject"),
    _together("auprc_pooled", "AUPRC pooled", "pooled", "average precision over the voxels of all lesion subjects together"),
    _together("auroc_pooled", "AUROC pooled", "pooled",
              "area under the ROC curve over the voxels of all lesion subjects together"),
    _lesion("dice", "Dice", lambda c: flat.dice(c.found, c.lesion), "Dice" + AT, "Dice 1945"),
    Metric("dice_median", "Dice median", LESION, True, "the same, median over lesion subjects",
           compute=lambda c: flat.dice(c.found, c.lesion), aggregate="median", of="dice"),
    _lesion("dice_val_best", "Dice val best", partial(_by_threshold, policy="val_best_dice"),
            "Dice at the threshold with the largest pooled Dice of the labelled validation subjects"),
    _together("dice_pooled", "Dice pooled", "pooled", "Dice of all lesion subjects together" + AT),
    _lesion("iou", "IoU", lambda c: c.confusion.iou, "intersection over union" + AT, "Jaccard 1912"),
    _lesion("precision", "precision", lambda c: c.confusion.precision, "share of lesion among the voxels found" + AT),
    _lesion("recall", "recall", lambda c: c.confusion.recall, "share of the lesion voxels found" + AT),
    _lesion("specificity", "specificity", lambda c: c.confusion.specificity, "share of healthy voxels not found" + AT),
    _together("oracle_dice", "oracle Dice pooled", "pooled",
              "largest Dice over all thresholds, all lesion subjects together" + PEEKS),
    _together("oracle_dice_shared", "oracle Dice shared", "pooled",
              "largest mean of the subjects' Dice over all thresholds, the same one for all" + PEEKS),
    _lesion("oracle_dice_subject", "oracle Dice", lambda c: best_dice(c.curve)[0],
            "largest Dice over all thresholds, each subject with its own" + PEEKS, oracle=True),
)  # fmt: skip
"""Metrics of voxels."""

BINS = (
    ("small", f"below {SIZE_EDGES[0]:g} ml"),
    ("medium", f"of {SIZE_EDGES[0]:g} to {SIZE_EDGES[1]:g} ml"),
    ("large", f"of {SIZE_EDGES[1]:g} ml or more"),
)

REGION = (
    _together("aupro", "AUPRO", "pooled",
              "area under the per-region overlap up to a false positive rate of 0.3, over 0.3; regions are 26-connected",
              "Bergmann et al. 2021, IJCV"),
    _together("aupro_05", "AUPRO 0.05", "pooled", "the same up to a false positive rate of 0.05, over 0.05",
              "Bergmann et al. 2021, IJCV"),
    _together("aupro_2d", "AUPRO 2-D", "pooled",
              "as AUPRO, but every slice is a picture: its 8-connected regions are regions of their own",
              "Bergmann et al. 2021, IJCV"),
    _together("aupro_2d_05", "AUPRO 2-D 0.05", "pooled", "the same up to a false positive rate of 0.05, over 0.05",
              "Bergmann et al. 2021, IJCV"),
    Metric("aupimo", "AUPIMO", LESION, True,
           "overlap averaged over log false positive rates of 1e-5 to 1e-4 of the healthy test subjects" + MEAN,
           "Bertoldo et al. 2024", _pimo),
    _lesion("lesion_recall", "lesion recall", lambda c: c.lesion_counts.recall, "share of lesions hit" + AT),
    _lesion("lesion_precision", "lesion precision", lambda c: c.lesion_counts.precision,
            "share of found components that hit a lesion" + AT),
    _lesion("lesion_f1", "lesion F1", lambda c: c.lesion_counts.f1, "harmonic mean of lesion recall and precision"),
    *(_lesion(f"lesion_recall_{name}", f"lesion recall {name}", partial(_by_size, place=i),
              f"share of lesions {size} hit" + AT)
      for i, (name, size) in enumerate(BINS)),
    *(_together(f"froc_{k}", f"FROC {k}", "pooled",
                f"share of lesions hit at the cut with {k} false components a lesion subject on average; candidates are the "
                "components above the threshold, cut by their largest score", "Chakraborty 2013")
      for k in (1, 2, 4, 8)),
)  # fmt: skip
"""Metrics of regions and lesions."""

BOUNDARY = (
    Metric("hd95", "HD95 mm", LESION, False, "95th percentile of the surface distances" + AT + MEAN,
           "Taha and Hanbury 2015", lambda c: c.surface.hausdorff(95.0)),
    Metric("hd100", "HD mm", LESION, False, "largest surface distance" + AT + MEAN,
           "Taha and Hanbury 2015", lambda c: c.surface.hausdorff(100.0)),
    _lesion("nsd", "NSD", lambda c: c.surface.surface_dice(NEAR_MM),
            "share of both surfaces within 2 mm of the other one" + AT, "Nikolov et al. 2021"),
    Metric("avd", "AVD %", LESION, False,
           "difference of the volumes found and annotated, in percent of the latter" + AT + MEAN, "",
           lambda c: volume_difference(c.found, c.lesion)),
)  # fmt: skip
"""Metrics of boundaries and volumes. Undefined where one mask is empty; such subjects are counted as excluded."""

HEALTHY_SCANS = (
    _healthy("healthy_fp_ml", "healthy FP ml", lambda c: flat.false_positive_ml(c.found, c.voxel_ml), "millilitres found"),
    _healthy("healthy_fpr", "healthy FPR", lambda c: flat.false_positive_rate(c.found),
             "share of voxels found; compare it with what the threshold promises"),
    _healthy("healthy_realised", "realised / promised", _realised,
             "rate of false positives over the one that the threshold promises, 1 if it is kept,"),
    _healthy("healthy_components", "healthy FP components", lambda c: float(flat.false_components(c.found_volume)),
             "components found"),
    _healthy("healthy_slices", "healthy slices flagged", _flagged_slices, "share of slices with anything found"),
    _healthy("healthy_flagged", "healthy flagged", lambda c: float(flat.flagged_subject(c.found)),
             "1 if anything was found"),
)  # fmt: skip
"""What is found where there is nothing to be found."""

DIAGNOSTIC = (
    _healthy("recon_l1", "reconstruction l1", lambda c: _restored(c, "l1", "tissue"),
             "mean absolute difference of image and reconstruction in the foreground (healthy tissue is about 0 to 1)"),
    Metric("recon_ssim", "reconstruction SSIM", HEALTHY, True,
           "structural similarity of image and reconstruction in the foreground per healthy test subject, mean",
           "Wang et al. 2004", lambda c: _restored(c, "ssim", "tissue")),
    _lesion("recon_l1_lesion", "reconstruction l1 lesion", lambda c: _restored(c, "l1", "lesion"),
            "mean absolute difference of image and reconstruction inside lesions"),
    Metric("recon_ssim_lesion", "reconstruction SSIM lesion", LESION, False,
           "structural similarity of image and reconstruction inside lesions" + MEAN,
           "Wang et al. 2004", lambda c: _restored(c, "ssim", "lesion")),
)  # fmt: skip
"""How near reconstructions are to their images. A diagnosis: a faithful reconstruction also repeats the lesion."""

_DETECTED: tuple[tuple[str, Over, str], ...] = (
    ("subject", "subjects", "lesion against healthy test subjects"),
    ("slice", "slices", "slices with lesion against all other slices of the test subjects"),
)

DETECTION = tuple(
    _together(f"{what}_{name}", f"{what} {title}", over, f"{text}, of {items}", source, up=up)
    for what, over, items in _DETECTED
    for name, title, text, source, up in (
        ("auroc", "AUROC", "area under the ROC curve of the scores by the protocol's reduction", "", True),
        ("ap", "AP", "average precision of the same scores; its chance level is the share of anomalous ones", "", True),
        ("tpr_fpr01", "TPR at FPR 1 %", "largest true positive rate at a false positive rate of at most 0.01", "", True),
        ("tpr_fpr05", "TPR at FPR 5 %", "the same at 0.05", "", True),
        ("tpr_fpr10", "TPR at FPR 10 %", "the same at 0.10", "", True),
        ("fpr_tpr95", "FPR at TPR 95 %", "least false positive rate at a true positive rate of at least 0.95",
         "Liang et al. 2018", False),
    )
)  # fmt: skip
"""Metrics of one score a subject or slice."""

METRICS: Mapping[str, Metric] = {
    m.name: m for m in (*VOXEL, *REGION, *BOUNDARY, *HEALTHY_SCANS, *DETECTION, *DIAGNOSTIC)
}  # fmt: skip


def get_metric(name: str) -> Metric:
    """Return the metric `name`.

    Raises:
        UnknownName: with the nearest name.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]
