"""Classifiers from elsewhere: torchvision's, timm's and the user's own, as a `Body` of features and a linear head."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainables.base.errors import InputError, foreign_code, unknown
from trainables.base.user_code import UserCode
from trainables.networks.body import Body
from trainables.networks.torchvision_nets import with_channels

#: what a factory may ask for, by the names of its parameters
CLASSES = ("classes", "num_classes", "n_classes")
CHANNELS = ("channels", "in_channels", "in_chans")
SIZE = ("size", "image_size", "img_size")


class OutsideNetwork(Body):
    """Any module from images to logits whose logits are what its last linear layer returns.

    That layer becomes `head`, and an identity takes its place in the module, which so returns the features. What the
    body gives is checked against the module as it was, on two images.

    Args:
        reference: `torchvision:NAME`, `timm:NAME` or the user's code.
        layer: name of the last linear layer within the module, "" for the one that runs last.
        pretrained: with the published weights of torchvision or timm; the last layer is new for another number of
            classes.

    Attributes:
        head_name: of the last linear layer, in the module as it was.
        normalizes: the module's own attribute of that name: it wants images in [0, 1] and normalises them itself.

    Raises:
        InputError: the module cannot be built or does not suit, in one line.
    """

    def __init__(
        self,
        num_classes: int,
        shape: tuple[int, int, int],
        dropout: float = 0.0,
        *,
        reference: str,
        layer: str = "",
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        try:
            with torch.device("cpu"):  # also where only shapes are wanted: a factory may compute
                module = _make(reference, num_classes, shape, dropout, pretrained)
                self.head_name, head = _split(module, layer, num_classes, shape)
        except InputError as error:
            raise type(error)(f"network {reference}: {error}") from error
        self.normalizes = bool(getattr(module, "normalizes", False))
        self.layers = module
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Return (n, d): what the last linear layer was given."""
        features: Tensor = self.layers(x)
        return features


def _make(
    reference: str, num_classes: int, shape: tuple[int, int, int], dropout: float, pretrained: bool
) -> nn.Module:
    kind, _, name = reference.partition(":")
    if kind == "torchvision":
        return _torchvision(name, num_classes, shape, pretrained)
    if kind == "timm":
        return _timm(name, num_classes, shape, dropout, pretrained)
    factory = UserCode(reference).load()
    side = shape[1] if shape[1] == shape[2] else shape[1:]
    given = {
        **dict.fromkeys(CLASSES, num_classes),
        **dict.fromkeys(CHANNELS, shape[0]),
        **dict.fromkeys(SIZE, side),
        "dropout": dropout,
    }
    module = _call(factory, given)
    if not isinstance(module, nn.Module):
        raise InputError(f"what it makes is of type {type(module).__name__}, not a torch.nn.Module")
    return module


def _call(factory: Any, given: dict[str, Any]) -> Any:
    """Call a factory with those of the given arguments that it names."""
    if not callable(factory):
        raise InputError(
            f"it is of type {type(factory).__name__}, not a function or class that makes a network"
        )
    parameters = inspect.signature(factory).parameters.values()
    wanted = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = [p.name for p in parameters if p.name in wanted and p.default is p.empty]
    missing = [name for name in required if name not in given]
    if missing:
        raise InputError(
            f"its parameter {missing[0]} has no default; what is given: {CLASSES[0]}, {CHANNELS[0]}, {SIZE[0]}, dropout"
        )
    return _attempt(
        lambda: factory(**{name: given[name] for name in wanted if name in given}), "it cannot be built"
    )


