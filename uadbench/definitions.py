"""The page that defines every metric, protocol and rule: python -m uadbench.definitions docs/evaluation.md."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from uadbench.metrics import Metric
from uadbench.metrics.table import BOUNDARY, DETECTION, DIAGNOSTIC, HEALTHY_SCANS, REGION, VOXEL
from uadbench.protocol import FOUND_STEPS, MAP_STEPS, POLICIES, REDUCTIONS
from uadbench.protocols import PROTOCOLS

RULES = """\
* **Whole way.** A stored map is brought to the protocol's grid, post-processed, compared with thresholds from validation
  subjects, and only then with the lesions of test subjects. The order of the steps is that of the protocol.
* **Foreground.** In `foreground` protocols metrics see foreground voxels without those to be ignored. The record says which
  share of the lesion voxels lies outside, or was set to 0 by the chain (`lesion_outside`).
* **Thresholds.** `score > threshold` is anomalous. A threshold never sees a test subject, except in the policy `oracle`;
  such results, and those named `oracle_...`, never rank. `labels_used` says which labels a threshold read.
* **Empty reference.** A lesion subject without a lesion voxel in sight takes part in no metric of lesion subjects; it is
  counted as excluded. Healthy subjects have metrics of their own.
* **Empty prediction.** Dice, IoU and recall are 0, precision is undefined; lesion recall and F1 are 0; surface distances are
  undefined. Undefined values are left out of means and counted.
* **Ties** are never broken: voxels of one score are called anomalous together. A constant map fails its cell
  (`degenerate_scores`), as do NaN and infinite scores: they are no AUROC of 0.5.
* **One score from a map.** Subjects and slices are judged by the protocol's reduction of their map, over the same voxels.
* **People count once.** Scans of one person are averaged first, and drawn together by the bootstrap.
* **Intervals** are percentile bootstraps over people, the same samples for all methods, so that differences pair up;
  `leaderboard --interval bca` makes bias-corrected and accelerated ones of the same draws.
  Metrics of subjects or slices draw healthy and lesion people apart. `compare` has BCa intervals of paired differences.
* **Pooled rank metrics** come from a histogram of the scores' leading bits with certified bounds; where these are wider than
  1e-4 the values are computed exactly in two more passes over the scores. `pooled` in the record says which, and the bounds.
* **AUPRO** is read from a histogram of its own; where its bounds are wider than 1e-4 it is computed exactly in two more
  passes over the scores, with the lesion voxels' scores in memory. `aupro_path` in the record says which.
* **Reconstructions** are kept beside the maps of test subjects, where a method makes them. They are compared with the image
  as the method saw it, on the subject's own grid, before any post-processing. No protocol ranks by them.
* **Consistency.** No average precision may exceed what the largest Dice allows; every cell is checked.
* **Hit criteria.** A lesion is found if a found component shares a voxel with it (`any`), if 10 % of it are found (`share`),
  if a component has an IoU of 0.1 with it (`iou`), or covers the lesion voxel nearest to its centroid (`centroid`). Lesions
  and detections smaller than `min_lesion_ml` do not count.
* **FROC** is over the lesion subjects. A component above the threshold is a candidate, and its largest score its confidence.
* **AUPIMO** needs so many healthy test voxels that one of them is less than a rate of 1e-5; otherwise it is undefined, and
  the record says why.
"""


def page() -> str:
    """Return the page as Markdown."""
    parts = [
        "# Evaluation: every metric, protocol and rule\n",
        "Made from the code by `python -m uadbench.definitions docs/evaluation.md`; a test keeps it up to date.\n",
        "## Protocols\n",
        "`uadbench protocols show NAME` prints every choice. Results of different protocols are never averaged.\n",
        _table(("protocol", "what it is", "threshold", "ranked by"),
               ((f"`{p.name}`", p.summary, p.threshold.words, f"`{p.rank_by}`") for p in PROTOCOLS.values())),
        "## Rules\n",
        RULES,
        "## Thresholds\n",
        _table(("policy", "labels used", "promise"), ((f"`{k}`", used, text) for k, (used, text) in POLICIES.items())),
        "## Post-processing\n",
        "Steps of maps, in the protocol's order; `uadbench evaluate --without STEP` leaves one out.\n",
        _table(("step", "what it does"), ((f"`{k}`", text) for k, text in MAP_STEPS.items())),
        "Steps of what lies above the threshold:\n",
        _table(("step", "what it does"), ((f"`{k}`", text) for k, text in FOUND_STEPS.items())),
        "## One score from a map\n",
        _table(("reduction", "what it is"), ((f"`{k}`", text) for k, text in REDUCTIONS.items())),
        "## Metrics\n",
    ]  # fmt: skip
    for title, metrics in (
        ("Voxels", VOXEL),
        ("Regions and lesions", REGION),
        ("Boundaries and volumes", BOUNDARY),
        ("Healthy test subjects", HEALTHY_SCANS),
        ("Subjects and slices", DETECTION),
        ("Reconstructions, a diagnosis", DIAGNOSTIC),
    ):
        parts += [f"### {title}\n", _metrics(metrics)]
    return "\n".join(parts)


def _metrics(metrics: Iterable[Metric]) -> str:
    rows = []
    for m in metrics:
        used = ", ".join(f"`{p.name}`" for p in PROTOCOLS.values() if m.name in p.metrics)
        better = "higher" if m.higher_is_better else "lower"
        rows.append((f"`{m.name}`", m.description, better, m.source, used))
    return _table(("metric", "definition", "better", "source", "in"), rows)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
