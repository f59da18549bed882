"""Weights of other programs: the same logits here as there, or one line that says why they do not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_ood.model import WideResNet
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, resnet18, resnet50

from trainables.base.errors import DataFileError
from trainables.networks import Classifier, build
from trainables.networks.weights import load_weights

SHAPE, MEAN, STD = (3, 32, 32), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def network(name: str, classes: int = 10, **more: Any) -> Classifier:
    return build(name, classes, SHAPE, MEAN, STD, **more).eval()


def disturbed(module: nn.Module) -> nn.Module:
    """Return a module with running statistics and affine weights that a layer left out would show."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.running_var):
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
            for tensor in (part.bias, part.running_mean):
                tensor.data = torch.rand(tensor.shape, generator=generator) - 0.5
    return module.eval()


def saved(tmp_path: Path, content: Any) -> Path:
    torch.save(content, tmp_path / "theirs.pt")
    return tmp_path / "theirs.pt"


def loaded(ours: Classifier, path: Path) -> Classifier:
    ours.load_state_dict(load_weights(path, ours, str(path)))
    return ours


def images(ours: Classifier) -> tuple[Tensor, Tensor]:
    """Return two images and what the network's normalisation makes of them, in double precision."""
    pixels = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    return pixels, ours.double().normalize(pixels)


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPED = {
    "plain": lambda state: state,
    "game of noise": lambda state: {"model_state_dict": prefixed(state, "module."), "epoch": 3},
    "lightning": lambda state: {"state_dict": prefixed(state, "model."), "global_step": 7},
    "compiled in parallel": lambda state: {"net": prefixed(state, "_orig_mod.module.")},
    "a file of this program": lambda state: {"network": state, "format": 1},
    "before torch 0.4.1": lambda state: {n: t for n, t in state.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
@torch.no_grad()
def test_a_resnet_of_torchvision_in_every_wrapping(wrapping: str, tmp_path: Path) -> None:
    theirs = disturbed(resnet18(num_classes=10))
    ours = loaded(network("torchvision:resnet18"), saved(tmp_path, WRAPPED[wrapping](theirs.state_dict())))
    pixels, normalised = images(ours)
    torch.testing.assert_close(ours(pixels), theirs.double()(normalised), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("resnet50", resnet50),
        ("mobilenet_v3_small", mobilenet_v3_small),
        ("wrn_40_2", lambda num_classes: WideResNet(num_classes=num_classes)),  # of energy_ood
    ],
)
@torch.no_grad()
def test_architectures_that_have_the_names_of_others(name: str, make: Any, tmp_path: Path) -> None:
    theirs = disturbed(make(num_classes=10))
    ours = loaded(network(name), saved(tmp_path, theirs.state_dict()))
    pixels, normalised = images(ours)
    torch.testing.assert_close(ours(pixels), theirs.double()(normalised), rtol=1e-9, atol=1e-9)


def test_what_is_stored_but_never_used_is_left_out(tmp_path: Path) -> None:
    """TRADES' wide ResNet has a second first group of blocks that no image passes."""
    state = WideResNet(num_classes=10).state_dict()
    more = {f"sub_{name}": tensor for name, tensor in state.items() if name.startswith("block1.")}
    found = load_weights(saved(tmp_path, state | more), network("wrn_40_2"), "FILE")
    assert torch.equal(found["body.layers.1.shortcut.weight"], state["block1.layer.0.convShortcut.weight"])


class Same(nn.Module):
    """A wide ResNet with the names of DeepMind's, padded as TensorFlow pads; no code of theirs."""

    def __init__(self, classes: int, blocks: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", 1.25 * torch.tensor(STD).view(3, 1, 1))
        self.init_conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.layer = nn.Sequential()
        for g in range(3):
            group = nn.Module()
            group.block = nn.Sequential()
            for b in range(blocks):
                block = nn.Module()
                inside = widths[g] if b == 0 else widths[g + 1]
                block.stride = 2 if b == 0 and g else 1
                block.batchnorm_0 = nn.BatchNorm2d(inside)
                block.conv_0 = nn.Conv2d(inside, widths[g + 1], 3, block.stride, bias=False)
                block.batchnorm_1 = nn.BatchNorm2d(widths[g + 1])
                block.conv_1 = nn.Conv2d(widths[g + 1], widths[g + 1], 3, 1, 1, bias=False)
                if inside != widths[g + 1]:
                    block.shortcut = nn.Conv2d(inside, widths[g + 1], 1, block.stride, bias=False)
                group.block.append(block)
            self.layer.append(group)
        self.batchnorm = nn.BatchNorm2d(widths[3])
        self.logits = nn.Linear(widths[3], classes)

    def forward(self, x: Tensor) -> Tensor:
        silu = nn.functional.silu
        x = self.init_conv((x - self.mean) / self.std)
        for group in self.layer:
            for block in group.block:
                y = silu(block.batchnorm_0(x))
                pad = (1, 1, 1, 1) if block.stride == 1 else (0, 1, 0, 1)
                out = block.conv_0(nn.functional.pad(y, pad))
                out = block.conv_1(silu(block.batchnorm_1(out)))
                x = out + (block.shortcut(y) if hasattr(block, "shortcut") else x)
        pooled = silu(self.batchnorm(x)).mean(dim=(2, 3))
        return self.logits(pooled)


@torch.no_grad()
def test_deepmind_names_padding_and_another_deviation(tmp_path: Path) -> None:
    """As RobustBench's and DyART's; the stored deviation is 1.25 times the data set's, which the stem makes up for."""
    from trainables.networks import Normalize
    from trainables.networks.wide_resnet import WideResNet as Wide

    theirs = disturbed(Same(10, 1, 1))
    ours = Classifier(
        Normalize(MEAN, STD), Wide(10, SHAPE, depth=10, widen=1, activation="silu", same=True)
    ).eval()
    content = {
        "model_state_dict": prefixed(theirs.state_dict(), "module."),
        "unaveraged_model_state_dict": {"module.init_conv.weight": torch.zeros(1)},
    }
    ours = loaded(ours, saved(tmp_path, content))
    pixels, _ = images(ours)
    torch.testing.assert_close(ours(pixels), theirs.double()(pixels), rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_preactivation_names(tmp_path: Path) -> None:
    """The names of RobustBench's with batch norm before the last layer: 122 tensors, each at its place."""
    ours = disturbed(network("preact_resnet18"))
    state = ours.state_dict()
    places = {"activate.0": "bn1", "residual.0": "conv1", "residual.1": "bn2", "residual.4": "conv2"}
    places["shortcut"] = "shortcut.0"
    theirs = {}
    for name, tensor in state.items():
        _, _, rest = name.partition("layers.")
        number, _, inside = rest.partition(".")
        if not rest:
            theirs[name.replace("body.head", "linear")] = tensor
        elif number in ("0", "9"):
            theirs[f"{'conv1' if number == '0' else 'bn'}.{inside}"] = tensor
        else:
            layer, _, leaf = inside.rpartition(".")
            group, block = divmod(int(number) - 1, 2)
            theirs[f"layer{group + 1}.{block}.{places[layer]}.{leaf}"] = tensor
    assert "layer4.1.conv2.weight" in theirs
    found = load_weights(saved(tmp_path, theirs), ours, "FILE")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            lambda: resnet18(num_classes=7).state_dict(),
            "it has 7 classes, the data set 10",
        ),
        (
            lambda: WideResNet(num_classes=10, depth=10).state_dict(),
            "it lacks: layer1.0.conv1.weight, layer1.0.bn1.weight, layer1.0.bn1.bias and 92 more; it has: "
            "block1.layer.0.bn1.weight, block1.layer.0.bn1.bias, block1.layer.0.bn1.running_mean and 36 more",
        ),
        (lambda: {"normalize.mean": torch.zeros(3), "normalize.std": torch.ones(3)}, "it normalises"),
        (lambda: {"state_dict": [1, 2]}, "it is not a dict of tensors"),
        (dict, "it lacks: conv1.weight, bn1.weight, bn1.bias and 99 more"),
    ],
)
def test_what_does_not_fit_is_one_line(content: Any, says: str, tmp_path: Path) -> None:
    state = content()
    if "normalize.mean" in state:
        state |= prefixed(resnet18(num_classes=10).state_dict(), "model.")
        says = "it normalises by the mean [0.0, 0.0, 0.0], the network here by [0.49, 0.48, 0.45]"
    with pytest.raises(DataFileError) as caught:
        load_weights(saved(tmp_path, state), network("torchvision:resnet18"), "FILE")
    assert str(caught.value) == f"FILE does not fit the network: {says}"


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"^FILE cannot be read \(UnpicklingError\)"):
        load_weights(saved(tmp_path, resnet18(num_classes=10)), network("torchvision:resnet18"), "FILE")
