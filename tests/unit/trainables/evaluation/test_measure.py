"""The whole measurement: names, groups, means, seals, and numbers that depend on nothing they should not."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.base.errors import InputError, SealedSplitError
from trainables.data.loading.open_dataset import load
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.splits import SEARCH_SPLITS, Split
from trainables.evaluation import measure as protocol_module
from trainables.evaluation.attacks.attacked_scores import attacked_scores
from trainables.evaluation.attacks.noise_robustness import noise_robustness
from trainables.evaluation.detectors.score_all import score_all
from trainables.evaluation.measure import Evaluation, evaluate, validate
from trainables.evaluation.metrics import ood_metrics as ood
from trainables.evaluation.metrics.calibration import calibration
from trainables.evaluation.metrics.metric_specs import METRICS, find_metric
from trainables.evaluation.metrics.protocol import GROUPS, SIDES, EvaluationProtocol
from trainables.evaluation.metrics.score_specs import SCORES
from trainables.networks import build as build_network

FAR = ("uniform", "gaussian", "blobs", "china", "china_stretched")
NEAR = ("permuted", "hflip", "mixture", "unknown")
VAL_NEAR = ("halves", "patchwork", "warped")
VAL_FAR = ("rademacher", "flower", "jigsaw", "inverted")
VAL = (*VAL_NEAR, *VAL_FAR)
VAL_GROUPS = ("near", "far", "all")
OOD = ("auroc", "aupr_in", "aupr_out", "fpr95_id_pos", "fpr95_ood_pos")
FAST = EvaluationProtocol("test", steps=2, max_images=40, ood_epsilons=(0.05, 0.1))


@cache
def benchmark() -> Benchmark:
    return load("digits-open")


@cache
def network() -> nn.Module:
    """Return a classifier of digits-open that is right about most images: nearest class mean."""
    train = benchmark().labelled(Split.TRAIN)
    means = np.stack([train.images[train.labels == c].mean(0).ravel() for c in range(6)]).astype(np.float64)
    linear = nn.Linear(64, 6)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(2 * means))
        linear.bias.copy_(torch.from_numpy(-(means**2).sum(1)))
    return nn.Sequential(nn.Flatten(), linear, nn.Dropout(0.5)).train()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def evaluated() -> Evaluation:
    return evaluate(network(), benchmark(), FAST, seeded(), "cpu")


def scores_of(images: np.ndarray, score: str = "msp") -> np.ndarray:
    return attacked_scores(network(), images[:40], score, 0.0, steps=1, generator=seeded())


def test_validation_names() -> None:
    found = validate(network(), benchmark().for_search(), FAST, seeded(), "cpu")
    assert set(found) == {
        "val/accuracy/clean",
        "val/accuracy/robust_0.15",
        "val/accuracy/robust_0.2",
        "val/accuracy/corrupted",
        "val/calibration/ece",
        *(f"val/auroc/{name}" for name in VAL),
        *(f"val/{metric}/{group}" for metric in OOD for group in VAL_GROUPS),
        *(f"val/robust_auroc_{e}/{name}" for e in ("0.05", "0.1") for name in (*VAL, *VAL_GROUPS)),
    }


@pytest.mark.parametrize("metric", ["auroc", "robust_auroc_0.1"])
def test_validation_groups_are_means_over_their_sets(metric: str) -> None:
    found = validate(network(), benchmark().for_search(), FAST, seeded(), "cpu")
    for group, names in (("near", VAL_NEAR), ("far", VAL_FAR), ("all", VAL)):
        mean = np.mean([found[f"val/{metric}/{name}"] for name in names])
        assert found[f"val/{metric}/{group}"] == pytest.approx(mean, abs=1e-12)


def test_evaluation_names() -> None:
    assert set(evaluated().metrics) == {
        "test/accuracy/clean",
        "test/accuracy/robust_0.15",
        "test/accuracy/robust_0.2",
        "test/accuracy/corrupted",
        "test/accuracy/corrupted/off_noise",
        "test/calibration/ece",
        *(
            f"test/accuracy/corrupted/{c}"
            for c in {name.split("/")[0] for name in benchmark().sets(Split.CORRUPTED)}
        ),
        *(f"test/{m}/{name}" for m in OOD for name in (*NEAR, *FAR, "rotated90", "near", "far")),
        *(
            f"test/{s}/{m}/{name}"
            for s in FAST.scores
            for m in OOD
            for name in (*NEAR, *FAR, "rotated90", "near", "far")
        ),
        *(
            f"test/robust_auroc_{e}/{name}"
            for e in ("0.05", "0.1")
            for name in (*NEAR, *FAR, "rotated90", "near", "far")
        ),
        *(
            f"test/robust_{rate}_{e}/{group}"
            for rate in ("fpr95_id_pos", "fpr95_ood_pos")
            for e in ("0.05", "0.1")
            for group in ("near", "far")
        ),
    }


def test_names_suit_mlflow_and_values_are_shares() -> None:
    for name, value in evaluated().metrics.items():
        assert re.fullmatch(r"[\w\-. :/]+", name, re.ASCII), name
        assert isinstance(value, float), name
        assert 0 <= value <= 1, name


def test_numbers_are_those_of_the_parts() -> None:
    """Recompute a metric of each kind from the images, set by set."""
    metrics, parts = evaluated().metrics, benchmark()
    test = parts.labelled(Split.TEST_ID)
    with torch.no_grad():
        predicted = network().eval()(torch.from_numpy(test.images[:40])).argmax(1).numpy()
    network().train()
    assert metrics["test/accuracy/clean"] == (predicted == test.labels[:40]).mean()
    china = parts.sets(Split.TEST_OOD_FAR)["china"].images
    for name, function in ood.OOD_METRICS.items():
        wanted = function(scores_of(test.images), scores_of(china))
        assert metrics[f"test/{name}/china"] == pytest.approx(wanted)
    unknown = parts.sets(Split.TEST_OOD_NEAR)["unknown"].images
    wanted = ood.auroc(scores_of(test.images, "energy"), scores_of(unknown, "energy"))
    assert metrics["test/energy/auroc/unknown"] == pytest.approx(wanted)
    np.testing.assert_allclose(evaluated().scores["china"], scores_of(china))
    attacked = evaluated().attacked_scores["0.1"]
    assert metrics["test/robust_auroc_0.1/china"] == ood.auroc(attacked["id"], attacked["china"])


def test_means_weigh_sets_alike_and_leave_rotations_out() -> None:
    metrics = evaluated().metrics
    for metric in (*OOD, "robust_auroc_0.1"):
        for group, names in (("near", NEAR), ("far", FAR)):
            mean = np.mean([metrics[f"test/{metric}/{name}"] for name in names])
            assert metrics[f"test/{metric}/{group}"] == pytest.approx(mean)
    prefix = "test/accuracy/corrupted/"
    corruptions = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
    off_noise = corruptions.pop("off_noise")
    assert len(corruptions) == 10
    assert metrics["test/accuracy/corrupted"] == pytest.approx(np.mean(list(corruptions.values())))
    quiet = [v for k, v in corruptions.items() if k not in ("gaussian_noise", "shot_noise", "impulse_noise")]
    assert len(quiet) == 7
    assert off_noise == pytest.approx(np.mean(quiet))


def test_primary_score_is_also_reported_beside() -> None:
    metrics = evaluated().metrics
    for metric in OOD:
        assert metrics[f"test/{metric}/near"] == metrics[f"test/msp/{metric}/near"]
    energy = replace(FAST, score="energy", groups=("ood",))
    found = evaluate(network(), benchmark(), energy, seeded(), "cpu").metrics
    assert found["test/auroc/far"] == metrics["test/energy/auroc/far"]


def test_scores_are_kept_for_the_report() -> None:
    names = {"id", *NEAR, *FAR, "rotated90"}
    assert set(evaluated().scores) == names
    assert list(evaluated().attacked_scores) == ["0.05", "0.1"]
    for epsilon, scores in evaluated().attacked_scores.items():
        assert set(scores) == names
        np.testing.assert_array_equal(scores["id"], evaluated().scores["id"])
        for name, attacked in scores.items():
            assert (attacked.shape, attacked.dtype) == ((40,), np.float64)
            assert (attacked <= evaluated().scores[name] + 1e-6).all(), (epsilon, name)
    assert evaluated().remarks == []


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_gives_the_same_numbers_alone(group: str) -> None:
    alone = evaluate(network(), benchmark(), replace(FAST, groups=(group,)), seeded(), "cpu").metrics
    assert alone
    assert alone == {name: evaluated().metrics[name] for name in alone}
    assert {name for name in alone if "clean" in name} == (
        {"test/accuracy/clean"} if group == "clean" else set()
    )


def test_groups_share_the_metrics_among_them() -> None:
    counts = [
        len(validate(network(), benchmark(), replace(FAST, groups=(group,)), seeded(), "cpu"))
        for group in GROUPS
    ]
    assert dict(zip(GROUPS, counts, strict=True)) == {
        "clean": 1,
        "calibration": 1,
        "ood": 22,  # AUROC of 7 sets, 5 metrics of 3 groups
        "robust": 2,
        "robust_ood": 20,  # 7 sets and 3 groups at 2 radii
        "corrupted": 1,
    }


def test_repeats_with_the_generator_and_only_attacks_move_with_it() -> None:
    again = evaluate(network(), benchmark(), FAST, seeded(), "cpu").metrics
    assert again == evaluated().metrics
    other = evaluate(network(), benchmark(), FAST, seeded(1), "cpu").metrics
    assert {k for k in other if other[k] != again[k]} <= {k for k in other if "robust" in k}


def test_search_reads_validation_only_and_evaluation_refuses_a_sealed_benchmark() -> None:
    opened = Benchmark(benchmark().info, benchmark().parts, "search")
    validate(network(), opened, FAST, seeded(), "cpu")
    assert opened.opened == {Split.VAL_ID, Split.VAL_OOD_NEAR, Split.VAL_OOD_FAR, Split.VAL_CORRUPTED}
    for sealed in (opened, benchmark().for_search()):
        with pytest.raises(SealedSplitError, match="split test_id of digits-open is sealed"):
            evaluate(network(), sealed, FAST, seeded(), "cpu")


def test_what_a_benchmark_lacks_is_left_out() -> None:
    whole = benchmark()
    few = {split: whole.parts[split] for split in (Split.VAL_ID, Split.TEST_ID)}
    found = validate(network(), Benchmark(whole.info, few), FAST, seeded(), "cpu")
    accuracies = {f"val/accuracy/{name}" for name in ("clean", "robust_0.15", "robust_0.2")}
    assert set(found) == {*accuracies, "val/calibration/ece"}
    result = evaluate(network(), Benchmark(whole.info, few), FAST, seeded(), "cpu")
    assert set(result.metrics) == {name.replace("val/", "test/") for name in found}
    assert (result.scores, result.attacked_scores) == ({}, {})
    few[Split.TEST_OOD_FAR] = whole.parts[Split.TEST_OOD_FAR]
    result = evaluate(network(), Benchmark(whole.info, few), FAST, seeded(), "cpu")
    assert result.metrics["test/auroc/far"] == evaluated().metrics["test/auroc/far"]
    assert not any("near" in name or "unknown" in name for name in result.metrics)


def test_the_network_is_left_in_its_mode() -> None:
    model = network()
    model[2].eval()
    try:
        validate(model, benchmark(), replace(FAST, groups=("clean", "robust_ood")), seeded(), "cpu")
        assert [m.training for m in model] == [True, True, False]
        assert all(p.requires_grad for p in model.parameters())
    finally:
        model.train()


def test_mixed_dtypes_are_measured_alike() -> None:
    whole = benchmark()
    flower = whole.parts[Split.VAL_OOD_FAR]["flower"]
    grey = LabelledImages((flower.images * 255).round().astype(np.uint8), flower.labels)
    parts = dict(whole.parts)
    parts[Split.VAL_OOD_FAR] = {**whole.parts[Split.VAL_OOD_FAR], "flower": grey}
    protocol = replace(FAST, groups=("ood",))
    a = validate(network(), whole, protocol, seeded(), "cpu")
    b = validate(network(), Benchmark(whole.info, parts), protocol, seeded(), "cpu")
    assert a == pytest.approx(b, abs=2e-3)


def test_the_calibration_error_is_that_of_the_test_images() -> None:
    test = benchmark().labelled(Split.TEST_ID)
    with torch.no_grad():
        logits = network().eval()(torch.from_numpy(test.images[:40]))
    network().train()
    assert evaluated().metrics["test/calibration/ece"] == calibration(logits, test.labels[:40]).ece


# -- detectors and AutoAttack ------------------------------------------------------------------------------


def classifier(classes: int = 6) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network("small_cnn", classes, (1, 8, 8), (0.3,), (0.25,))


def test_every_measured_metric_is_in_the_range_of_its_spec_and_every_spec_is_measured() -> None:
    """But for AutoAttack, the mCE of ImageNet-C and top-5 accuracies, which have tests of their own."""
    protocol = replace(
        FAST,
        ood_epsilons=(0.05,),
        ood_sides=SIDES,
        scores=SCORES.names,
        robust_scores=("msp", "energy"),
        detectors=("knn", "cores"),
        check_steps=3,
        check_images=4,
        noise_rms=0.2,
        noise_steps=2,
    )
    metrics = dict(evaluate(classifier(), benchmark(), protocol, seeded(), "cpu").metrics)
    metrics |= validate(classifier(), benchmark(), protocol, seeded(), "cpu")
    specs = {name: find_metric(name).spec for name in metrics}
    assert all(specs[name].low <= value <= specs[name].high for name, value in metrics.items())
    elsewhere = {"accuracy/autoattack_{epsilon}", "mce", "mce/off_noise"}
    elsewhere |= {"accuracy/top5", "accuracy/corrupted/top5"}
    measured = {spec.name for spec in METRICS if spec.group in GROUPS}
    assert {spec.name for spec in specs.values()} == measured - elsewhere


def test_a_metric_without_a_spec_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "mce_metrics", lambda *_: {"mce/relative": 0.5})
    with pytest.raises(InputError, match="unknown metric 'test/mce/relative'; did you mean test/mce"):
        evaluate(network(), benchmark(), replace(FAST, groups=("corrupted",)), seeded(), "cpu")


def test_detectors_stand_beside_the_scores_and_are_fitted_on_training_images_alone() -> None:
    protocol = replace(FAST, groups=("ood",), detectors=("knn", "react"), max_images=30)
    opened = Benchmark(benchmark().info, benchmark().parts)
    found = evaluate(classifier(), opened, protocol, seeded(), "cpu")
    without = evaluate(classifier(), benchmark(), replace(protocol, detectors=()), seeded(), "cpu")
    sets = (*NEAR, *FAR, "rotated90", "near", "far")
    more = {f"test/{d}/{m}/{name}" for d in ("knn", "react") for m in OOD for name in sets}
    assert set(found.metrics) - set(without.metrics) == more
    assert {name: found.metrics[name] for name in without.metrics} == without.metrics
    images = {
        name: data.images[:30]
        for split in (Split.TEST_ID, Split.TEST_OOD_FAR)
        for name, data in benchmark().sets(split).items()
    }
    wanted = score_all(classifier(), benchmark().labelled(Split.TRAIN), images, ["knn"], "cpu")["knn"]
    mean = np.mean([ood.auroc(wanted["id"], wanted[name]) for name in FAR])
    assert found.metrics["test/knn/auroc/far"] == pytest.approx(mean)
    assert not opened.opened & (SEARCH_SPLITS - {Split.TRAIN})


def test_a_detector_that_does_not_suit_becomes_a_remark_and_no_metric() -> None:
    parts = dict(benchmark().parts)
    train = parts[Split.TRAIN]["id"]
    parts[Split.TRAIN] = {"id": LabelledImages(train.images[:20], train.labels[:20])}
    protocol = replace(FAST, groups=("ood",), detectors=("knn", "ash"), max_images=10)
    found = evaluate(classifier(), Benchmark(benchmark().info, parts), protocol, seeded(), "cpu")
    (remark,) = found.remarks
    assert remark.startswith("detector knn left out: the KNN detector looks for neighbour 50")
    assert "test/ash/auroc/near" in found.metrics
    assert not any("knn" in name for name in found.metrics)
    with pytest.raises(InputError, match="not Sequential"):
        evaluate(network(), benchmark(), protocol, seeded(), "cpu")


def test_nan_logits_name_the_set() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :6] * torch.nan

    with pytest.raises(ood.MetricInputError, match="ID scores of halves: 40 of 40 are NaN"):
        validate(Broken(), benchmark(), replace(FAST, groups=("ood",)), seeded(), "cpu")


def test_unknown_names_are_refused() -> None:
    for protocol, message in (
        (replace(FAST, groups=("cleen",)), "unknown metric group 'cleen'; did you mean clean"),
        (replace(FAST, score="odin"), "unknown outlier score 'odin'"),
        (replace(FAST, scores=("msp", "enrgy")), "did you mean energy"),
    ):
        with pytest.raises(InputError, match=message):
            validate(network(), benchmark(), protocol, seeded(), "cpu")


def test_top5_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: of six classes the one asked for has the third, fifth and sixth logit, so two of three are in."""
    logits = torch.tensor([[5.0, 4, 3, 2, 1, 0], [5.0, 4, 3, 2, 1, 0], [5.0, 4, 3, 2, 1, 0]])
    assert protocol_module.top5_accuracy(logits, np.array([2, 4, 5])) == pytest.approx(2 / 3)
    quick = replace(FAST, groups=("clean", "corrupted"))
    assert not any("top5" in name for name in evaluated().metrics)
    monkeypatch.setattr(protocol_module, "TOP5_CLASSES", 6)
    found = evaluate(network(), benchmark(), quick, seeded(), "cpu").metrics
    images = benchmark().labelled(Split.TEST_ID)
    with torch.no_grad():
        own = network().eval()(torch.tensor(images.images[:40]))
    worst = own.argmin(1).numpy() != images.labels[:40]  # of six classes, all but the last are among five
    assert found["test/accuracy/top5"] == pytest.approx(worst.mean())
    assert found["test/accuracy/clean"] <= found["test/accuracy/top5"]
    assert found["test/accuracy/corrupted"] < found["test/accuracy/corrupted/top5"] <= 1


def test_learned_noise_is_that_of_a_generator_trained_anew() -> None:
    """Strengths are per value: an L2 norm over the root of 64; measured on the images that the protocol allows."""
    noisy = replace(FAST, groups=("clean",), noise_rms=0.2, noise_steps=30)
    found = evaluate(network(), benchmark(), noisy, seeded(), "cpu").metrics
    again = evaluate(network(), benchmark(), replace(noisy, groups=("clean", "ood")), seeded(), "cpu").metrics
    names = ("test/learned_noise/median_rms", "test/learned_noise/accuracy")
    assert [found[name] for name in names] == [again[name] for name in names]  # whatever else is measured
    session = protocol_module._Session(network(), noisy, seeded(), "cpu")
    data = session.first(benchmark().sets(Split.TEST_ID))["id"]
    direct = noise_robustness(
        network(),
        benchmark().labelled(Split.TRAIN),
        data,
        0.2 * 8,
        iterations=30,
        generator=session.stream("learned_noise"),
    )
    assert found[names[0]] == pytest.approx(direct.median_l2 / 8)
    assert found[names[1]] == direct.accuracy
    assert 0 < found[names[0]] < 1
    assert not any("learned_noise" in name for name in evaluated().metrics)
