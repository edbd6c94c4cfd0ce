from __future__ import annotations

import numpy as np
import pytest
import torch
from opensimplex.internals import _init
from scipy.stats import kstest

from uadbench import noise


def maps(n: int, size: tuple[int, int] = (96, 96)) -> torch.Tensor:
    return noise.simplex(noise.generators(torch.arange(n)), (1, *size), "cpu")[:, 0]


def test_simplex_equals_the_opensimplex_package_for_the_same_gradients() -> None:
    # The package chooses gradients by a permutation, we by a generator; given its choice the noise must be the same.
    from opensimplex import OpenSimplex

    height, width, seed = 40, 30, 1234
    reference = np.zeros((height, width))
    package = OpenSimplex(seed)
    for octave in range(6):
        wave = 64.0 / 2**octave
        for y in range(height):
            for x in range(width):
                reference[y, x] += 0.8**octave * package.noise2(x / wave, y / wave)
    permutation = _init(seed=seed)
    permutation = permutation[0] if isinstance(permutation, tuple) else permutation
    weights, lattice = noise._lattice(height, width, "cpu")
    which = permutation[(permutation[lattice[:, 0] & 255] + lattice[:, 1]) & 255] & 0x0E
    table = np.array([5, 2, 2, 5, -5, 2, -2, 5, 5, -2, 2, -5, -5, -2, -2, -5], np.float32)
    gradients = torch.from_numpy(np.stack([table[which], table[which + 1]], 1).reshape(-1, 1))
    ours = torch.sparse.mm(weights, gradients).reshape(height, width).numpy()
    np.testing.assert_allclose(ours, reference, atol=2e-6)


def test_simplex_has_the_known_spread() -> None:
    z = maps(1000)
    assert float(z.std()) == pytest.approx(0.577, abs=0.02)
    assert float(z.std(dim=(1, 2)).mean()) == pytest.approx(0.535, abs=0.02)
    assert float(z.mean(dim=(1, 2)).std()) == pytest.approx(0.21, abs=0.02)


def test_simplex_has_the_known_autocorrelation() -> None:
    z = maps(1000).double()
    z = z - z.mean(dim=(1, 2), keepdim=True)
    known = {1: 0.945, 2: 0.855, 4: 0.724, 8: 0.535, 16: 0.291, 32: 0.058}
    for lag, value in known.items():
        found = float((z[:, :, lag:] * z[:, :, :-lag]).mean() / (z * z).mean())
        assert found == pytest.approx(value, abs=0.03), lag


def test_gaussian_is_standard_normal() -> None:
    z = noise.gaussian(noise.generators(torch.arange(20)), (2, 32, 32), "cpu")
    assert z.shape == (20, 2, 32, 32)
    assert kstest(z.flatten().numpy()[:5000], "norm").pvalue > 1e-3


@pytest.mark.parametrize("kind", [noise.simplex, noise.gaussian])
def test_noise_belongs_to_its_seed_and_not_to_the_batch(kind: object) -> None:
    draw = kind  # type: ignore[assignment]
    many = draw(noise.generators(torch.tensor([3, 1, 2])), (1, 20, 24), "cpu")  # type: ignore[operator]
    alone = draw(noise.generators(torch.tensor([1])), (1, 20, 24), "cpu")  # type: ignore[operator]
    torch.testing.assert_close(many[1], alone[0])
    assert not torch.allclose(many[0], many[1])


def test_channels_share_the_simplex_noise_of_their_image() -> None:
    z = noise.simplex(noise.generators(torch.tensor([1])), (3, 16, 16), "cpu")
    assert torch.equal(z[0, 0], z[0, 2])


def test_noise_is_the_same_inside_an_autocast_context() -> None:
    plain = maps(3, (20, 24))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(maps(3, (20, 24)), plain)
