"""Makes the file of a predictor, model.pt2: a traced classifier with what was fitted on validation images."""

import copy
import hashlib
import importlib.util
import io
import json
import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from trainables.base.errors import InputError
from trainables.data.loading.stream_loader import in_order
from trainables.data.types import lazy_images
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.splits import DatasetInfo
from trainables.evaluation.attacks.image_batches import batch_size
from trainables.evaluation.detectors.features import batched
from trainables.evaluation.metrics.calibration import fit_temperature
from trainables.evaluation.metrics.ood_metrics import threshold95
from trainables.evaluation.metrics.score_specs import SCORES
from trainables.inference import robust_predictor
from trainables.inference.registrable import SHIPPED, Registrable
from trainables.inference.robust_predictor import FACTS, FORMAT, Predictor

ACCEPTED = 0.95  #: share of the validation images that the threshold accepts
#: what a traced node remembers of this machine's files
TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
TOLERANCE = 1e-5  #: by which two programs may differ in an outlier score


class Scored(nn.Module):
    """A classifier and an outlier score on its logits: images in [0, 1] in, logits and float64 scores out."""

    def __init__(self, network: nn.Module, score: str) -> None:
        super().__init__()
        self.network = network
        self.score = SCORES[score].load()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(images)
        return logits, self.score(logits.double())


def facts_of(
    network: nn.Module,
    info: DatasetInfo,
    score: str,
    validation: LabelledImages,
    source: Mapping[str, Any],
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Return all that a predictor must know besides the network, as JSON values.

    Args:
        network: on the device; run in eval mode and left as it was.
        score: of `SCORES`.
        validation: ID images that were not trained on; the threshold and the temperature are fitted on them.
        source: where the model comes from: run, trial, data set and the like.

    Raises:
        InputError: an unknown score, or no validation images.
    """
    spec = SCORES[score]
    if not len(validation):
        raise InputError(f"{info.name} has no validation images, on which the threshold would be fitted")
    device = torch.device(device)
    parts = in_order(validation.images, batch_size(device), device)
    logits = torch.cat([batched(network, network, images, device) for images in parts]).double().cpu()
    exact = threshold95(spec.load()(logits).numpy(), info.name)
    channels, height, width = info.shape
    return {
        "format": FORMAT,
        "classes": list(info.class_names),
        "channels": channels,
        "height": height,
        "width": width,
        "crop": info.crop,
        "pad": info.pad,
        "tall_first": resizes_tall_first(),
        "preprocessing": _in_words(info),
        "score": spec.name,
        # the image that sets it is accepted by every program, whatever its rounding
        "threshold": exact + TOLERANCE * (1 + abs(exact)),
        "accepted": ACCEPTED,
        "temperature": fit_temperature(logits, validation.labels),
        "validation_images": len(validation),
        "source": dict(source),
    }


def _in_words(info: DatasetInfo) -> str:
    channels, height, width = info.shape
    framed = (
        f"; pictures smaller by {info.pad} pixels on every side get a black margin instead"
        if info.pad
        else ""
    )
    kept = f", of which the central {100 * info.crop:g} % are kept" if info.crop != 1 else ""
    return (
        f"{'grey' if channels == 1 else 'RGB'}, transparency over white; scaled (bilinear, anti-aliased) to cover "
        f"{width} x {height} pixels{kept}, cut to the centre; pictures of exactly that size are left as they are"
        f"{framed}; divided by 255; normalised within the network"
    )


@cache
def resizes_tall_first() -> bool:
    """Return whether the installed Pillow scales tall pictures in height first, as from version 13 on.

    The two orders differ by one grey value in some pixels, because each direction is rounded.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (90, 9), dtype=np.uint8)
    seen = lazy_images.fit(Image.fromarray(pixels), (1, 7, 7))
    picture, whole = torch.from_numpy(pixels)[None, None], torch.tensor(1.0, dtype=torch.float64)
    return bool(np.array_equal(robust_predictor.fit(picture, 7, 7, whole)[0].numpy(), seen))


def model_bytes(network: nn.Module, facts: Mapping[str, Any]) -> bytes:
    """Return the content of a model.pt2, which `Predictor.load` reads.

    Raises:
        InputError: the network cannot be traced for batches of any size.
    """
    scored = Scored(copy.deepcopy(network).cpu(), facts["score"]).eval().requires_grad_(False)
    example = torch.zeros(2, facts["channels"], facts["height"], facts["width"])
    try:
        program = torch.export.export(scored, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:  # torch raises what the network's own code raises, and errors of its own
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise InputError(f"the network cannot be traced for batches of any size: {reason[:200]}") from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for key in TRACES:
                node.meta.pop(key, None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={FACTS: json.dumps(facts)})
    return buffer.getvalue()


def predictor(content: bytes) -> Predictor:
    """Return the predictor of a model.pt2 that this program has made."""
    return Predictor(_as_tensor(content))


def pickled(content: bytes) -> bytes:
    """Return a predictor as `torch.load` reads it where nothing but the shipped file is importable."""
    buffer = io.BytesIO()
    torch.save(shipped().Predictor(_as_tensor(content)), buffer)
    return buffer.getvalue()


def registrable(content: bytes, facts: Mapping[str, Any]) -> Registrable:
    """Return what a registry keeps of a model.pt2 and its predictor's facts."""
    model = predictor(content)
    # not what was fitted: the same weights give thresholds that differ by rounding
    known = [model.facts[key] for key in ("format", "classes", "score")]
    digest = hashlib.sha256(json.dumps(known).encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return Registrable(pickled(content), digest.hexdigest(), str(torch.__version__), facts)


def shipped() -> ModuleType:
    """Return the shipped file as the module that it is elsewhere."""
    if SHIPPED.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(SHIPPED.stem, SHIPPED)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[SHIPPED.stem] = module
        spec.loader.exec_module(module)
    return sys.modules[SHIPPED.stem]


def _as_tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
