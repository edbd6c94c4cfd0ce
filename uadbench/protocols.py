"""The protocols that come with the suite. What a protocol is stands in `protocol.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from uadbench.errors import unknown_name
from uadbench.protocol import Grid, Intensity, Preparation, Protocol, Step, Threshold

_RANK = ("auprc", "auprc_median", "auroc", "auprc_pooled", "auroc_pooled")
_OVERLAP = ("dice", "dice_median", "iou", "precision", "recall", "specificity", "dice_pooled")
_ORACLE = ("oracle_dice", "oracle_dice_shared", "oracle_dice_subject")
_REGION = ("aupro", "aupro_05", "aupro_2d", "aupro_2d_05", "lesion_recall", "lesion_precision", "lesion_f1")
_BINS = ("lesion_recall_small", "lesion_recall_medium", "lesion_recall_large")
_FROC = ("froc_1", "froc_2", "froc_4", "froc_8")
_HEALTHY = (
    "healthy_fp_ml",
    "healthy_fpr",
    "healthy_realised",
    "healthy_components",
    "healthy_slices",
    "healthy_flagged",
)
_SUBJECT = (
    "subject_auroc",
    "subject_ap",
    "subject_tpr_fpr01",
    "subject_tpr_fpr05",
    "subject_tpr_fpr10",
    "subject_fpr_tpr95",
)
_SLICE = ("slice_auroc", "slice_ap", "slice_tpr_fpr01", "slice_tpr_fpr05", "slice_tpr_fpr10", "slice_fpr_tpr95")
_BOUNDARY = ("hd95", "nsd", "avd")
_DIAGNOSTIC = ("recon_l1", "recon_ssim", "recon_l1_lesion", "recon_ssim_lesion")

PROTOCOLS: Mapping[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            name="brain-v1",
            summary="volumes; foreground only; threshold from healthy validation subjects; ranked by mean AUPRC",
            # A 5x5x5 median, as published with mDDPM, erases every lesion of under about half a millilitre at 2 mm.
            postprocess=(Step("median", 3),),
            threshold=Threshold("healthy_fpr", 0.05),
            metrics=(
                "auprc", "dice", *(m for m in (*_RANK, *_OVERLAP) if m not in ("auprc", "dice")), *_ORACLE, *_REGION, *_BINS,
                *_FROC, "aupimo", *_BOUNDARY, *_HEALTHY, *_SUBJECT, *_SLICE, *_DIAGNOSTIC,
            ),
            rank_by="auprc",
        ),
        Protocol(
            name="image-v1",
            summary="no masks needed: which subjects, which slices are anomalous; threshold conformal on healthy subjects",
            postprocess=(Step("median", 3),),
            threshold=Threshold("conformal", 0.2),
            masks=False,
            metrics=(*_SUBJECT, *_SLICE, "healthy_flagged", "healthy_realised", "healthy_slices", "recon_l1",
                     "recon_ssim"),
            rank_by="subject_auroc",
        ),
        Protocol(
            name="mddpm-paper",
            summary="as the code released with mDDPM: 2 mm box, erosion, 5x5x5 median, threshold on labelled validation",
            preparation=Preparation(Intensity(clip_high=True)),
            grid=Grid((2.0, 2.0, 2.0), (50, 96, 96)),
            region="box",
            postprocess=(Step("erode", 0), Step("median_box", 5)),
            threshold=Threshold("val_bisection", 0.0),
            other_thresholds=(Threshold("val_best_dice", 0.0),),
            found_steps=(Step("remove_small_filled", 7),),
            metrics=(
                "dice", "dice_val_best", "auprc", "auroc", "oracle_dice_subject", "hd100", "precision", "recall",
                "specificity", "recon_l1", "recon_ssim", "recon_l1_lesion", "recon_ssim_lesion",
            ),
            rank_by="dice",
        ),
    )
}  # fmt: skip
_PAPER = PROTOCOLS["mddpm-paper"]
PROTOCOLS = {
    **PROTOCOLS,
    "mddpm-text": replace(
        _PAPER,
        name="mddpm-text",
        summary="as mddpm-paper in the order of the papers' texts: the median before the erosion",
        postprocess=tuple(reversed(_PAPER.postprocess)),
    ),
}

DEFAULT = "brain-v1"


def get_protocol(name: str) -> Protocol:
    """Return the protocol `name`.

    Raises:
        UnknownName: with the nearest name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
