"""Writes a trained classifier as PyTorch, TorchScript and ONNX files, and checks that they compute the same numbers."""

import copy
import io
import json
import logging
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.base.errors import InputError
from trainables.base.permissions import make_folder
from trainables.inference.format_specs import FORMATS
from trainables.inference.model_file import TOLERANCE, Scored, model_bytes, predictor
from trainables.inference.registrable import SHIPPED
from trainables.inference.robust_predictor import FACTS, PictureClassifier, fit, to_unit

Answer = dict[str, np.ndarray]
#: names of what every format returns, in the order of ONNX; beside them ONNX returns the threshold
OUTPUTS = ("class_index", "probability", "outlier_score", "is_ood", "logits")


class Export:
    """One classifier, to be written in several formats.

    Args:
        network: on any device; copied to the CPU.
        facts: of `model_file.facts_of`.
    """

    def __init__(self, network: nn.Module, facts: Mapping[str, Any]) -> None:
        self.network, self.facts = copy.deepcopy(network).cpu().requires_grad_(False), dict(facts)
        self.reference = PictureClassifier(Scored(self.network, facts["score"]), self.facts).eval()

    def write(self, formats: Sequence[str], folder: Path) -> dict[str, Any]:
        """Write files, and return {format: {"files": names, "largest_difference": of any number from the network's}}.

        Args:
            formats: names of `FORMATS`.
            folder: made if need be; files of an earlier export are replaced.

        Raises:
            InputError: a format that needs what is not installed, a network that it cannot express, or numbers that
                differ by more than 1e-5.
        """
        check_installed(formats)
        make_folder(folder)
        return {name: FORMATS[name].load()(self, folder) for name in formats}

    def checked(self, name: str, files: Sequence[Path], run: Callable[[Tensor], Answer]) -> dict[str, Any]:
        """Compare a format with the network on pictures of several sizes; its files are removed if it differs."""
        largest = 0.0
        for pictures in self._pictures():
            with torch.no_grad():
                expected = {key: value.numpy() for key, value in self.reference(pictures, "NHWC").items()}
            largest = max(largest, difference(expected, run(pictures), float(self.facts["threshold"])))
        if not largest <= TOLERANCE:
            for file in files:
                file.unlink()
            raise InputError(
                f"the {name} file differs from the network by {largest:.2g} where {TOLERANCE:g} is allowed"
            )
        return {"files": [file.name for file in files], "largest_difference": largest}

    def _pictures(self) -> list[Tensor]:
        """Return batches (n, h, w, c) uint8: of the network's own size, larger, smaller, wide and tall."""
        height, width, channels = (self.facts[key] for key in ("height", "width", "channels"))
        generator = torch.Generator().manual_seed(0)
        sizes = [
            (5, height, width),
            (1, 2 * height + 3, 2 * width + 1),
            (2, max(5, height // 2), max(5, width // 2)),
            (1, height + 5, 3 * width),
            (3, 3 * height, width),
        ]
        if pad := self.facts["pad"]:
            sizes.append((2, height - 2 * pad, width - 2 * pad))
        return [
            torch.randint(0, 256, (*size, channels), generator=generator, dtype=torch.uint8) for size in sizes
        ]


def difference(expected: Answer, found: Answer, threshold: float) -> float:
    """Return the largest difference of any number, in multiples of the largest logit where that is above 1.

    A class or a verdict that differs counts as infinite, unless the two best logits, or score and threshold, are as
    near to each other as the tolerance.
    """
    logits = np.sort(expected["logits"], 1)
    scale = max(1.0, float(np.abs(logits).max()))
    near = logits[:, -1] - logits[:, -2] <= 2 * TOLERANCE * scale
    same = expected["class_index"] == found["class_index"]
    edge = np.abs(expected["outlier_score"] - threshold) <= TOLERANCE * scale
    agreed = expected["is_ood"] == found["is_ood"]
    if not ((same | near).all() and (agreed | edge).all()):
        return float("inf")
    values = ("probability", "outlier_score", "logits")
    return max(float(np.abs(expected[key] - found[key]).max()) for key in values) / scale


def check_installed(formats: Sequence[str]) -> None:
    """Raise InputError if what a format needs is not installed."""
    for name in formats:
        missing = [module for module in FORMATS[name].needs if find_spec(module) is None]
        if missing:
            raise InputError(
                f"--format {name} needs {', '.join(missing)}: pip install 'robust-tuner[export]', or leave it out"
            )


# -- the formats -------------------------------------------------------------------------------------------


def write_pytorch(export: Export, folder: Path) -> dict[str, Any]:
    """Write the program and the file that reads it."""
    path = folder / FORMATS["pytorch"].files[0]
    content = model_bytes(export.network, export.facts)
    path.write_bytes(content)
    shutil.copyfile(SHIPPED, folder / SHIPPED.name)
    model = predictor(content)
    files = [path, folder / SHIPPED.name]
    return export.checked("pytorch", files, lambda pictures: _answer(model(pictures, "NHWC")))


def write_torchscript(export: Export, folder: Path) -> dict[str, Any]:
    """Write what `torch.jit.load` reads without code of ours."""
    path = folder / FORMATS["torchscript"].files[0]
    shape = tuple(export.facts[key] for key in ("channels", "height", "width"))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that TorchScript is deprecated, once for each call
            traced = torch.jit.trace(export.reference.network, torch.zeros(2, *shape), check_trace=False)
            scripted = torch.jit.script(PictureClassifier(traced, export.facts).eval())
            buffer = io.BytesIO()
            torch.jit.save(scripted, buffer, _extra_files={FACTS: json.dumps(export.facts)})
            _without_traces(buffer, path)
            loaded = torch.jit.load(str(path))
    except Exception as error:
        raise InputError(f"the network cannot be written as TorchScript: {_line(error)}") from error
    return export.checked("torchscript", [path], lambda pictures: _answer(loaded(pictures, "NHWC")))


def _without_traces(archive: io.BytesIO, path: Path) -> None:
    """Write a TorchScript archive without its maps back to the source, which name this machine's files."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(entry, old.read(entry))


def write_onnx(export: Export, folder: Path) -> dict[str, Any]:
    """Write a graph of uint8 pictures (n, h, w, c) of any size; the facts are in its metadata."""
    import onnxruntime

    path = folder / FORMATS["onnx"].files[0]
    facts = export.facts
    size = torch.zeros(2, facts["height"] + 3, facts["width"] + 5, facts["channels"], dtype=torch.uint8)
    free = torch.export.Dim.DYNAMIC
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _OnnxGraph(export.reference),
                (size,),
                dynamo=True,
                dynamic_shapes=({0: free, 1: free, 2: free},),
                input_names=["images"],
                output_names=[*OUTPUTS, "threshold"],
                verbose=False,
            )
        assert program is not None
        graphs: list[Any] = [program.model.graph, *program.model.functions.values()]
        for node in (node for graph in graphs for node in graph.all_nodes()):
            node.metadata_props.clear()  # stack traces with this machine's files
        program.model.metadata_props[FACTS] = json.dumps(facts)
        program.save(str(path))
    except Exception as error:  # the exporter raises errors of its own, and those of the network's code
        raise InputError(f"the network cannot be written as ONNX: {_line(error)}") from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def run(pictures: Tensor) -> Answer:
        return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": pictures.numpy()}), strict=True))

    return export.checked("onnx", [path], run)


class _OnnxGraph(nn.Module):
    """A `PictureClassifier` of uint8 pictures (n, h, w, c) alone, every step a tensor operation."""

    def __init__(self, classifier: PictureClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        own = self.classifier
        pictures, size = images.permute(0, 3, 1, 2), (own.height, own.width)
        fitted = fit(pictures, *size, own.crop, own.pad, own.tall_first, traced=True)
        answer = own.answer(*own.network(to_unit(fitted)))
        return (*(answer[key] for key in OUTPUTS), own.threshold.clone())


def _answer(found: Mapping[str, Tensor]) -> Answer:
    return {key: value.detach().cpu().numpy() for key, value in found.items()}


class _quiet:
    """Without what torch's ONNX exporter and onnx_ir log about their own steps."""

    NAMES = ("torch.onnx", "onnx_ir", "onnxscript")

    def __enter__(self) -> None:
        self._before = {name: logging.getLogger(name).level for name in self.NAMES}
        for name in self.NAMES:
            logging.getLogger(name).setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for name, level in self._before.items():
            logging.getLogger(name).setLevel(level)


def _line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text[:200]
