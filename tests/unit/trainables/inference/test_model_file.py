"""What a predictor is told of its network, and that it answers as the evaluation does."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.unit import disk_formats as disk
from tests.unit.trainables.inference.networks import INFO, network, validation
from trainables.base.errors import InputError
from trainables.data.loading import from_files
from trainables.data.loading.open_dataset import load
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.splits import DatasetInfo, Split
from trainables.evaluation.measure import evaluate
from trainables.evaluation.metrics.calibration import fit_temperature
from trainables.evaluation.metrics.ood_metrics import threshold95
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.evaluation.metrics.scores import energy, msp
from trainables.inference.model_file import facts_of, model_bytes, pickled, predictor
from trainables.inference.registrable import SHIPPED


class Mean(nn.Module):
    """Logits (9 m, 0) of the mean m of an image in [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        m = 9 * x.mean((1, 2, 3))
        return torch.stack([m, torch.zeros_like(m)], 1)


GREY = DatasetInfo("grey", 2, (1, 4, 4), (0.5,), (0.2,))


def test_threshold_and_temperature_by_hand() -> None:
    """20 images of value k / 20 have max logits 9 k / 20; the 19 largest are accepted, the darkest but one the last."""
    images = np.ones((20, 1, 4, 4), np.float32) * np.arange(20, dtype=np.float32)[:, None, None, None] / 20
    facts = facts_of(Mean(), GREY, "max_logit", LabelledImages(images, np.ones(20, int)), {"run": "r"})
    assert facts["threshold"] == pytest.approx(-9 / 20, abs=3e-5)
    assert facts["threshold"] > -9 / 20
    assert facts["classes"] == ["0", "1"]
    assert (facts["channels"], facts["height"], facts["width"], facts["crop"], facts["pad"]) == (
        1,
        4,
        4,
        1.0,
        0,
    )
    assert (facts["score"], facts["validation_images"], facts["source"]) == ("max_logit", 20, {"run": "r"})
    same = np.full((4, 1, 4, 4), 4 / 9, np.float32)  # logits (4, 0)
    labels = np.array([0, 0, 0, 1])
    facts = facts_of(Mean(), GREY, "msp", LabelledImages(same, labels), {})
    assert facts["temperature"] == pytest.approx(4 / np.log(3), rel=1e-5)


def test_without_validation_images_there_is_no_threshold() -> None:
    with pytest.raises(InputError, match="grey has no validation images"):
        facts_of(Mean(), GREY, "msp", LabelledImages(np.empty((0, 1, 4, 4), np.uint8), np.empty(0, int)), {})


@pytest.mark.slow
def test_the_share_of_validation_images_that_is_accepted() -> None:
    data = validation(count=60)
    facts = facts_of(network(), INFO, "energy", data, {})
    model = predictor(model_bytes(network(), facts))
    rows = model.predict(data.images.transpose(0, 2, 3, 1))
    assert sum(not row["is_ood"] for row in rows) == 57
    with torch.no_grad():
        logits = network()(torch.from_numpy(data.images) / 255)
    assert [row["class_name"] for row in rows] == [INFO.classes[i] for i in logits.argmax(1)]
    p = (logits.double() / fit_temperature(logits, data.labels)).softmax(1).amax(1)
    assert [row["probability"] for row in rows] == pytest.approx(p.tolist())
    assert [row["outlier_score"] for row in rows] == pytest.approx(energy(logits).tolist(), abs=1e-5)


@pytest.mark.slow
def test_pictures_of_all_sizes_are_scored_as_the_evaluation_scores_them(tmp_path: Path) -> None:
    """An image folder with wide, tall, small, transparent and grey pictures: same accuracy, same outlier scores."""
    rng = np.random.default_rng(0)

    def write(folder: str, count: int) -> list[Path]:
        (tmp_path / folder).mkdir(parents=True)
        paths = []
        for i in range(count):
            height, width = rng.integers(5, 90, 2).tolist()
            mode = ("RGB", "L", "RGBA")[i % 3]
            shape = (height, width) if mode == "L" else (height, width, len(mode))
            paths.append(tmp_path / folder / f"{i:02d}.png")
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(paths[-1])
        return paths

    test = [path for name in ("cat", "dog") for path in write(f"test/{name}", 6)]
    for name in ("cat", "dog"):
        write(f"train/{name}", 20)
    ood = write("ood/near/birds", 9)
    (tmp_path / "dataset.json").write_text('{"side": 32}')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", from_files.MissingDataWarning)
        benchmark = load("imagefolder", str(tmp_path))
    info = dataset_info("imagefolder", str(tmp_path))
    net = network(info)
    val = benchmark.labelled(Split.VAL_ID)
    model = predictor(model_bytes(net, facts_of(net, info, "msp", val, {})))
    protocol = EvaluationProtocol("test", groups=("clean", "ood"))
    seen = evaluate(net, benchmark, protocol, torch.Generator(), "cpu")

    def rows(paths: list[Path]) -> list[dict[str, object]]:
        return model.predict([np.asarray(Image.open(path)) for path in paths])

    own = rows(test)
    assert sorted(float(str(row["outlier_score"])) for row in own) == pytest.approx(
        sorted(seen.scores["id"]), abs=1e-5
    )
    right = [row["class_name"] == path.parent.name for row, path in zip(own, test, strict=True)]
    assert np.mean(right) == pytest.approx(seen.metrics["test/accuracy/clean"])
    assert sorted(float(str(row["outlier_score"])) for row in rows(ood)) == pytest.approx(
        sorted(seen.scores["birds"]), abs=1e-5
    )


@pytest.mark.slow
def test_mnist_pictures_get_their_margin(tmp_path: Path) -> None:
    disk.ID_SETS["mnist"](tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", from_files.MissingDataWarning)
        benchmark = load("mnist", str(tmp_path))
    info, data = benchmark.info, benchmark.labelled(Split.TEST_ID)
    assert info.pad == 2
    net = network(info)
    model = predictor(model_bytes(net, facts_of(net, info, "msp", data, {})))
    images = np.asarray(data.images)
    raw = images[:, 0, 2:-2, 2:-2]
    assert not (images.sum() - raw.sum())
    with torch.no_grad():
        expected = msp(net(torch.tensor(images) / 255).double())
    found = [row["outlier_score"] for row in model.predict(raw[..., None])]
    assert found == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.slow
def test_a_network_that_cannot_be_traced() -> None:
    class OneByOne(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([row.mean() * torch.ones(2) for row in x])

    facts = facts_of(
        Mean(), GREY, "msp", LabelledImages(np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, int)), {}
    )
    with pytest.raises(InputError, match=r"the network cannot be traced for batches of any size: .") as error:
        model_bytes(OneByOne(), facts)
    assert "\n" not in str(error.value)


ALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tuner", "trainables", "search_spaces", "launch", "ray", "optuna"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from robust_predictor import Predictor

picture = np.arange(16 * 20 * 3, dtype=np.uint8).reshape(16, 20, 3)
both = (
    Predictor.load(sys.argv[1] + "/model.pt2"),
    torch.load(sys.argv[1] + "/model.pth", weights_only=False),  # as mlflow.pytorch loads it
)
for model in both:
    print(model.eval().predict(picture)[0]["outlier_score"])
with torch.serialization.safe_globals([Predictor]):
    torch.load(sys.argv[1] + "/model.pth", weights_only=True)
assert "trainables" not in sys.modules
"""


@pytest.mark.slow
def test_it_loads_where_this_program_cannot_be_imported(tmp_path: Path) -> None:
    content = model_bytes(network(), facts_of(network(), INFO, "msp", validation(), {}))
    (tmp_path / "model.pt2").write_bytes(content)
    (tmp_path / "model.pth").write_bytes(pickled(content))
    assert b"trainables" not in (tmp_path / "model.pth").read_bytes()
    (tmp_path / SHIPPED.name).write_bytes(SHIPPED.read_bytes())
    run = subprocess.run(
        [sys.executable, "-P", "-c", ALONE, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    picture = np.arange(16 * 20 * 3, dtype=np.uint8).reshape(16, 20, 3)
    expected = predictor(content).predict(picture)[0]["outlier_score"]
    assert [float(line) for line in run.stdout.split()] == pytest.approx([expected] * 2)


def test_scores_and_thresholds_are_those_of_the_metrics() -> None:
    """The threshold is the one of FPR95, but for the rounding of other programs."""
    data = validation()
    with torch.no_grad():
        logits = network()(torch.from_numpy(data.images) / 255).double()
    exact = threshold95(msp(logits).numpy())
    found = facts_of(network(), INFO, "msp", data, {})["threshold"]
    assert exact < found <= exact + 3e-5 * (1 + abs(exact))
