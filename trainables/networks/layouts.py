"""How other programs name the weights of the same architectures: one table of rules, from their names to those here."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from torch import nn

from trainables.networks.body import Body


@dataclass(frozen=True)
class Layout:
    """The names of one family of programs.

    Attributes:
        rules: {pattern of a layer's name there: its name in a `Body`}. `group` and `block` number the groups of blocks
            and the blocks of a group; `{at}` is the place of such a block in `Body.layers`, `{end}` the one behind.
        unused: pattern of what they store and never compute with.
    """

    rules: dict[str, str]
    unused: str = ""

    def renamed(self, names: Iterable[str]) -> dict[str, str]:
        """Return {name there: name in a `Body`} of those names that a rule fits."""
        names = list(names)
        places = [m for name in names for rule in self.rules if (m := re.match(rule, name)) and m.groupdict()]
        groups = sorted({match["group"] for match in places})
        blocks = 1 + max((int(match["block"]) for match in places), default=-1)
        found = {}
        for name in names:
            layer, _, leaf = name.rpartition(".")
            for pattern, target in self.rules.items():
                match = re.fullmatch(pattern, layer)
                if match:
                    numbers = match.groupdict()
                    at = 1 + groups.index(numbers["group"]) * blocks + int(numbers["block"]) if numbers else 0
                    own = match.expand(target) if not numbers else target
                    found[name] = f"{own.format(at=at, end=1 + len(groups) * blocks)}.{leaf}"
                    break
        return found


_BLOCK = r"block(?P<group>[1-3])\.layer\.(?P<block>\d+)\."
_PREACT = r"layer(?P<group>[1-4])\.(?P<block>\d+)\."
_DEEPMIND = r"layer\.(?P<group>[0-2])\.block\.(?P<block>\d+)\."

LAYOUTS = {
    # energy_ood, outlier exposure, pytorch-ood, TRADES, RobustBench's WideResNet
    "wide": Layout(
        {
            "conv1": "layers.0",
            _BLOCK + "bn1": "layers.{at}.activate.0",
            _BLOCK + "conv1": "layers.{at}.residual.0",
            _BLOCK + "bn2": "layers.{at}.residual.1",
            _BLOCK + "conv2": "layers.{at}.residual.4",
            _BLOCK + "convShortcut": "layers.{at}.shortcut",
            "bn1": "layers.{end}",
            "fc": "head",
        },
        unused=r"sub_block1\..*",
    ),
    # RobustBench's pre-activation ResNet with batch norm before the last layer
    "preact": Layout(
        {
            "conv1": "layers.0",
            _PREACT + "bn1": "layers.{at}.activate.0",
            _PREACT + "conv1": "layers.{at}.residual.0",
            _PREACT + "bn2": "layers.{at}.residual.1",
            _PREACT + "conv2": "layers.{at}.residual.4",
            _PREACT + r"shortcut\.0": "layers.{at}.shortcut",
            "bn": "layers.{end}",
            "linear": "head",
        }
    ),
    # DeepMind's wide ResNet: RobustBench's DMWideResNet, DyART and others
    "deepmind": Layout(
        {
            "init_conv": "layers.0",
            _DEEPMIND + "batchnorm_0": "layers.{at}.activate.0",
            _DEEPMIND + "conv_0": "layers.{at}.residual.0",
            _DEEPMIND + "batchnorm_1": "layers.{at}.residual.1",
            _DEEPMIND + "conv_1": "layers.{at}.residual.4",
            _DEEPMIND + "shortcut": "layers.{at}.shortcut",
            "batchnorm": "layers.{end}",
            "logits": "head",
        }
    ),
}
#: what wrapping a network puts before every name
PREFIX = re.compile(r"(module|model|_orig_mod|net|network|backbone|\d+)\.")
#: the constants of a normalisation that is stored with the network
CONSTANTS = re.compile(r"(?:.*\.)?(mean|mu|std|sigma)")


def layouts_of(body: Body) -> list[Layout]:
    """Return the layouts in which the weights of a body may be found, its own first."""
    found = [Layout({r"body\.(.+)": r"\1"}), Layout({"(.+)": r"\1"})]
    head = getattr(body, "head_name", "")
    if head:  # a module that was taken apart: as it was
        found.append(Layout({re.escape(head): "head", "(.+)": r"layers.\1"}))
    if body.layout:
        found.append(LAYOUTS[body.layout])
    return found


def without_prefixes(names: Iterable[str]) -> list[str]:
    """Return "" and the prefixes that all names share and that wrapping may have made, shortest first.

    Example:
        ["module.1.conv1.weight", "module.1.fc.weight"] -> ["", "module.", "module.1."]
    """
    names, found = list(names), []
    start = 0
    while names and (match := PREFIX.match(names[0], start)):
        if not all(name.startswith(names[0][: match.end()]) for name in names):
            break
        found.append(match[0])
        start = match.end()
    return ["", *accumulate(found)]


def first_convolution(body: Body) -> nn.Conv2d | None:
    """Return the convolution that sees the images, by the order of the layers."""
    return next((m for m in body.modules() if isinstance(m, nn.Conv2d)), None)
