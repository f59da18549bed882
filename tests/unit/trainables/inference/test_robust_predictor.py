"""The shipped predictor: pictures of any size, depth and order of axes, read as the data sets read them."""

import ast
import copy
import io
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from trainables.data.types import lazy_images
from trainables.data.types.read_picture import read_picture
from trainables.inference import robust_predictor as shipped
from trainables.inference.model_file import resizes_tall_first
from trainables.inference.robust_predictor import FACTS, PictureClassifier, Predictor, fit, with_channels

FACTS_OF_TWO = {
    "format": 1,
    "classes": ["dark", "bright"],
    "channels": 1,
    "height": 4,
    "width": 4,
    "crop": 1.0,
    "pad": 0,
    "tall_first": True,
    "temperature": 2.0,
    "threshold": 0.25,
}


class Brightness(nn.Module):
    """Logits (-m, m) with m = mean - 1/2, score -m: outliers are dark."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        m = self.scale * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-m, m], 1), -m.double()


def classifier(**facts: object) -> PictureClassifier:
    return PictureClassifier(Brightness(), FACTS_OF_TWO | facts).eval()


@pytest.fixture(scope="module")
def program() -> Tensor:
    """The bytes of a model.pt2 of `Brightness`."""
    made = torch.export.export(
        Brightness().eval(), (torch.zeros(2, 1, 4, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    buffer = io.BytesIO()
    torch.export.save(made, buffer, extra_files={FACTS: json.dumps(FACTS_OF_TWO)})
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


# -- reading pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_pictures_are_scaled_as_the_data_sets_scale_them(seed: int) -> None:
    """To the last bit, against Pillow."""
    rng = np.random.default_rng(seed)
    for _ in range(25):
        height, width = rng.integers(1, 90, 2).tolist()
        shape = (int(rng.choice([1, 3])), int(rng.integers(1, 40)), int(rng.integers(1, 40)))
        crop = float(rng.choice([1.0, 0.875, 0.5]))
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if rng.random() < 0.3:
            pixels = 255 * (pixels > 127).astype(np.uint8)
        expected = lazy_images.fit(Image.fromarray(pixels), shape, crop)
        found = with_channels(torch.from_numpy(pixels).permute(2, 0, 1)[None], shape[0])
        cropped = torch.tensor(crop, dtype=torch.float64)
        for traced in (False, True):
            own = fit(found, *shape[1:], cropped, tall_first=resizes_tall_first(), traced=traced)
            assert np.array_equal(own[0].numpy(), expected), (pixels.shape, shape, crop, traced)


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L"])
def test_colours_and_transparency_are_those_of_the_readers(mode: str, tmp_path: Path) -> None:
    channels = len(mode)
    shape = (24, 31, channels) if channels > 1 else (24, 31)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png")
    for wanted in (1, 3):
        expected = lazy_images.fit(picture, (wanted, 24, 31))
        found = with_channels(
            torch.from_numpy(pixels.reshape(24, 31, channels)).permute(2, 0, 1)[None], wanted
        )
        assert np.array_equal(found[0].numpy(), expected)
        in_double = with_channels(
            torch.from_numpy(pixels.reshape(24, 31, channels) / 255).permute(2, 0, 1)[None], wanted
        )
        assert np.abs(255 * in_double[0].numpy() - expected).max() <= 1.0


def test_floating_point_pictures_are_scaled_alike_but_not_rounded() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 50, 37), dtype=np.uint8))
    crop = torch.tensor(0.875, dtype=torch.float64)
    eight = fit(pixels, 12, 12, crop).double()
    exact = fit(pixels.double() / 255, 12, 12, crop)
    assert 0 < (255 * exact - eight).abs().max() <= 1.0
    assert exact.min() >= 0
    assert exact.max() <= 1


def test_pictures_that_lack_the_margin_get_it() -> None:
    """As MNIST's are read: 28 x 28 into the middle of 32 x 32; others are scaled."""
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28), dtype=np.uint8))
    crop = torch.tensor(1.0, dtype=torch.float64)
    expected = nn.functional.pad(pixels, (2, 2, 2, 2))
    for traced in (False, True):
        assert torch.equal(fit(pixels, 32, 32, crop, pad=2, traced=traced), expected)
    assert torch.allclose(fit(pixels.double(), 32, 32, crop, pad=2), expected.double(), rtol=0, atol=1e-12)
    wide = pixels.repeat(1, 1, 1, 2)
    assert torch.equal(fit(wide, 32, 32, crop, pad=2), fit(wide, 32, 32, crop))


@pytest.mark.parametrize(
    ("shape", "layout", "channels", "expected"),
    [
        ((5, 6, 7, 3), "", 3, (5, 3, 6, 7)),
        ((5, 3, 6, 7), "", 3, (5, 3, 6, 7)),
        ((6, 7, 3), "", 3, (1, 3, 6, 7)),
        ((3, 6, 7), "", 3, (1, 3, 6, 7)),
        ((6, 7, 1), "", 1, (1, 1, 6, 7)),
        ((1, 6, 7), "", 1, (1, 1, 6, 7)),
        ((6, 7), "", 1, (1, 1, 6, 7)),
        ((5, 6, 7, 4), "", 1, (5, 4, 6, 7)),
        ((5, 3, 6, 3), "NHWC", 3, (5, 3, 3, 6)),
        ((5, 3, 6, 3), "NCHW", 3, (5, 3, 6, 3)),
        ((3, 6, 3), "NCHW", 3, (1, 3, 6, 3)),
    ],
)
def test_the_order_of_the_axes(
    shape: tuple[int, ...], layout: str, channels: int, expected: tuple[int, ...]
) -> None:
    assert shipped.channels_first(torch.zeros(shape), layout, channels).shape == expected


