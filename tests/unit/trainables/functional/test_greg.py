"""The gradient penalty against derivatives by hand and by differences; the choice of outliers by hand."""

import math

import pytest
import torch
from torch import nn

from trainables.functional.greg import choose_outliers, gradient_penalty, kmeans
from trainables.functional.losses import energy
from trainables.networks import build as build_network


class Slope(nn.Module):
    """Logits (w x, 0) of one pixel."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x):
        x = x.flatten(1)
        return torch.cat([self.w * x, torch.zeros_like(x)], 1)


def pixels(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def test_penalty_golden():
    """w = log 3: at x = 1, p = 3/4 and the slope is -(3/4) log 3; at x = 0, p = 1/2 and it is -(1/2) log 3.

    E(1) = -log 4 < -1 and E(0) = -log 2 > -1: both are on their right sides of m_in = m_out = -1.
    """
    value = gradient_penalty(Slope(math.log(3)), pixels(1.0), pixels(0.0), -1.0, -1.0)
    assert value.item() == pytest.approx(1.25 * math.log(3), abs=1e-12)


def test_images_on_the_wrong_side_count_as_zero_but_count():
    """Of two inliers at 1 and 0 only the first is below -1: the mean halves; the outlier at 1 is not above -1."""
    value = gradient_penalty(Slope(math.log(3)), pixels(1.0, 0.0), pixels(1.0), -1.0, -1.0)
    assert value.item() == pytest.approx(0.375 * math.log(3), abs=1e-12)


def test_upstream_is_clean_divided_by_the_joint_batch():
    """Also with unequal halves: each row of the gradient of the mean hinge carries its own 1 / n."""
    network, inliers, outliers = (
        smooth_network(),
        torch.rand(3, 1, 2, 2).double(),
        torch.rand(5, 1, 2, 2).double(),
    )
    energies = energy(network(torch.cat([inliers, outliers]))).detach()
    m_in, m_out = energies[:3].median().item() + 1e-6, energies[3:].median().item() - 1e-6
    clean = gradient_penalty(network, inliers, outliers, m_in, m_out)
    upstream = gradient_penalty(network, inliers, outliers, m_in, m_out, mode="upstream")
    assert clean.item() > 0
    torch.testing.assert_close(upstream * 8, clean)


@pytest.mark.parametrize("mode", ["clean", "upstream"])
def test_gradient_to_the_weights_matches_differences(mode):
    """Central differences in float64, over every weight."""
    network, inliers, outliers = (
        smooth_network(),
        torch.rand(3, 1, 2, 2).double(),
        torch.rand(2, 1, 2, 2).double(),
    )

    def value():
        return gradient_penalty(network, inliers, outliers, 10.0, -10.0, mode=mode)

    found = torch.autograd.grad(value(), list(network.parameters()), allow_unused=True)
    for parameter, gradient in zip(network.parameters(), found, strict=True):
        flat = parameter.data.view(-1)
        for index in range(0, len(flat), 3):
            kept = flat[index].item()
            flat[index] = kept + 1e-5
            above = value().item()
            flat[index] = kept - 1e-5
            below = value().item()
            flat[index] = kept
            got = 0.0 if gradient is None else gradient.view(-1)[index].item()
            assert got == pytest.approx((above - below) / 2e-5, abs=1e-7)


def test_a_flat_energy_has_a_finite_gradient():
    """All weights 0: every slope is 0, where the derivative of a square root would be infinite."""
    network = Slope(0.0)
    value = gradient_penalty(network, pixels(0.5, 0.25), pixels(0.75), 0.0, -10.0)
    value.backward()
    assert value.item() == 0.0
    assert network.w.grad.item() == 0.0


def test_clean_mode_couples_no_images_and_leaves_batch_norm_alone():
    """The penalty of a batch is the mean of the penalties of its images, in a network in training mode."""
    torch.manual_seed(0)
    network = build_network("wrn_40_2", 4, (1, 8, 8), (0.3,), (0.25,)).double()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    images, outlier = torch.rand(2, 1, 8, 8).double(), torch.rand(1, 1, 8, 8).double()
    joint = gradient_penalty(network, images, outlier, 100.0, 100.0)
    alone = [gradient_penalty(network, images[i : i + 1], outlier, 100.0, 100.0) for i in range(2)]
    torch.testing.assert_close(joint, (alone[0] + alone[1]) / 2)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_unknown_mode():
    with pytest.raises(ValueError, match="clean, upstream"):
        gradient_penalty(Slope(1.0), pixels(1.0), pixels(0.0), -1.0, -1.0, mode="other")


#: Two directions with a spread of lengths; energies of the first cluster 1, 2, 5 and of the second 3, 4, 6.
FEATURES = torch.tensor([[1.0, 0.01], [3.0, 0.0], [2.0, 0.05], [0.0, 1.0], [0.02, 4.0], [0.01, 2.0]])
ENERGIES = torch.tensor([1.0, 2.0, 5.0, 3.0, 4.0, 6.0])


@pytest.mark.parametrize("seed", range(5))
def test_takes_the_hardest_of_each_cluster(seed):
    """The lowest energies are 1 (candidate 0) and 3 (candidate 3), whatever the first centres are."""
    chosen = choose_outliers(FEATURES, ENERGIES, 2, generator(seed), clusters=2)
    assert sorted(chosen.tolist()) == [0, 3]


@pytest.mark.parametrize("seed", range(5))
def test_two_way_also_takes_the_easiest(seed):
    """The highest energies are 5 (candidate 2) and 6 (candidate 5)."""
    chosen = choose_outliers(FEATURES, ENERGIES, 4, generator(seed), clusters=2, two_way=True)
    assert sorted(chosen.tolist()) == [0, 2, 3, 5]


def test_fills_up_at_random_with_distinct_candidates():
    fills = set()
    for seed in range(20):
        chosen = choose_outliers(FEATURES, ENERGIES, 3, generator(seed), clusters=2).tolist()
        assert len(set(chosen)) == 3
        assert {0, 3} < set(chosen)
        fills |= set(chosen) - {0, 3}
    assert fills == {1, 2, 4, 5}


def test_energy_ranks_are_cut_before_clustering():
    """Ranks 1/3 to 1 leave energies 3, 4, 5, 6 (candidates 3, 4, 2, 5): the hardest are now 2 and 3."""
    chosen = choose_outliers(FEATURES, ENERGIES, 2, generator(), clusters=2, rank_start=1 / 3)
    assert sorted(chosen.tolist()) == [2, 3]


def test_one_cluster_without_room_for_fill_takes_the_hardest_of_all():
    assert choose_outliers(FEATURES, ENERGIES, 1, generator(1), clusters=64).tolist() == [0]


def test_too_few_candidates():
    with pytest.raises(ValueError, match="3 of 6 candidates"):
        choose_outliers(FEATURES, ENERGIES, 4, generator(), rank_end=0.5)


def test_the_choice_depends_on_the_generator_alone():
    points, energies = torch.randn(60, 4, generator=generator(1)), torch.randn(60, generator=generator(2))
    first, again, other = (choose_outliers(points, energies, 20, generator(s), clusters=8) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first.sort().values, other.sort().values)


def test_kmeans_ends_where_every_point_is_nearest_to_its_own_mean():
    """A fixed point of Lloyd's rule: clusters recomputed from their means by loops are the clusters found."""
    points = torch.randn(40, 3, generator=generator(5), dtype=torch.float64)
    group = kmeans(points, 4, generator(6), steps=100)
    means = {k: points[group == k].mean(0) for k in group.unique().tolist()}
    for point, found in zip(points, group.tolist(), strict=True):
        distances = {k: (point - mean).norm().item() for k, mean in means.items()}
        assert min(distances, key=distances.get) == found


def test_kmeans_of_as_many_clusters_as_points_separates_them():
    assert sorted(kmeans(torch.eye(5), 5, generator()).tolist()) == [0, 1, 2, 3, 4]
