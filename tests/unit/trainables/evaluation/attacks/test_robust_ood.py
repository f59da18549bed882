"""OOD detection under attack: exact on a linear network for every side, and a check that catches masked gradients."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.lazy_images import ArraySource, LazyImages
from trainables.data.types.splits import DatasetInfo, Split
from trainables.evaluation.attacks import image_batches
from trainables.evaluation.attacks.attacked_scores import attacked_scores
from trainables.evaluation.attacks.robust_accuracy import robust_verdicts
from trainables.evaluation.attacks.robust_ood import ScoreAttacks, UnderAttack
from trainables.evaluation.measure import Evaluation, evaluate, validate
from trainables.evaluation.metrics import ood_metrics as ood
from trainables.evaluation.metrics.protocol import SIDES, EvaluationProtocol

EPSILON = 0.02
PROTOCOL = EvaluationProtocol(
    "test", groups=("ood", "robust_ood"), ood_epsilons=(EPSILON,), ood_sides=SIDES, steps=10
)
INFO = DatasetInfo("toy", 2, (1, 4, 4), (0.5,), (0.25,))


class Linear(nn.Module):
    """Logits (z, 0) with z = w x + b: the MSP score is -|z|, and an attack moves z by epsilon ||w||_1 at most."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, generator=torch.Generator().manual_seed(0)))
        self.reach = EPSILON * float(self.weight.detach().abs().sum())

    def z(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight

    def forward(self, x: Tensor) -> Tensor:
        z = self.z(x)
        return torch.stack([z, torch.zeros_like(z)], 1)


class Rippled(Linear):
    """The same with a ripple that is too fine to matter, but whose slope is larger than the network's own.

    A period is 1/8 of what the ball reaches: one step of PGD-20, which comes to the same phase again and goes on. Over
    27 % of a period the slope is negative; a step of PGD-100 is 20 % of it, so that it ends in the next trough.
    """

    def forward(self, x: Tensor) -> Tensor:
        z, k = self.z(x), 2 * np.pi / (0.125 * self.reach)
        rippled = z + 1.5 / k * torch.sin(k * z)
        return torch.stack([rippled, torch.zeros_like(z)], 1)


def images(n: int, spread: float, seed: int) -> np.ndarray:
    """Return images away from the edges of [0, 1] on either side of the boundary, further with more spread."""
    rng = np.random.default_rng(seed)
    weight = Linear().weight.detach().numpy()
    along = rng.choice((-1, 1), (n, 1)) * rng.uniform(0.5, 1.0, (n, 1)) * spread * weight
    return (0.5 + along + rng.uniform(-0.01, 0.01, (n, 16))).reshape(n, 1, 4, 4).astype(np.float32)


SETS = {"id": images(60, 0.10, 0), "close": images(50, 0.07, 1), "other": images(40, 0.05, 2)}


def labelled(x: Any) -> LabelledImages:
    return LabelledImages(x, np.zeros(len(x), np.int64))


def benchmark(sets: dict[str, Any] = SETS) -> Benchmark:
    outliers = {name: labelled(x) for name, x in sets.items() if name != "id"}
    parts = {Split.TEST_ID: {"id": labelled(sets["id"])}, Split.TEST_OOD_NEAR: outliers}
    return Benchmark(INFO, parts)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def evaluated(
    network: nn.Module, protocol: EvaluationProtocol = PROTOCOL, sets: dict[str, Any] = SETS
) -> Evaluation:
    return evaluate(network, benchmark(sets), protocol, seeded(), "cpu")


def test_every_side_is_exact_on_a_linear_network() -> None:
    """OOD images gain the whole reach of |z|, ID images lose it; no image is near enough to cross the boundary."""
    network = Linear()
    with torch.no_grad():
        size = {name: network.z(torch.from_numpy(x)).abs().double().numpy() for name, x in SETS.items()}
    assert min(values.min() for values in size.values()) > network.reach
    metrics = evaluated(network).metrics
    for name in ("close", "other"):
        for side, inside, outside in (("", 0, 1), ("id_", -1, 0), ("both_", -1, 1)):
            wanted = ood.auroc(
                -(size["id"] + inside * network.reach), -(size[name] + outside * network.reach)
            )
            found = metrics[f"test/robust_auroc_{side}{EPSILON}/{name}"]
            assert found == pytest.approx(wanted, abs=2e-3), (side, name)
    rate = ood.fpr95_id_pos(-size["id"], -(size["close"] + network.reach))
    others = ood.fpr95_id_pos(-size["id"], -(size["other"] + network.reach))
    assert metrics[f"test/robust_fpr95_id_pos_{EPSILON}/near"] == pytest.approx((rate + others) / 2, abs=0.02)


def test_attacking_both_sides_is_worst() -> None:
    metrics = evaluated(Linear()).metrics
    for name in ("close", "other"):
        both = metrics[f"test/robust_auroc_both_{EPSILON}/{name}"]
        one = [metrics[f"test/robust_auroc_{side}{EPSILON}/{name}"] for side in ("", "id_")]
        assert both <= min(one) <= max(one) <= metrics[f"test/auroc/{name}"]


@pytest.mark.parametrize("sides", [("ood",), ("id",), ("both",), ("ood", "id")])
def test_a_side_has_the_same_numbers_alone(sides: tuple[str, ...]) -> None:
    whole = evaluated(Linear()).metrics
    alone = evaluated(Linear(), replace(PROTOCOL, ood_sides=sides))
    names = {name for name in alone.metrics if "robust" in name}
    tails = {"ood": "robust_auroc_0.02", "id": "robust_auroc_id_0.02", "both": "robust_auroc_both_0.02"}
    assert {n.split("/")[1] for n in names if "auroc" in n} == {tails[side] for side in sides}
    assert {name: whole[name] for name in names} == {name: alone.metrics[name] for name in names}
    kept = alone.attacked_scores["0.02"]
    assert ("id attacked" in kept) == ("id" in sides or "both" in sides)
    assert ("close" in kept) == ("ood" in sides or "both" in sides)
    np.testing.assert_array_equal(kept["id"], alone.scores["id"])


def test_a_set_has_the_same_numbers_whoever_is_beside_it() -> None:
    whole = evaluated(Linear())
    alone = evaluated(Linear(), sets={name: SETS[name] for name in ("id", "other")})
    np.testing.assert_array_equal(
        whole.attacked_scores["0.02"]["other"], alone.attacked_scores["0.02"]["other"]
    )


def test_more_scores_are_attacked_by_their_own_attack() -> None:
    protocol = replace(PROTOCOL, ood_sides=("ood",), robust_scores=("msp", "energy"))
    metrics = evaluated(Linear(), protocol).metrics
    assert metrics["test/msp/robust_auroc_0.02/near"] == metrics["test/robust_auroc_0.02/near"]
    energy = evaluated(Linear(), replace(protocol, score="energy")).metrics
    assert metrics["test/energy/robust_auroc_0.02/near"] == energy["test/robust_auroc_0.02/near"]
    assert metrics["test/energy/robust_auroc_0.02/near"] != metrics["test/robust_auroc_0.02/near"]


def test_validation_attacks_the_sides_that_it_names() -> None:
    test = benchmark().parts
    data = Benchmark(INFO, {Split.VAL_ID: test[Split.TEST_ID], Split.VAL_OOD_FAR: test[Split.TEST_OOD_NEAR]})
    found = validate(Linear(), data, replace(PROTOCOL, ood_sides=("ood", "id")), seeded(), "cpu")
    assert {n for n in found if "robust" in n} == {
        f"val/robust_auroc_{side}0.02/{name}"
        for side in ("", "id_")
        for name in ("close", "other", "far", "all")
    }


# -- does the attack hold? ---------------------------------------------------------------------------------

CHECKED = replace(PROTOCOL, ood_sides=("ood",), steps=20, check_steps=100, check_restarts=2, check_images=30)


def test_masked_gradients_are_found_out() -> None:
    found = evaluated(Rippled(), CHECKED)
    assert found.metrics["test/attack_check_0.02/auroc_change"] > 0.02
    (remark,) = found.remarks
    assert remark.startswith("gradient masking: PGD-100 with 2 restarts in place of PGD-20 with 1 moves")
    assert "on 60 OOD images" in remark


def test_an_attack_that_stops_too_early_is_found_out() -> None:
    found = evaluated(Rippled(), replace(CHECKED, steps=100, check_steps=20))
    assert found.metrics["test/attack_check_0.02/auroc_change"] < -0.02
    (remark,) = found.remarks
    assert remark.startswith("attack not converged: ")


def test_sound_gradients_raise_no_remark_and_the_reported_numbers_stay() -> None:
    found, plain = evaluated(Linear(), CHECKED), evaluated(Linear(), replace(CHECKED, check_steps=0))
    assert abs(found.metrics.pop("test/attack_check_0.02/auroc_change")) < 1e-3
    assert found.remarks == plain.remarks == []
    assert found.metrics == plain.metrics


def test_the_largest_radius_is_checked_and_id_images_alone_are_not() -> None:
    found = evaluated(Linear(), replace(CHECKED, ood_epsilons=(0.01, 0.02), check_steps=5))
    assert [name for name in found.metrics if "attack_check" in name] == [
        "test/attack_check_0.02/auroc_change"
    ]
    alone = evaluated(Linear(), replace(CHECKED, ood_sides=("id",)))
    assert not any("attack_check" in name for name in alone.metrics)


def test_what_is_compared() -> None:
    one, two, three, four = (np.array([float(i)]) for i in range(4))
    found = UnderAttack({"id": one, "a": two}, {"id": three, "a": four})
    assert found.compared("ood") == {"id": one, "a": four}
    assert found.compared("id") == {"id": three, "a": two}
    assert found.compared("both") == {"id": three, "a": four}
    assert found.for_plots() == {"id": one, "a": four, "id attacked": three}
    assert UnderAttack({"id": one}, {"a": four}).for_plots() == {"id": one, "a": four}


# -- sets that stay files ----------------------------------------------------------------------------------


class Counting(ArraySource):
    """Remembers how many pictures were decoded for one request."""

    most = 0

    def ready(self, rows: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray | None:
        type(self).most = max(self.most, len(rows))
        return super().ready(rows, shape)


def grey(count: int) -> tuple[np.ndarray, LazyImages]:
    """Return images as an array and as a lazy set."""
    pictures = np.random.default_rng(0).integers(90, 166, (count, 4, 4), dtype=np.uint8)
    return pictures[:, None], LazyImages(Counting(pictures), (1, 4, 4))


@pytest.mark.parametrize("values", [2**26, 600 * 16])
def test_lazy_sets_give_the_same_numbers_and_are_decoded_block_by_block(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1500 images; with 600 to a block that is three blocks, in the attacks on the class and on the score."""
    monkeypatch.setattr(image_batches, "BLOCK_VALUES", values)
    monkeypatch.setattr(Counting, "most", 0)
    eager, lazy = grey(1500)
    network = Linear()
    with torch.no_grad():
        labels = network(torch.from_numpy(eager / 255).float()).argmax(1).numpy()
    protocol = replace(PROTOCOL, steps=3, restarts=2)
    a, b = (
        robust_verdicts(network, LabelledImages(x, labels), 0.005, protocol, seeded(), "cpu")
        for x in (eager, lazy)
    )
    assert 0 < a.mean() < 1
    np.testing.assert_array_equal(a, b)
    c, d = (
        attacked_scores(network, x, "msp", 0.02, steps=3, restarts=2, generator=seeded())
        for x in (eager, lazy)
    )
    np.testing.assert_array_equal(c, d)
    assert Counting.most <= (600 if values < 2**26 else 1500)


def test_one_restart_has_the_same_starts_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    eager, _ = grey(1500)
    whole = attacked_scores(Linear(), eager, "msp", 0.02, steps=3, generator=seeded())
    monkeypatch.setattr(image_batches, "BLOCK_VALUES", 1)
    parts = attacked_scores(Linear(), torch.from_numpy(eager), "msp", 0.02, steps=3, generator=seeded())
    np.testing.assert_array_equal(whole, parts)


def test_a_whole_evaluation_of_lazy_sets_is_that_of_arrays() -> None:
    eager = {name: (x * 255).round().astype(np.uint8) for name, x in SETS.items()}
    lazy = {name: LazyImages(ArraySource(x[:, 0]), (1, 4, 4)) for name, x in eager.items()}
    protocol = replace(
        CHECKED, groups=("clean", "calibration", "ood", "robust", "robust_ood"), ood_sides=SIDES
    )
    a, b = (evaluated(Linear(), protocol, sets) for sets in (eager, lazy))
    assert list(a.metrics) == list(b.metrics)
    assert a.metrics == pytest.approx(b.metrics, abs=1e-6)


def test_an_empty_set_is_named() -> None:
    with pytest.raises(ood.MetricInputError, match="set other has no images"):
        evaluated(Linear(), sets={**SETS, "other": SETS["other"][:0]})
    attacks = ScoreAttacks(Linear(), PROTOCOL, {}, {"msp": {}}, lambda *keys: seeded(), torch.device("cpu"))
    assert attacks.under_attack("msp", 0.1).attacked == {}
