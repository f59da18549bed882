"""PyTorch, TorchScript and ONNX files compute the numbers of the network."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.trainables.inference.networks import INFO, network, validation
from trainables.base.errors import InputError
from trainables.inference import formats
from trainables.inference.format_specs import FORMATS
from trainables.inference.formats import OUTPUTS, Export, check_installed, difference
from trainables.inference.model_file import Scored, facts_of
from trainables.inference.robust_predictor import FACTS, PictureClassifier, Predictor


def facts(score: str = "msp") -> dict[str, Any]:
    return facts_of(network(), INFO, score, validation(), {"run": "r", "trial": "0003"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every format of one network."""
    pytest.importorskip("onnxruntime")
    made = tmp_path_factory.mktemp("export")
    written = Export(network(), facts()).write(FORMATS.names, made)
    assert all(entry["largest_difference"] < 1e-6 for entry in written.values())
    assert {name for entry in written.values() for name in entry["files"]} == {p.name for p in made.iterdir()}
    return made


def pictures(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (3, height, width, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(16, 16), (41, 17), (9, 80), (90, 9)])
def test_all_formats_agree_on_pictures_of_all_sizes(folder: Path, height: int, width: int) -> None:
    import onnxruntime

    images = pictures(height, width)
    with torch.no_grad():
        expected = PictureClassifier(Scored(network(), "msp"), facts()).eval()(images)
        found = {
            "pytorch": Predictor.load(folder / "model.pt2")(images),
            "torchscript": torch.jit.load(folder / "model.ts")(images),
        }
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert [each.name for each in session.get_outputs()] == [*OUTPUTS, "threshold"]
    *values, threshold = session.run(None, {"images": images.numpy()})
    assert threshold == pytest.approx(facts()["threshold"], abs=1e-12)
    found["onnx"] = dict(zip(OUTPUTS, map(torch.from_numpy, values), strict=True))
    for name, answer in found.items():
        for key in OUTPUTS:
            assert answer[key].dtype == expected[key].dtype, (name, key)
            assert torch.allclose(answer[key].double(), expected[key].double(), rtol=0, atol=1e-5), (
                name,
                key,
            )


PAGE = Path(__file__).parents[4] / "docs" / "using_the_winner.md"

WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "tuner", "trainables", "search_spaces", "launch"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.slow
def test_the_ten_lines_of_the_documentation_classify_and_flag_a_picture(folder: Path, tmp_path: Path) -> None:
    """Run as they are printed, where neither torch nor this program can be imported."""
    script = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    assert len([line for line in script.splitlines() if line]) <= 10
    (tmp_path / "classify.py").write_text(WITHOUT_TORCH + script)
    shutil.copy(folder / "model.onnx", tmp_path)
    model = Predictor.load(folder / "model.pt2")
    seen = set()
    for seed in range(8):
        pixels = np.random.default_rng(seed).integers(
            0, 1 + 32 * (seed + 1) % 256, (31, 22, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(tmp_path / "photo.png")
        done = subprocess.run(
            [sys.executable, "-P", "classify.py", "photo.png"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        (row,) = model.predict(pixels)
        flag = "unlike the training data" if row["is_ood"] else ""
        assert done.stdout == f"{row['class_name']} {row['probability']:.3f} {flag}\n"
        seen.add(flag)
    assert len(seen) == 2, "no picture, or every picture, was flagged"


def test_the_table_of_formats_is_that_of_the_specs() -> None:
    rows = [
        f"| `{each.name}` | {' '.join(f'`{file}`' for file in each.files)} | {each.about} | `{each.loads}` |"
        for each in FORMATS
    ]
    assert "\n".join(rows) in PAGE.read_text()


@pytest.mark.slow
def test_every_file_holds_the_facts(folder: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert json.loads(session.get_modelmeta().custom_metadata_map[FACTS]) == facts()
    extra = {FACTS: ""}
    script = torch.jit.load(folder / "model.ts", _extra_files=extra)
    assert json.loads(extra[FACTS]) == facts()
    assert script.class_names == list(INFO.classes)
    assert Predictor.load(folder / "model.pt2").facts == facts()


@pytest.mark.slow
def test_a_script_takes_float_pictures_and_either_order(folder: Path) -> None:
    script = torch.jit.load(folder / "model.ts").eval()
    images = pictures(16, 16)
    whole = script(images)["outlier_score"]
    assert torch.allclose(script(images.double() / 255)["outlier_score"], whole)
    assert torch.allclose(script(images.permute(0, 3, 1, 2).float() / 255)["outlier_score"], whole)


@pytest.mark.slow
def test_a_file_that_differs_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Export(network(), facts())
    hotter = {"temperature": 2 * facts()["temperature"]}
    monkeypatch.setattr(formats, "PictureClassifier", lambda net, own: PictureClassifier(net, own | hotter))
    with pytest.raises(
        InputError, match=r"the torchscript file differs from the network by 0\.\d+ where 1e-05"
    ):
        made.write(["torchscript"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"onnx needs onnx, onnxruntime, onnxscript: pip install 'robust-tuner\[exp"
    ):
        check_installed(["pytorch", "onnx"])
    check_installed(["pytorch", "torchscript"])


def answer(**changed: Any) -> dict[str, np.ndarray]:
    values = {
        "class_index": [0, 1],
        "probability": [0.9, 0.6],
        "outlier_score": [-2.0, 0.5],
        "is_ood": [False, True],
        "logits": [[4.0, 1.0], [1.0, 2.0]],
    }
    return {key: np.array(value) for key, value in (values | changed).items()}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 0.0),
        ({"logits": [[4.0, 1.0], [1.0, 2.1]]}, 0.1 / 4),  # the largest logit is 4
        ({"outlier_score": [-2.0, 0.7]}, 0.2 / 4),
        ({"probability": [0.9, float("nan")]}, float("nan")),
        ({"class_index": [1, 1]}, float("inf")),
        ({"is_ood": [False, False]}, float("inf")),
    ],
)
def test_differences_by_hand(changed: dict[str, Any], expected: float) -> None:
    assert difference(answer(), answer(**changed), 0.0) == pytest.approx(expected, nan_ok=True)


def test_what_rounding_alone_decides_may_differ() -> None:
    tied = answer(logits=[[4.0, 4.0], [1.0, 2.0]])
    assert difference(tied, {**tied, "class_index": np.array([1, 1])}, 0.0) == 0.0
    assert difference(answer(), answer(is_ood=[False, False]), 0.5) == 0.0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="paths of this machine")
def test_no_file_names_the_folders_of_this_machine(folder: Path) -> None:
    here = str(Path(formats.__file__).parents[2]).encode()
    assert here not in (folder / "model.onnx").read_bytes()
    for name in ("model.pt2", "model.ts"):
        with zipfile.ZipFile(folder / name) as archive:
            assert not any(here in archive.read(entry) for entry in archive.namelist()), name