@pytest.mark.parametrize(
    ("shape", "layout", "says"),
    [
        ((5, 3, 6, 3), "", "it is not clear which axis holds the channels"),
        ((5, 28, 28), "", "it is not clear which axis holds the channels"),  # 5 grey pictures
        ((3, 28, 28), "", "it is not clear which axis holds the channels"),  # 3 grey ones, or one in colour
        ((5, 6, 7, 2), "NHWC", "2 channels; want 1, 3 or 4"),
        ((5, 6, 7, 3), "HWC", "layout HWC; want"),
        ((0, 6, 7, 3), "", "want"),
        ((5,), "", "want"),
    ],
)
def test_shapes_that_are_no_pictures_or_might_be_two(shape: tuple[int, ...], layout: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        shipped.channels_first(torch.zeros(shape), layout, 1)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.full((1, 4, 4, 1), 255.0), r"must lie in \[0, 1\], these run from 255.0 to 255.0"),
        (torch.full((1, 4, 4, 1), float("nan")), "these run from nan to nan"),
        (torch.full((1, 4, 4, 1), 256), "must lie in 0 to 255, these run from 256.0 to 256.0"),
        (torch.ones(1, 4, 4, 1, dtype=torch.bool), "must be uint8, or floating point"),
    ],
)
def test_values_that_are_no_pictures(images: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        classifier()(images)


# -- answers -----------------------------------------------------------------------------------------------


def test_the_answer_by_hand() -> None:
    """A white picture: logits (-1/2, 1/2), at temperature 2 p = 1 / (1 + exp(-1/2)), score -1/2; black: score 1/2."""
    found = classifier()(torch.tensor([255, 0], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 6, 5, 1))
    assert found["class_index"].tolist() == [1, 0]
    assert found["probability"].tolist() == pytest.approx([1 / (1 + np.exp(-0.5))] * 2)
    assert found["outlier_score"].tolist() == [-0.5, 0.5]
    assert found["is_ood"].tolist() == [False, True]
    assert found["logits"].tolist() == [[-0.5, 0.5], [0.5, -0.5]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64])
def test_every_kind_of_numbers_gives_the_same_answer(dtype: torch.dtype) -> None:
    eight = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 4, 4, 1)
    images = eight.to(dtype) if not dtype.is_floating_point else (eight.double() / 255).to(dtype)
    for pictures in (images, images.permute(0, 3, 1, 2)):
        found = classifier()(pictures)
        assert torch.allclose(found["outlier_score"], torch.tensor([0.5, 0.3, -0.5]).double(), atol=1e-3)
        assert found["outlier_score"].dtype == torch.float64


def test_rows_with_names(program: Tensor) -> None:
    model = Predictor(program)
    rows = model.predict(np.full((2, 9, 5, 3), 255, np.uint8))
    assert [list(row) for row in rows] == [list(shipped.COLUMNS)] * 2
    assert rows[0]["class_name"] == "bright"
    assert rows[0]["class_index"] == 1
    assert rows[0]["is_ood"] is False
    pictures = [
        Image.new("L", (7, 3)),
        Image.new("RGBA", (2, 2), (0, 0, 0, 0)),
        np.zeros((4, 4)),
        torch.zeros(4, 4),
    ]
    mixed = model.predict(pictures)
    assert [row["class_name"] for row in mixed] == ["dark", "bright", "dark", "dark"]
    assert [row["is_ood"] for row in mixed] == [True, False, True, True]
    assert len(model.predict(np.zeros((150, 4, 4, 1)))) == 150
    with pytest.raises(ValueError, match="want numbers"):
        model.predict(np.array(["a.png"]))


def test_a_module_in_evaluation_mode_that_can_be_copied_and_pickled(program: Tensor) -> None:
    model = Predictor(program)
    assert model.eval() is model
    assert not any(part.training for part in model.modules())
    with pytest.raises(ValueError, match="it cannot be trained"):
        model.train()
    picture = torch.zeros(1, 4, 4, 1)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.facts == model.facts
        assert torch.equal(other(picture)["logits"], model(picture)["logits"])
    images = torch.rand(3, 1, 4, 4, requires_grad=True)
    model.logits(images)[:, 1].sum().backward()
    assert images.grad is not None
    assert torch.allclose(images.grad, torch.full_like(images, 1 / 16))


def test_a_newer_format_is_refused(program: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FORMAT", 0)
    with pytest.raises(ValueError, match="the model has format 1; this file reads up to 0"):
        Predictor(program)


def test_what_the_graph_makes_moves_with_the_weights() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x.mean((1, 2)) * self.weight + torch.arange(4, device=x.device)
            return y, y.sum(1).double()

    made = torch.export.export(
        Counting(), (torch.zeros(2, 1, 4, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    buffer = io.BytesIO()
    torch.export.save(made, buffer, extra_files={FACTS: json.dumps(FACTS_OF_TWO)})
    model = Predictor(torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8))
    devices = lambda: {str(n.kwargs["device"]) for n in model.network.graph.nodes if "device" in n.kwargs}  # noqa: E731
    assert devices() == {"cpu"}
    model.to("meta")  # as to a GPU
    assert devices() == {"meta"}


def test_the_file_needs_torch_and_numpy_alone() -> None:
    tree = ast.parse(Path(shipped.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert others == {"torch", "numpy", "pandas"}  # pandas comes with MLflow, for its tables alone
