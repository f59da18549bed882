"""A trained image classifier that flags pictures unlike those it was trained on. This file needs torch and numpy alone.

    from robust_predictor import Predictor

    model = Predictor.load("model.pt2")
    model.predict(picture)  # [{"class_index": 3, "class_name": "cat", "probability": 0.98, "outlier_score": -4.1, ...}]

A copy of this file goes with every model that is exported or registered: it must not import the rest of the program.
"""

import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = 1
FACTS = "predictor.json"  #: name of the facts within model.pt2
BATCH = 64  #: pictures at a time in `predict`


class PictureClassifier(nn.Module):
    """Pictures of any size in, class, probability, outlier score and verdict out.

    Args:
        network: (n, channels, height, width) float32 in [0, 1] -> logits (n, classes), outlier scores (n,) float64.
        facts: see `Predictor.facts`.
    """

    crop: Tensor
    temperature: Tensor
    threshold: Tensor

    def __init__(self, network: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.class_names = [str(name) for name in facts["classes"]]
        self.channels, self.height, self.width = (int(facts[key]) for key in ("channels", "height", "width"))
        self.pad, self.tall_first = int(facts["pad"]), bool(facts["tall_first"])
        for name in (
            "crop",
            "temperature",
            "threshold",
        ):  # tensors, so that no format rounds them to single precision
            self.register_buffer(
                name, torch.tensor(float(facts[name]), dtype=torch.float64), persistent=False
            )

    def forward(self, images: Tensor, layout: str = "") -> dict[str, Tensor]:
        """Classify pictures and flag outliers.

        Args:
            images: (n, h, w, c), (n, c, h, w), one picture without n, or one grey picture (h, w), of any size. uint8,
                or floating point in [0, 1], or other integers from 0 to 255. c is 1, 3, or 4 with transparency, which
                shows white.
            layout: "NHWC" or "NCHW" where the shape alone may be read as either.

        Returns:
            class_index (n,) int64; probability (n,) float64 of that class; outlier_score (n,) float64, higher = more
            unlike; is_ood (n,) bool: the score is above the threshold; logits (n, classes) float32.
        """
        logits, scores = self.network(self.prepare(images, layout))
        return self.answer(logits, scores)

    def answer(self, logits: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """Return what `forward` returns, of logits (n, classes) and outlier scores (n,)."""
        probability, index = torch.softmax(logits.double() / self.temperature, 1).max(1)
        return {
            "class_index": index,
            "probability": probability,
            "outlier_score": scores,
            "is_ood": scores > self.threshold,
            "logits": logits,
        }

    def prepare(self, images: Tensor, layout: str = "") -> Tensor:
        """Return pictures as the network was trained on them: (n, channels, height, width) float32 in [0, 1]."""
        images = channels_first(images, layout, self.channels)
        images = with_channels(checked(images), self.channels)
        if images.shape[2] != self.height or images.shape[3] != self.width:
            images = fit(images, self.height, self.width, self.crop, self.pad, self.tall_first)
        return to_unit(images)


def channels_first(images: Tensor, layout: str, channels: int) -> Tensor:
    """Return pictures in any order of their axes as (n, c, h, w).

    Raises:
        ValueError: the shape is none of pictures, or could be read in two ways.
    """
    shape = list(images.shape)
    if images.dim() == 2:
        return images[None, None]
    if images.dim() == 3:
        # of one picture; a leading number that is not the model's channels may as well count grey pictures
        leading = shape[0] == channels
        images = images[None]
    else:
        leading = images.dim() == 4 and shape[1] in (1, 3, 4)
    trailing = len(shape) > 0 and shape[-1] in (1, 3, 4)
    if (
        images.dim() == 4
        and leading
        and trailing
        and (images.shape[1] == channels) != (shape[-1] == channels)
    ):
        leading, trailing = images.shape[1] == channels, shape[-1] == channels
    if images.dim() != 4 or images.numel() == 0 or layout not in ("", "NHWC", "NCHW"):
        raise ValueError(
            f"pictures of shape {shape}, layout {layout}; want (n, h, w, c) or (n, c, h, w), layout NHWC or NCHW"
        )
    if layout == "" and leading == trailing:
        raise ValueError(
            f"pictures of shape {shape}: it is not clear which axis holds the channels (1, 3 or 4); give (n, h, w, c) "
            "with layout NHWC, or (n, c, h, w) with layout NCHW"
        )
    if layout == "NHWC" or (layout == "" and trailing):
        images = images.permute(0, 3, 1, 2)
    if images.shape[1] not in (1, 3, 4):
        raise ValueError(
            f"pictures of shape {shape} in layout {layout}: {images.shape[1]} channels; want 1, 3 or 4"
        )
    return images


def checked(images: Tensor) -> Tensor:
    """Return pictures as uint8, or in their own floating point dtype.

    Raises:
        ValueError: floating point outside [0, 1], integers outside 0 to 255, or no numbers.
    """
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool or images.is_complex():
        raise ValueError("pictures must be uint8, or floating point in [0, 1]")
    low, high = float(images.min()), float(images.max())
    if images.is_floating_point():
        if not (low >= -0.001 and high <= 1.001):  # also NaN; rounding may leave [0, 1] by a little
            raise ValueError(
                f"floating point pictures must lie in [0, 1], these run from {low} to {high}; divide by 255, or give "
                "uint8"
            )
        return images
    if low < 0 or high > 255:
        raise ValueError(f"integer pictures must lie in 0 to 255, these run from {low} to {high}")
    return images.to(torch.uint8)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return pictures (n, 1, 3 or 4, h, w) as grey or RGB, as Pillow converts them: transparency over white first."""
    eight = images.dtype == torch.uint8
    if images.shape[1] == 4:
        colour, alpha = images[:, :3], images[:, 3:]
        if eight:
            mixed = (colour.int() * alpha.int() + 255 * (255 - alpha.int())) * 128 + 16384
            images = ((((mixed >> 8) + mixed) >> 8) >> 7).to(torch.uint8)
        else:
            images = colour * alpha + (1 - alpha)
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    if eight:
        rgb = images.int()
        grey = (19595 * rgb[:, :1] + 38470 * rgb[:, 1:2] + 7471 * rgb[:, 2:] + 32768) >> 16
        return grey.to(torch.uint8)
    return (19595 * images[:, :1] + 38470 * images[:, 1:2] + 7471 * images[:, 2:]) / 65536


def fit(
    images: Tensor,
    height: int,
    width: int,
    crop: Tensor,
    pad: int = 0,
    tall_first: bool = True,
    traced: bool = False,
) -> Tensor:
    """Return pictures (n, c, h, w) scaled to cover height x width and cut to the centre, `crop` of its side kept.

    Bilinear with anti-aliasing. 8-bit pictures come out as Pillow's `resize` with a box makes them, to the last bit:
    they are rounded after each direction. Others are not rounded. Pictures that have the size are not cropped.

    Args:
        crop: () float64.
        pad: pictures that are smaller by so many pixels on every side are not scaled, but get a black margin.
        tall_first: as Pillow from 13 on, go down before across where the height shrinks by more than twice the width.
        traced: compute both orders, for a graph of pictures of all sizes.
    """
    h = torch.scalar_tensor(images.shape[2], dtype=torch.float64)
    w = torch.scalar_tensor(images.shape[3], dtype=torch.float64)
    whole = torch.scalar_tensor(1.0, dtype=torch.float64)
    same = (h == height) & (w == width)
    framed = (h == height - 2 * pad) & (w == width - 2 * pad)
    scale = torch.minimum(w / width, h / height) * torch.where(same, whole, crop.cpu())
    across = torch.where(
        framed, _margin(images.shape[3], width), _weights(images.shape[3], w, scale * width, width)
    )
    down = torch.where(
        framed, _margin(images.shape[2], height), _weights(images.shape[2], h, scale * height, height)
    )
    across, down = across.T.to(images.device), down.to(images.device)
    values = images.double()
    if images.dtype != torch.uint8:
        return down @ (values @ across)
    across, down = _whole(across), _whole(down)
    if not tall_first:
        return _rounded(down @ _rounded(values @ across)).to(torch.uint8)
    tall = (h > height) & (h - height > 2 * (w - width))
    if traced:
        both = _rounded(_rounded(down @ values) @ across), _rounded(down @ _rounded(values @ across))
        return torch.where(tall, both[0], both[1]).to(torch.uint8)
    if bool(tall):
        return _rounded(_rounded(down @ values) @ across).to(torch.uint8)
    return _rounded(down @ _rounded(values @ across)).to(torch.uint8)


def _margin(count: int, target: int) -> Tensor:
    """Return (target, count) weights that put `count` pixels into the middle of `target`, and 0 around them."""
    places = torch.arange(target, dtype=torch.float64)[:, None] - (target - count) / 2
    return (torch.arange(count, dtype=torch.float64) == places).double()


def _whole(weights: Tensor, one: float = 4194304.0) -> Tensor:
    """Return weights in multiples of 1 / 2^22, as Pillow's are for 8-bit pictures."""
    return torch.floor(weights * one + 0.5)


def _rounded(sums: Tensor, one: float = 4194304.0) -> Tensor:
    return torch.floor((sums + one / 2) / one).clamp(0, 255)


def _weights(count: int, size: Tensor, kept: Tensor, target: int) -> Tensor:
    """Return (target, count) weights, each row adding up to 1, of Pillow's bilinear filter over the centre.

    Args:
        count, size: pixels of the picture in this direction, as a number and as a scalar.
        kept: length of the part in its centre that becomes `target` pixels.
    """
    start = (size - kept) / 2
    low, high = start.float(), (start + kept).float()  # Pillow keeps the box in single precision
    step = (high - low).double() / target
    centres = low.double() + (torch.arange(target, dtype=torch.float64) + 0.5) * step
    pixels = torch.arange(count, dtype=torch.float64)
    reach = torch.clamp(step, min=1.0)
    weights = torch.clamp(1 - ((pixels - centres[:, None] + 0.5) * (1.0 / reach)).abs(), min=0.0)
    return weights / weights.sum(1, keepdim=True)


def to_unit(images: Tensor) -> Tensor:
    """Return pictures as float32 in [0, 1]."""
    return images.float().div(255) if images.dtype == torch.uint8 else images.float()


class Predictor(PictureClassifier):
    """A `PictureClassifier` out of a file; it runs in evaluation mode, on the CPU until it is moved.

    Args:
        program: content of a model.pt2 as a tensor of bytes, (n,) uint8.

    Attributes:
        facts: JSON values: "classes" (names), "channels", "height", "width", "crop", "pad", "score", "threshold",
            "temperature", "validation_images", "source" (run, trial, data set and more).
    """

    def __init__(self, program: Tensor) -> None:
        found = {FACTS: ""}
        loaded = torch.export.load(io.BytesIO(program.numpy().tobytes()), extra_files=found)
        facts = json.loads(found[FACTS])
        if facts["format"] > FORMAT:
            raise ValueError(f"the model has format {facts['format']}; this file reads up to {FORMAT}")
        super().__init__(loaded.module(), facts)
        self.facts, self._program = facts, program
        self.train(False)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> "Predictor":
        """Return the predictor of a model.pt2. Loading runs code: open files that you trust."""
        return cls(torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8)).to(device)

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of (n, channels, height, width) in [0, 1]; differentiable."""
        logits: Tensor = self.network(images)[0]
        return logits

    @torch.no_grad()
    def predict(self, images: Any, layout: str = "") -> list[dict[str, Any]]:
        """Return a dict for each picture: class_index, class_name, probability, outlier_score, is_ood.

        Args:
            images: as for `forward`, or an array, a PIL picture, or a list of pictures of different sizes.
        """
        if isinstance(images, (list, tuple)):
            return [row for one in images for row in self.predict(one, layout)]
        pictures = channels_first(_tensor(images), layout, self.channels)
        rows = []
        for part in pictures.split(BATCH):
            found = self(part.to(next(self.parameters()).device), "NCHW")
            columns = [found[key].tolist() for key in COLUMNS if key != "class_name"]
            rows += [self._row(*values) for values in zip(*columns, strict=True)]
        return rows

    def _row(self, index: int, probability: float, score: float, is_ood: bool) -> dict[str, Any]:
        values = (index, self.class_names[index], probability, score, is_ood)
        return dict(zip(COLUMNS, values, strict=True))

    def train(self, mode: bool = True) -> "Predictor":
        """Set evaluation mode, the only one there is.

        Raises:
            ValueError: training mode is asked for; the network is a traced graph.
        """
        if mode:
            raise ValueError("the network is a traced graph in evaluation mode; it cannot be trained")
        for module in (self, *self.network.modules()):
            module.training = False
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> "Predictor":
        """Move weights, and what the graph makes while it runs, to another device."""
        super()._apply(fn, recurse)
        device = next(self.parameters()).device
        graph: Any = self.network
        for node in graph.graph.nodes:
            if "device" in node.kwargs:
                node.kwargs = {**node.kwargs, "device": device}
        graph.recompile()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the bytes of the program alone."""
        return type(self), (self._program,)


COLUMNS = ("class_index", "class_name", "probability", "outlier_score", "is_ood")


def _tensor(images: Any) -> Tensor:
    if isinstance(images, Tensor):
        return images
    import numpy as np

    array = np.asarray(images)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"pictures of type {array.dtype}; want numbers")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch knows few operations of these
    return torch.tensor(np.ascontiguousarray(array))


def _load_pyfunc(path: str) -> Any:
    """Return MLflow's python_function of a folder with a model.pth; MLflow calls it."""
    with torch.serialization.safe_globals([Predictor]):  # tensors and this class, nothing else
        return _Served(torch.load(Path(path) / "model.pth", weights_only=True))


class _Served:
    """What `mlflow.pyfunc.load_model` wraps."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: Any = None) -> Any:
        """Return a table, a row for each picture, with the columns of `Predictor.predict`."""
        import pandas as pd

        if isinstance(model_input, dict) and len(model_input) == 1:
            (model_input,) = model_input.values()
        return pd.DataFrame(self.predictor.predict(model_input), columns=list(COLUMNS))
