"""`AttackCopy`: a frozen, cheaper copy of a classifier for attacks, batch norm folded, optionally in bfloat16."""

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainables.networks.body import Body, Classifier, compiled_features


class AttackCopy:
    """What a classifier computes in eval mode, in fewer operations; refreshed from it once per training step.

    Batch norm right behind a convolution in an `nn.Sequential` goes into that convolution; any other becomes one
    multiply-add. In the classifier's own dtype this is the same function up to rounding. In bfloat16 the normalised
    images, the weights and the features are rounded; the last linear layer, and with it every score of the logits,
    stays in the classifier's dtype.

    Autocast would do for the arithmetic, but its cache of cast weights never holds frozen parameters: every
    step of an attack would cast all of them again.

    Args:
        network: the classifier; only read, now and at every refresh.
        dtype: of weights and features.
    """

    def __init__(self, network: Classifier, dtype: torch.dtype) -> None:
        twin = copy.deepcopy(network).eval().requires_grad_(False)
        self._folded: list[tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]] = []
        self._affine: list[tuple[nn.BatchNorm2d, _Affine]] = []
        for source, target in _paired(network.body, twin.body):
            self._replace_norms(source, target)
        head, twin.body = twin.head, _Lowered(twin.body.to(dtype), dtype)
        head.to(network.head.weight.dtype)
        inner = twin.body.inner
        targets = {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
        folded = {id(p) for _, _, conv in self._folded for p in conv.parameters()}
        self._plain = [
            (source, targets[name])
            for name, source in (*network.body.named_parameters(), *network.body.named_buffers())
            if name in targets and id(targets[name]) not in folded
        ]
        self.network = twin

    def _replace_norms(self, source: nn.Module, target: nn.Module) -> None:
        """Put convolutions with a bias, identities and multiply-adds in the place of one module's children."""
        children = list(source.named_children())
        before: dict[str, tuple[str, nn.Conv2d]] = {}
        if type(source).forward is nn.Sequential.forward:  # elsewhere the order of the children says nothing
            before = {b: (a, conv) for (a, conv), (b, _) in pairwise(children) if isinstance(conv, nn.Conv2d)}
        for name, norm in children:
            if not (isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.track_running_stats):
                continue
            if name in before:
                previous, conv = before[name]
                twin = target.get_submodule(previous)
                assert isinstance(twin, nn.Conv2d)
                twin.bias = nn.Parameter(torch.zeros_like(norm.bias), requires_grad=False)
                setattr(target, name, nn.Identity())
                self._folded.append((conv, norm, twin))
            else:
                affine = _Affine(norm)
                setattr(target, name, affine)
                self._affine.append((norm, affine))

    @torch.no_grad()
    def refresh(self) -> Classifier:
        """Return the copy with the classifier's current weights and running statistics; the GPU is not waited for."""
        for source, target in self._plain:
            target.copy_(source)
        for conv, norm, folded in self._folded:
            assert folded.bias is not None
            scale, shift = _scale_and_shift(norm)
            folded.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1))
            folded.bias.copy_(shift if conv.bias is None else shift + conv.bias * scale)
        for norm, affine in self._affine:
            scale, shift = _scale_and_shift(norm)
            affine.scale.copy_(scale.view(-1, 1, 1))
            affine.shift.copy_(shift.view(-1, 1, 1))
        return self.network


class _Lowered(Body):
    """A body on inputs cast to a dtype, whose features come back in the dtype of its last layer."""

    def __init__(self, inner: Body, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self.head = inner.head
        self.dtype = dtype
        self.compiled = inner.compiled

    def features(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        features = compiled_features()(self.inner, x) if self.compiled else self.inner.features(x)
        return features.to(self.head.weight.dtype)


class _Affine(nn.Module):
    """Batch norm with given statistics: x * scale + shift per channel."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.register_buffer("scale", torch.empty_like(norm.bias).view(-1, 1, 1))
        self.register_buffer("shift", torch.empty_like(norm.bias).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return (c,) and (c,): what batch norm does with its running statistics."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return scale, norm.bias - mean * scale


def _paired(source: nn.Module, target: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield every module with its counterpart in a copy; listed before anything is replaced."""
    yield from list(zip(source.modules(), target.modules(), strict=True))
