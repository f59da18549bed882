"""K classifiers of one architecture with stacked weights, so that each operation is one call for all of them."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from trainables.networks import Classifier
from trainables.networks.small_cnn import SmallCNN

Layer = tuple[str, nn.Module]  # its name within the classifier


class StackedNetwork(ABC):
    """The classifiers of K replicas, their parameters and buffers stacked along a first axis.

    A forward of k images' stacks uses the first k replicas.

    Attributes:
        parameters: {name in the classifier: (K, ...)}, leaves that ask for gradients.
        buffers: {name: (K, ...)}.
    """

    def __init__(self, networks: Sequence[Classifier]) -> None:
        """Stack copies of the weights.

        Raises:
            TypeError: the architecture has no stacked form.
        """
        for name, layer in networks[0].named_modules():
            if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p:
                raise TypeError(f"{name} ({layer}) has no stacked form")
        self.normalize = networks[0].normalize
        self.parameters = {
            name: torch.stack([dict(n.named_parameters())[name].detach() for n in networks])
            for name, _ in networks[0].named_parameters()
        }
        for stacked in self.parameters.values():
            stacked.requires_grad_(True)
        # the normalisation's constants are the data set's: one copy serves all
        self.buffers = {
            name: torch.stack([dict(n.named_buffers())[name] for n in networks])
            for name, _ in networks[0].named_buffers()
            if not name.startswith("normalize.")
        }
        self._frozen = {name: stacked.detach() for name, stacked in self.parameters.items()}

    def train(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Return (K, n, classes) logits of (K, n, c, h, w) images in training mode, with a graph to the weights.

        Args:
            normalize: False if the images are normalised already.
        """
        return self._forward(self.normalize(images) if normalize else images, self.parameters, True)

    def eval(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Return (k, n, classes) logits in eval mode; only the images may ask for gradients."""
        return self._forward(self.normalize(images) if normalize else images, self._frozen, False)

    @abstractmethod
    def _forward(self, images: Tensor, weights: dict[str, Tensor], training: bool) -> Tensor:
        """Return the logits of normalised images."""


def stack(networks: Sequence[Classifier]) -> StackedNetwork:
    """Return the fastest stacked form of classifiers of one architecture.

    Raises:
        TypeError: they have none.
    """
    return (GroupedNetwork if isinstance(networks[0].body, SmallCNN) else MappedNetwork)(networks)


class MappedNetwork(StackedNetwork):
    """Any architecture: its own forward, mapped over the replicas by `torch.vmap`.

    Statistics of batch norm are updated in place in the stacked buffers.
    """

    def __init__(self, networks: Sequence[Classifier]) -> None:
        super().__init__(networks)
        self._body = copy.deepcopy(networks[0].body)  # its layers; the weights are given with each call
        self._body.compiled = False

    def _forward(self, images: Tensor, weights: dict[str, Tensor], training: bool) -> Tensor:
        self._body.train(training)
        given = {
            name.removeprefix("body."): stacked[: len(images)]
            for name, stacked in {**weights, **self.buffers}.items()
        }

        def one(own: dict[str, Tensor], x: Tensor) -> Tensor:
            logits: Tensor = functional_call(self._body, own, (x,))
            return logits

        logits: Tensor = torch.vmap(one)(given, images)
        return logits


class GroupedNetwork(StackedNetwork):
    """`SmallCNN`: channels side by side, so that a layer is one call.

    Convolutions are grouped by replica, batch norm is one over K times the channels, linear layers are one batched
    product.
    """

    def __init__(self, networks: Sequence[Classifier]) -> None:
        super().__init__(networks)
        self.layers = _layers(networks[0])

    def _forward(self, images: Tensor, weights: dict[str, Tensor], training: bool) -> Tensor:
        k, n = images.shape[:2]
        x = images.transpose(0, 1).flatten(1, 2)  # (n, k c, h, w)
        for name, layer in self.layers:
            if isinstance(layer, nn.ReLU):
                x = F.relu(x)
            elif isinstance(layer, nn.Flatten):
                x = x.view(n, k, -1).transpose(0, 1)  # (k, n, features)
            elif isinstance(layer, nn.Linear):
                weight, bias = weights[f"{name}.weight"][:k], weights[f"{name}.bias"][:k]
                x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
            elif isinstance(layer, nn.Conv2d):
                x = self._convolve(x, name, layer, weights, k)
            elif isinstance(layer, nn.BatchNorm2d):
                x = self._batch_norm(x, name, layer, weights, k, training)
        return x

    def _convolve(self, x: Tensor, name: str, layer: nn.Conv2d, weights: dict[str, Tensor], k: int) -> Tensor:
        bias = weights[f"{name}.bias"][:k].flatten() if layer.bias is not None else None
        weight = weights[f"{name}.weight"][:k].flatten(0, 1)
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, groups=k * layer.groups)

    def _batch_norm(
        self, x: Tensor, name: str, layer: nn.BatchNorm2d, weights: dict[str, Tensor], k: int, training: bool
    ) -> Tensor:
        mean, var = (self.buffers[f"{name}.running_{what}"][:k].view(-1) for what in ("mean", "var"))
        if training:
            self.buffers[f"{name}.num_batches_tracked"] += 1
        scale, shift = (weights[f"{name}.{what}"][:k].flatten() for what in ("weight", "bias"))
        momentum = 0.0 if layer.momentum is None else layer.momentum
        return F.batch_norm(x, mean, var, scale, shift, training, momentum, layer.eps)


_STACKABLE = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Flatten, nn.Linear, nn.Dropout)


def _layers(network: Classifier) -> list[Layer]:
    """Return a classifier's layers in their order, with the names by which its state dict knows them."""
    assert isinstance(network.body, SmallCNN)
    inner = [
        (f"body.layers.{name}", layer)
        for name, layer in network.body.layers.named_modules()
        if not isinstance(layer, nn.Sequential)
    ]
    for name, layer in inner:
        if not isinstance(layer, _STACKABLE):
            raise TypeError(f"{name} ({layer}) has no stacked form")
    return [*inner, ("body.head", network.head)]
