"""Known facts of the diffusion family (the paper's text, the released code) that must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from uadbench.diffusion import cosine_scheduler, grid_boxes
from uadbench.errors import BadParameter
from uadbench.method import Batch, Run
from uadbench.methods.ddpm import DDPM
from uadbench.methods.mddpm import MDDPM, code_patches, frequency_filter, paper_patches
from uadbench.methods.pddpm import PDDPM
from uadbench.nets import UNet
from uadbench.noise import generators
from uadbench.params import choose_preset, create, resolve

SMALL: dict[str, Any] = {
    "image_size": 32, "channels": (8, 16), "blocks": 1, "attention": False, "scale_shift": True, "steps": 6, "batch_size": 4,
}  # fmt: skip


def brain(n: int, size: tuple[int, int] = (96, 96), channels: int = 1) -> Batch:
    """An ellipse of tissue with texture."""
    rng = torch.Generator().manual_seed(n)
    y, x = torch.meshgrid(torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij")
    tissue = (y / 0.92) ** 2 + (x / 0.73) ** 2 < 1
    image = (0.4 + 0.2 * torch.rand(n, channels, *size, generator=rng)) * tissue
    return Batch(image, tissue.expand(n, *size).clone(), torch.arange(n) + 7)


class Brains:
    def __init__(self, n: int, size: tuple[int, int] = (32, 28)) -> None:
        self.all = brain(n, size)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.all.image.shape[1:])

    def __len__(self) -> int:
        return len(self.all)

    def batch(self, index: Any, *, draw: int = 0) -> Batch:
        i = torch.as_tensor(list(index))
        assert self.all.foreground is not None
        return Batch(self.all.image[i], self.all.foreground[i], i + 1000 * draw)

    def batches(self, size: int) -> Any:
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(len(self), start + size)))


@pytest.mark.parametrize(("scale_shift", "count"), [(True, 37_513_857), (False, 34_493_313)])
def test_the_paper_networks_have_the_known_number_of_parameters(scale_shift: bool, count: int) -> None:
    with torch.device("meta"):
        net = UNet(1, (128, 256, 256), blocks=3, scale_shift=scale_shift, attention=True)
    assert sum(p.numel() for p in net.parameters()) == count


def test_the_presets_use_the_known_networks() -> None:
    paper = [cls(**choose_preset("x", cls.presets, "paper")) for cls in (DDPM, PDDPM, MDDPM)]
    assert [m.scale_shift for m in paper] == [False, True, True]
    assert all((m.channels, m.blocks, m.attention) == ((128, 256, 256), 3, True) for m in paper)
    assert all((m.image_size, m.noise_level, m.noise, m.batch_size) == (96, 500, "simplex", 32) for m in paper)
    official = MDDPM(**choose_preset("x", MDDPM.presets, "official"))
    assert (official.mask_sampler, official.noised_region, official.steps) == ("code", "grid_box", 115_200)


def test_quick_presets_are_alike() -> None:
    shared = (
        "image_size",
        "channels",
        "blocks",
        "attention",
        "scale_shift",
        "steps",
        "batch_size",
        "learning_rate",
        "schedule",
    )
    quick = [cls(**choose_preset("x", cls.presets, "quick")) for cls in (DDPM, PDDPM, MDDPM)]
    assert all(getattr(m, name) == getattr(quick[0], name) for m in quick for name in shared)


def test_every_residual_branch_and_the_output_start_at_zero() -> None:
    net = UNet(1, (8, 16), blocks=1, scale_shift=True, attention=True).requires_grad_(False)
    assert float(net.net.conv_out.weight.abs().max()) == 0.0
    assert all(float(m.conv2.weight.abs().max()) == 0.0 for m in net.modules() if hasattr(m, "conv2"))
    assert all(float(m.to_out[0].weight.abs().max()) == 0.0 for m in net.modules() if hasattr(m, "to_out"))
    assert float(net(torch.randn(2, 1, 15, 13), torch.tensor([0, 999])).abs().max()) == 0.0


def test_the_schedule_is_the_cosine_one() -> None:
    abar = cosine_scheduler(1000).alphas_cumprod
    assert float(abar[499].sqrt()) == pytest.approx(0.70274, abs=1e-5)
    assert float(abar[249].sqrt()) == pytest.approx(0.92033, abs=1e-5)
    assert float(abar[749].sqrt()) == pytest.approx(0.37983, abs=1e-5)
    assert float((1 - abar[499]).sqrt()) == pytest.approx(0.711447, abs=1e-5)


def test_noise_level_500_is_index_499() -> None:
    method = DDPM(**SMALL)
    method.build((1, 32, 28))
    seen = []

    def spy(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append((x_t, t))
        return torch.zeros_like(x_t)

    method.net_.forward = spy  # type: ignore[method-assign, assignment]
    batch = brain(2, (32, 28))
    method.reconstruct(batch)
    x_t, t = seen[0]
    assert t.tolist() == [499, 499]
    x_0 = 2 * batch.image - 1
    eps = (x_t - 0.702740 * x_0) / 0.711447
    assert 0.2 < float(eps.std()) < 1.0  # what is left is simplex noise


@pytest.mark.parametrize("region", ["grid_box", "random_box"])
def test_the_gradient_of_a_box_loss_lives_in_the_box_only(region: str) -> None:
    method = PDDPM(**SMALL, noised_region=region, loss_region=region)  # type: ignore[arg-type]
    method.build((1, 32, 32))
    output = torch.zeros(6, 1, 32, 32, requires_grad=True)
    seen: dict[str, torch.Tensor] = {}

    def spy(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen["x_t"] = x_t
        return output

    method.net_.forward = spy  # type: ignore[method-assign, assignment]
    batch = brain(6, (32, 32))
    method.loss(batch).backward()
    assert output.grad is not None
    support = output.grad != 0
    noised = seen["x_t"] != 2 * batch.image - 1
    assert support.sum(dim=(1, 2, 3)).tolist() == [16 * 16] * 6
    assert bool((noised <= support).all())  # what is noised lies in the box
    if region == "grid_box":
        corners = {tuple(torch.nonzero(s[0])[0].tolist()) for s in support}
        assert corners <= {(0, 0), (0, 16), (16, 0), (16, 16)}
        assert len(corners) > 1


def test_official_mddpm_learns_inside_the_box_only() -> None:
    preset = dict(choose_preset("mddpm", MDDPM.presets, "official"))
    method = MDDPM(**{**SMALL, **preset, "image_size": 96})
    method.build((1, 96, 96))
    output = torch.zeros(8, 1, 96, 96, requires_grad=True)
    method.net_.forward = lambda x_t, t: output  # type: ignore[method-assign, assignment]
    method.loss(brain(8)).backward()
    assert output.grad is not None
    assert (output.grad != 0).sum(dim=(1, 2, 3)).tolist() == [48 * 48] * 8


def test_grid_boxes_cover_every_pixel_once() -> None:
    for size, box in (((96, 96), 48), ((64, 55), 32), ((7, 5), 3)):
        covered = np.zeros(size, int)
        for top, left, height, width in grid_boxes(size, box):
            covered[top : top + height, left : left + width] += 1
        assert (covered == 1).all()
    assert len(grid_boxes((96, 96), 48)) == 4


def test_a_box_as_large_as_the_slice_is_ddpm() -> None:
    torch.manual_seed(0)
    whole, boxed = DDPM(**SMALL), PDDPM(**SMALL, box=32)
    for method in (whole, boxed):
        torch.manual_seed(1)
        method.fit(Brains(8), val=Brains(2), run=Run(seed=3))
    batch = brain(3, (32, 28))
    torch.testing.assert_close(whole.score(batch), boxed.score(batch))


def test_boxes_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(BadParameter, match="box=33 is larger than the slices; give 4 to image_size=32"):
        create(PDDPM, {**SMALL, "box": 33}, owner="pddpm")
    with pytest.raises(BadParameter, match="box=16 does nothing while noised_region is 'whole'"):
        create(MDDPM, {**SMALL, "box": 16}, owner="mddpm")
    native = PDDPM(**{**SMALL, "image_size": None}, box=33)
    native.build((1, 20, 33))
    with pytest.raises(BadParameter, match="box=33 is larger than the slices; give 4 to 32"):
        native.build((1, 20, 32))


@pytest.mark.parametrize("channels", ["0", "-3,5", ""])
def test_channels_that_no_network_has_are_refused(channels: str) -> None:
    with pytest.raises(BadParameter, match=r"ddpm.channels must be list of integers in \[1, 4096\], at least 1"):
        resolve(DDPM, [("command line", {"channels": channels})], owner="ddpm")


@pytest.mark.parametrize("parent", [DDPM, PDDPM])
def test_without_masking_mddpm_is_its_parent(parent: type[DDPM]) -> None:
    regions = {} if parent is PDDPM else {"noised_region": "whole", "loss_region": "whole"}
    if parent is PDDPM:
        regions = {"noised_region": "grid_box", "loss_region": "grid_box"}
    a = parent(**SMALL).fit(Brains(8), val=Brains(2), run=Run(seed=3))
    b = MDDPM(**SMALL, masking="none", **regions).fit(Brains(8), val=Brains(2), run=Run(seed=3))  # type: ignore[arg-type]
    c = MDDPM(**SMALL, masking="fpm_cm", **regions).fit(Brains(8), val=Brains(2), run=Run(seed=3))  # type: ignore[arg-type]
    batch = brain(3, (32, 28))
    torch.testing.assert_close(a.score(batch), b.score(batch))
    assert not torch.allclose(a.score(batch), c.score(batch))


@pytest.mark.parametrize("symmetric", [True, False])
def test_low_pass_and_high_pass_add_up_to_the_image(symmetric: bool) -> None:
    x = brain(5, (64, 55), 2).image
    half = torch.tensor([2, 3, 5, 8, 10])
    low = frequency_filter(x, half, torch.ones(5, dtype=torch.bool), symmetric=symmetric)
    high = frequency_filter(x, half, torch.zeros(5, dtype=torch.bool), symmetric=symmetric)
    torch.testing.assert_close(low + high, x, atol=1e-5, rtol=0)
    assert not torch.allclose(low, x, atol=1e-2)
    # The mean of an image is its lowest frequency.
    torch.testing.assert_close(low.mean(dim=(2, 3)), x.mean(dim=(2, 3)), atol=1e-5, rtol=0)


def test_the_symmetric_filter_leaves_no_imaginary_part_and_equals_numpy() -> None:
    x = brain(1).image
    ours = frequency_filter(x, torch.tensor([4]), torch.tensor([True]), symmetric=False)[0, 0].numpy()
    spectrum = np.fft.fftshift(np.fft.fft2(x[0, 0].numpy()))
    mask = np.zeros((96, 96))
    mask[48 - 4 : 48 + 4, 48 - 4 : 48 + 4] = 1
    reference = np.fft.ifft2(np.fft.ifftshift(spectrum * mask))
    np.testing.assert_allclose(ours, reference.real, atol=1e-5)
    assert np.abs(reference.imag).max() > 1e-3  # this is what the released code drops
    mask[48 + 4, 48 - 4 : 48 + 5] = mask[48 - 4 : 48 + 5, 48 + 4] = 1
    assert np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum * mask)).imag).max() < 1e-6


def test_the_papers_patches_cover_ten_to_ninety_percent_of_the_tissue() -> None:
    batch = brain(400)
    assert batch.foreground is not None
    share = shares(paper_patches(batch.foreground, generators(batch.seed)), batch.foreground)
    assert float(share.min()) >= 0.1
    assert float(share.max()) <= 0.9
    assert float(share.mean()) == pytest.approx(0.5, abs=0.03)
    deciles = torch.quantile(share, torch.linspace(0, 1, 11))
    torch.testing.assert_close(deciles, torch.linspace(0.1, 0.9, 11).to(deciles), atol=0.06, rtol=0)


def test_the_codes_patches_cover_about_four_percent() -> None:
    batch = brain(600)
    assert batch.foreground is not None
    draws = generators(batch.seed)
    patches = torch.cat([code_patches(mask, g) for mask, g in zip(batch.foreground, draws, strict=True)])
    share = shares(patches, batch.foreground)
    assert float(share.mean()) == pytest.approx(0.04, abs=0.006)
    assert float(share.max()) < 0.14
    assert float((share == 0).float().mean()) == pytest.approx(1 / 6, abs=0.05)


def shares(patches: torch.Tensor, tissue: torch.Tensor) -> torch.Tensor:
    assert patches.shape == (len(tissue), 1, *tissue.shape[1:])
    return (patches[:, 0] & tissue).sum(dim=(1, 2)) / tissue.sum(dim=(1, 2))


def test_slices_without_room_for_a_patch_are_left_alone() -> None:
    tissue = torch.zeros(2, 40, 40, dtype=torch.bool)
    tissue[1, 18:22, 18:22] = True
    draws = generators(torch.arange(2))
    assert not paper_patches(tissue, draws)[0].any()
    assert not code_patches(tissue[0], draws[0]).any()
    assert not code_patches(tissue[1], draws[1]).any()


@pytest.mark.parametrize("masking", ["ipm", "fpm", "fpm_cm"])
def test_masking_changes_tissue_only_and_as_it_says(masking: str) -> None:
    method = MDDPM(**SMALL, masking=masking)  # type: ignore[arg-type]
    batch = brain(6)
    assert batch.foreground is not None
    masked = (method.corrupt(batch, generators(batch.seed)) + 1) / 2
    outside = ~batch.foreground[:, None]
    torch.testing.assert_close(masked[outside], batch.image[outside], atol=1e-6, rtol=0)
    changed = (masked - batch.image).abs() > 1e-6
    share = (changed[:, 0] & batch.foreground).sum(dim=(1, 2)) / batch.foreground.sum(dim=(1, 2))
    if masking == "fpm":
        assert float(share.min()) > 0.95
    else:
        assert 0.05 < float(share.min()) <= float(share.max()) < 0.95
    if masking == "ipm":
        assert bool((masked[changed].abs() < 1e-6).all())


def test_nothing_is_masked_when_a_slice_is_scored() -> None:
    method = MDDPM(**SMALL).fit(Brains(4), val=Brains(2), run=Run(seed=0))
    method.corrupt = lambda *_: pytest.fail("masked")  # type: ignore[method-assign, assignment]
    method.score(brain(2, (32, 28)))


def test_wrong_combinations_are_refused() -> None:
    with pytest.raises(ValueError, match="must be 'whole' or the noised_region"):
        PDDPM(noised_region="whole", loss_region="grid_box")
    with pytest.raises(ValueError, match="above timesteps"):
        DDPM(noise_level=600, timesteps=500)
