"""The wrapper of docs/using_the_winner.md makes an exported model a model of RobustBench and OpenOOD."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.unit.trainables.inference.networks import INFO, network, validation
from trainables.inference import robust_predictor
from trainables.inference.model_file import facts_of, model_bytes

PAGE = Path(__file__).parents[4] / "docs" / "using_the_winner.md"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """The wrapper, run as it is printed."""
    path = tmp_path_factory.mktemp("model") / "model.pt2"
    path.write_bytes(model_bytes(network(), facts_of(network(), INFO, "msp", validation(), {})))
    (code,) = [
        c for c in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "class Logits" in c
    ]
    assert len([line for line in code.splitlines() if line]) <= 10
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "robust_predictor", robust_predictor)
        exec(code, names)
    made: nn.Module = names["Logits"](path)
    return made


def images() -> tuple[Tensor, Tensor]:
    """Return images in [0, 1] and what the network says of them."""
    x = torch.from_numpy(validation().images) / 255
    with torch.no_grad():
        return x, network()(x).argmax(1)


def test_it_is_a_module_from_images_to_logits(wrapped: nn.Module) -> None:
    """What both programs do with a model: mode, device, logits of any batch, gradients of the images alone."""
    x, _ = images()
    assert wrapped.eval() is wrapped
    assert next(wrapped.parameters()).device == torch.device("cpu")
    wrapped.to("cpu")
    with torch.no_grad():
        for batch in (x[:1], x):
            assert torch.allclose(wrapped(batch), network()(batch), atol=1e-5)
    x.requires_grad_(True)
    own = torch.autograd.grad(wrapped(x).sum(), x)[0]
    assert torch.allclose(own, torch.autograd.grad(network()(x).sum(), x)[0], atol=1e-5)
    assert own.abs().max() > 0


def test_autoattack_of_robustbench(wrapped: nn.Module) -> None:
    """The package that RobustBench attacks with finds the accuracy that it finds of the network itself."""
    from pyautoattack import AutoAttack

    x, y = images()
    robust = {}
    for name, model in (("wrapped", wrapped), ("network", network())):
        attack = AutoAttack(model, attacks=["apgd-ce"], eps=8 / 255, seed=0, version="custom")
        attack.apgd.n_restarts, attack.apgd.n_iter = 1, 10
        adversarial, _ = attack.run_standard_evaluation(x[:8], y[:8], batch_size=8)
        with torch.no_grad():
            robust[name] = (network()(adversarial).argmax(1) == y[:8]).float().mean()
        assert (adversarial - x[:8]).abs().max() <= 8 / 255 + 1e-6
    assert robust["wrapped"] == robust["network"]


def test_robustbench_itself(wrapped: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """RobustBench 1.1.1 of PyPI asks for pyautoattack and imports it under its former name."""
    import pyautoattack
    from pyautoattack import state

    monkeypatch.setitem(sys.modules, "autoattack", pyautoattack)
    monkeypatch.setitem(sys.modules, "autoattack.state", state)
    utils = pytest.importorskip("robustbench.utils")
    x, y = images()
    assert utils.clean_accuracy(wrapped, x, y, batch_size=16) == 1.0


def test_a_postprocessor_of_openood(wrapped: nn.Module) -> None:
    """Its `msp` takes softmax of `net(data)` and ranks as the model's own score does."""
    x, _ = images()
    with torch.no_grad():
        confidence = torch.softmax(wrapped(x).double(), 1).amax(1)
        own = wrapped.predictor(x)["outlier_score"]  # type: ignore[operator]
    assert torch.equal(confidence.argsort(), own.argsort(descending=True))