def _torchvision(name: str, num_classes: int, shape: tuple[int, int, int], pretrained: bool) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise InputError(unknown("model of torchvision", name, known))
    if pretrained:
        module = _download(lambda: models.get_model(name, weights="DEFAULT"))
    else:
        sized = {"image_size": shape[1]} if name.startswith("vit_") else {}
        more = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
        module = _attempt(
            lambda: models.get_model(name, weights=None, num_classes=num_classes, **sized, **more),
            "it cannot be built",
        )
    if shape[0] != 3:
        path, stem = next((p, m) for p, m in module.named_modules() if isinstance(m, nn.Conv2d))
        module.set_submodule(path, with_channels(stem, shape[0]))
    return _with_classes(module, num_classes) if pretrained else module


def _timm(
    name: str, num_classes: int, shape: tuple[int, int, int], dropout: float, pretrained: bool
) -> nn.Module:
    import timm

    settings: dict[str, Any] = {"num_classes": num_classes, "in_chans": shape[0], "drop_rate": dropout}
    if not timm.is_model(name):
        raise InputError(unknown("model of timm", name, timm.list_models()))
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.fixed_input_size:
        settings["img_size"] = shape[1:]
    if pretrained:
        return _download(lambda: timm.create_model(name, pretrained=True, **settings))
    return _attempt(lambda: timm.create_model(name, pretrained=False, **settings), "it cannot be built")


def _download(make: Callable[[], nn.Module]) -> nn.Module:
    return _attempt(make, "its published weights cannot be had, from the cache or online")


def _attempt(make: Callable[[], Any], problem: str) -> Any:
    """Return what a call of foreign code returns; an InputError of one line for whatever it raises."""
    with foreign_code(InputError, f"{problem}: "):
        return make()


def _with_classes(module: nn.Module, num_classes: int) -> nn.Module:
    """Give a network with another number of classes a new last layer."""
    name, head = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear)][-1]
    if head.out_features != num_classes:
        module.set_submodule(name, nn.Linear(head.in_features, num_classes))
    return module


def probe(shape: tuple[int, int, int]) -> Tensor:
    """Return two images of fixed values, as normalised ones look."""
    return torch.linspace(-2, 2, 2 * shape[0] * shape[1] * shape[2]).sin().view(2, *shape)


@torch.no_grad()
def _split(
    module: nn.Module, layer: str, num_classes: int, shape: tuple[int, int, int]
) -> tuple[str, nn.Linear]:
    """Take the last linear layer out of a module and return (its name, the layer)."""
    training = module.training
    module.eval()
    images = probe(shape)
    called: list[str] = []
    hooks = [
        part.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear)
    ]
    size = f"{shape[1]} x {shape[2]} with {shape[0]} channel{'s' if shape[0] > 1 else ''}"
    logits = _attempt(lambda: module(images), f"it cannot take images of {size}")
    for hook in hooks:
        hook.remove()
    if not isinstance(logits, Tensor):
        raise InputError(f"it returns {type(logits).__name__}; it must return the logits alone, a tensor")
    if logits.shape != (2, num_classes):
        raise InputError(
            f"it returns {tuple(logits.shape)} for 2 images; it must return (2, {num_classes}), the logits of "
            f"{num_classes} classes"
        )
    if layer and layer not in called:
        raise InputError(
            f"it has no linear layer {layer} that runs; those that do: {', '.join(called) or 'none'}"
        )
    if not called:
        raise InputError(
            "no linear layer runs in it; detectors and fine-tuning need its last one, which makes the logits"
        )
    name = layer or called[-1]
    head = module.get_submodule(name)
    if not isinstance(head, nn.Linear) or head.in_features < 1 or not name:
        raise InputError("it is a linear layer itself; put it into a module")
    module.set_submodule(name, nn.Identity())
    features = _attempt(lambda: module(images), f"it does not run without its last linear layer {name}")
    if features.shape != (2, head.in_features) or not torch.allclose(
        head(features), logits, rtol=1e-4, atol=1e-5
    ):
        raise InputError(
            f"its logits are not what its linear layer {name} returns; nothing may follow that layer (no softmax, no "
            "scaling), and it must run once; another layer is named with @layer behind the network"
        )
    module.train(training)
    return name, head
