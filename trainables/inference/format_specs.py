"""The formats that a model is exported in, by name; readable without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainables.base.registry import Registry, resolve_reference


@dataclass(frozen=True)
class FormatSpec:
    """A format of exported models.

    Attributes:
        name: as `--format` says it.
        files: that it writes.
        about: who reads them, in one phrase.
        loads: the line of Python that opens it.
        writer: "module:function" of (`formats.Export`, folder) that writes the files and returns what `Export.write`
            says of a format; imported on use, because it needs torch.
        needs: modules that must be installed beside this program; the extra `export` has them.
    """

    name: str
    files: tuple[str, ...]
    about: str
    loads: str
    writer: str
    needs: tuple[str, ...] = ()

    def load(self) -> Callable[..., dict[str, Any]]:
        """Return the function."""
        function: Callable[..., dict[str, Any]] = resolve_reference(self.writer)
        return function


_IN = "trainables.inference.formats"

FORMATS = Registry(
    "format",
    [
        FormatSpec(
            "pytorch",
            ("model.pt2", "robust_predictor.py"),
            "the second reads the first with torch alone",
            "from robust_predictor import Predictor; model = Predictor.load('model.pt2')",
            f"{_IN}:write_pytorch",
        ),
        FormatSpec(
            "torchscript",
            ("model.ts",),
            "`torch.jit.load`, also from C++",
            "model = torch.jit.load('model.ts')",
            f"{_IN}:write_torchscript",
        ),
        FormatSpec(
            "onnx",
            ("model.onnx",),
            "onnxruntime, and whatever else reads ONNX",
            "session = onnxruntime.InferenceSession('model.onnx')",
            f"{_IN}:write_onnx",
            needs=("onnx", "onnxruntime", "onnxscript"),
        ),
    ],
)
