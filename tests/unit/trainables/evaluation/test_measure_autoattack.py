"""AutoAttack as a part of the measurement: its metric, its resume, and the remarks on what it doubts."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from tests.unit.trainables.evaluation.test_measure import benchmark, classifier, seeded
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.splits import Split
from trainables.evaluation import measure as protocol_module
from trainables.evaluation.attacks import autoattack
from trainables.evaluation.attacks.autoattack import AttackBudget, auto_attack
from trainables.evaluation.measure import evaluate
from trainables.evaluation.metrics.protocol import EvaluationProtocol

AUTO = EvaluationProtocol("auto", groups=("clean",), auto_attack_epsilons=(0.05, 0.1), auto_attack_images=12)


def with_classes(count: int) -> Benchmark:
    """Return digits of the first classes, no more."""
    test = benchmark().labelled(Split.TEST_ID)
    rows = np.flatnonzero(test.labels < count)[:20]
    info = replace(benchmark().info, num_classes=count)
    return Benchmark(info, {Split.TEST_ID: {"id": LabelledImages(test.images[rows], test.labels[rows])}})


def test_autoattack_has_a_name_of_its_own_resumes_and_tells_its_doubts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = AttackBudget(iterations=5, targets=2, queries=20)
    seen: list[int] = []

    def short(net: nn.Module, data: LabelledImages, *arguments: Any, **named: Any) -> Any:
        seen.append(len(data))
        return auto_attack(net, data, *arguments, **named, budget=budget)

    monkeypatch.setattr(protocol_module, "auto_attack", short)
    found = evaluate(classifier(), with_classes(6), AUTO, seeded(), "cpu", state=tmp_path)
    assert set(found.metrics) == {
        "test/accuracy/clean",
        "test/accuracy/autoattack_0.05",
        "test/accuracy/autoattack_0.1",
    }
    assert found.metrics["test/accuracy/autoattack_0.1"] <= found.metrics["test/accuracy/autoattack_0.05"]
    assert seen == [12, 12]
    assert {path.name for path in tmp_path.iterdir()} == {"autoattack-0.05.npz", "autoattack-0.1.npz"}
    assert any("is its reduced version" in line for line in found.remarks)

    def refuse(*arguments: Any) -> None:
        raise AssertionError("attacked again")

    monkeypatch.setattr(autoattack, "_perturb", refuse)
    assert evaluate(classifier(), with_classes(6), AUTO, seeded(), "cpu", state=tmp_path) == found


def test_autoattack_of_three_classes_says_that_it_is_not_the_standard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget = AttackBudget(iterations=5, queries=20)
    monkeypatch.setattr(protocol_module, "auto_attack", partial(auto_attack, budget=budget))
    network = classifier(3)
    protocol = replace(AUTO, auto_attack_epsilons=(0.3,), auto_attack_images=3)
    found = evaluate(network, with_classes(3), protocol, seeded(), "cpu")
    assert found.remarks[-1].startswith("AutoAttack at 0.3 is its custom version (apgd-ce, apgd-dlr, square)")
    logits = nn.Softmax(1)
    doubted = evaluate(nn.Sequential(network, logits), with_classes(3), protocol, seeded(), "cpu")
    assert any(line.startswith("AutoAttack at 0.3: ") and "logits" in line for line in doubted.remarks)
