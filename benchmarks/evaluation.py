"""Evaluation beside its peers, in one run: images per second, and the same verdicts.

    python benchmarks/evaluation.py apgd         # APGD-CE + APGD-T beside the published code
    python benchmarks/evaluation.py autoattack   # all four attacks, our wrapper beside the published code
    python benchmarks/evaluation.py pgd          # PGD-100 beside the loop that keeps every image to its end

Two classifiers of the digits are trained first, a weak one (standard) and a robust one (PGD-AT). Arms take turns;
the attack's seed is the round's number. The clock is the process's CPU time, on one thread.
"""

import argparse
import importlib.util
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from alternate import Measured, alternate, line, machine, table
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.loading.device_loader import to_unit
from trainables.data.loading.open_dataset import load
from trainables.data.types.benchmark import LabelledImages, merge
from trainables.data.types.splits import Split
from trainables.functional.attacks import attack_mode

#: (network, Linf radius): a robust accuracy that is neither 0 nor 1, and one near 0.
CELLS = (("weak", 0.2), ("robust", 0.2), ("weak", 0.06))
HEADING = ["network", "epsilon", "arm", "images/s", "times faster", "robust of images", "differ from peer"]
Arms = dict[str, Callable[[int], Any]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("apgd", "autoattack", "pgd"))
    parser.add_argument(
        "--images", type=int, default=0, help="attack so many; 0: apgd 500, autoattack 50, pgd 300"
    )
    parser.add_argument("--network", choices=("robust", "weak"), default="", help="this one only")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    packages = ["torch", "pyautoattack"]
    if options.what == "apgd" and importlib.util.find_spec("torchattacks"):
        packages.append("torchattacks")
    print(f"python benchmarks/evaluation.py {options.what} --rounds {options.rounds}")
    print(machine(*packages), flush=True)
    count = options.images or {"apgd": 500, "autoattack": 50, "pgd": 300}[options.what]
    cells = [cell for cell in CELLS if options.network in ("", cell[0])]
    benchmark = load("digits")
    networks = {name: trained(name, benchmark) for name, _ in cells}
    whole = merge(benchmark.labelled(split) for split in (Split.TEST_ID, Split.VAL_ID, Split.TRAIN))
    data = LabelledImages(whole.images[:count], whole.labels[:count])
    print(table([HEADING]), flush=True)
    arms_of = {"apgd": apgd_arms, "autoattack": autoattack_arms, "pgd": pgd_arms}[options.what]
    for name, epsilon in cells:
        measured = alternate(arms_of(networks[name], data, epsilon), options.rounds)
        for row in compared(measured, count):
            print(line([name, str(epsilon), *row]), flush=True)


def compared(measured: dict[str, Measured], count: int, clock: str = "cpu") -> list[list[str]]:
    """Return a row for each arm; an arm's peer is the one before it whose name starts a group with no dash."""
    rows, peer = [], None
    for name, arm in measured.items():
        if not name.startswith("- "):
            peer = arm
        assert peer is not None
        robust = "/".join(str(int(verdicts.sum())) for verdicts in arm.found)
        differ = "/".join(str(int((a != b).sum())) for a, b in zip(arm.found, peer.found, strict=True))
        faster = "1" if arm is peer else arm.times_faster(peer, clock)
        speed = f"{count / arm.median(clock):.1f}"
        rows.append([name.removeprefix("- "), speed, faster, f"{robust} of {count}", differ])
    return rows


def trained(name: str, benchmark: Any) -> nn.Module:
    """Return a digits classifier, seed 0."""
    from trainables.base.streams import Streams
    from trainables.methods.adversarial import PGDAT
    from trainables.methods.standard import Standard
    from trainables.options import build
    from trainables.options.adversarial import PGDATOptions
    from trainables.options.classifiers import StandardOptions
    from trainables.training.method import Context

    context = Context(benchmark.for_search(), Streams(0), torch.device("cpu"), dict, lambda *_: None)
    method: Any = (
        PGDAT(build(PGDATOptions, {"epochs": 12}), context)
        if name == "robust"
        else Standard(build(StandardOptions, {"epochs": 12}), context)
    )
    for epoch in range(12):
        method.train_epoch(epoch)
    network: nn.Module = method.classifier()
    return network.eval()


# -- AutoAttack ----------------------------------------------------------------------------------------------


def published(
    network: nn.Module, data: LabelledImages, epsilon: float, attacks: list[str], device: str = "cpu"
) -> Callable:
    """Return pyautoattack as its documentation calls it."""
    from pyautoattack import AutoAttack

    images, labels = to_unit(torch.tensor(data.images)).to(device), torch.tensor(data.labels).to(device)

    def run(seed: int) -> np.ndarray:
        library = AutoAttack(
            network, attacks=attacks, eps=epsilon, seed=seed, version="custom", device=device
        )
        library.verbose = False
        library.apgd.n_restarts = library.fab.n_restarts = 1  # as in its version "standard"
        _, predicted = library.run_standard_evaluation(images, labels, batch_size=250)
        verdicts: np.ndarray = (predicted == labels).cpu().numpy()
        return verdicts

    return run


def torchattacks_apgd(network: nn.Module, data: LabelledImages, epsilon: float) -> Callable:
    """Return torchattacks' APGD and APGDT with AutoAttack's 100 steps; its own AutoAttack takes 10."""
    from torchattacks import APGD, APGDT

    images, labels = torch.tensor(data.images), torch.tensor(data.labels)

    def run(seed: int) -> np.ndarray:
        with torch.no_grad():
            standing = network(images).argmax(1) == labels
        for attack in (
            APGD(network, eps=epsilon, steps=100, n_restarts=1, seed=seed, loss="ce"),
            APGDT(network, eps=epsilon, steps=100, n_restarts=1, seed=seed, n_classes=10),
        ):
            for rows in torch.split(standing.nonzero()[:, 0], 250):
                found = attack(images[rows], labels[rows])
                with torch.no_grad():
                    standing[rows] = network(found).argmax(1) == labels[rows]
        return standing.numpy()

    return run


def apgd_arms(network: nn.Module, data: LabelledImages, epsilon: float, device: str = "cpu") -> Arms:
    from trainables.evaluation.attacks.apgd import apgd_verdicts

    arms: Arms = {"pyautoattack": published(network, data, epsilon, ["apgd-ce", "apgd-t"], device)}
    if importlib.util.find_spec("torchattacks") and device == "cpu":
        arms["- torchattacks, 100 steps"] = torchattacks_apgd(network, data, epsilon)
    arms["- ours, no target given up"] = lambda seed: apgd_verdicts(
        network, data, epsilon, seed=seed, reach=float("inf"), device=device
    )
    arms["- ours"] = lambda seed: apgd_verdicts(network, data, epsilon, seed=seed, device=device)
    return arms


def autoattack_arms(network: nn.Module, data: LabelledImages, epsilon: float) -> Arms:
    """The metric of `autoattack.auto_attack` is not that of APGD alone: the last arm is there for its cost."""
    from trainables.evaluation.attacks.apgd import apgd_verdicts
    from trainables.evaluation.attacks.autoattack import auto_attack

    return {
        "pyautoattack standard": published(network, data, epsilon, ["apgd-ce", "apgd-t", "fab-t", "square"]),
        "- our wrapper": lambda seed: auto_attack(network, data, epsilon, seed=seed).robust,
        "- our APGD alone": lambda seed: apgd_verdicts(network, data, epsilon, seed=seed),
    }


# -- PGD -----------------------------------------------------------------------------------------------------


def pgd_arms(network: nn.Module, data: LabelledImages, epsilon: float, device: str = "cpu") -> Arms:
    """PGD-100 on the cross-entropy at two step lengths: a quarter of the radius, and 2.5 radii in all."""
    from trainables.evaluation.attacks.pgd import broken_by_pgd

    images, labels = to_unit(torch.tensor(data.images)).to(device), torch.tensor(data.labels).to(device)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")

    def starts(seed: int) -> Tensor:
        return torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)).to(device) * 2 - 1

    def loop(pgd: Callable[..., np.ndarray], seed: int, length: float) -> np.ndarray:
        with attack_mode(network):
            return np.concatenate(
                [
                    pgd(network, loss, *part, epsilon, 100, length)
                    for part in zip(
                        images.split(256), labels.split(256), starts(seed).split(256), strict=True
                    )
                ]
            )

    def ours(seed: int, length: float) -> np.ndarray:
        rows = torch.arange(len(images), device=device)
        with attack_mode(network):
            broken = broken_by_pgd(
                network,
                loss,
                images,
                labels,
                starts(seed),
                rows,
                epsilon,
                steps=100,
                length=length,
                size=256,
            )
        return ~broken.cpu().numpy()

    return {
        "plain loop, step epsilon / 4": lambda seed: loop(plain_pgd, seed, epsilon / 4),
        "- the same, fooled images leave, step epsilon / 4": lambda seed: loop(
            dropping_pgd, seed, epsilon / 4
        ),
        "- ours, step epsilon / 4": lambda seed: ours(seed, epsilon / 4),
        "plain loop, step epsilon / 40": lambda seed: loop(plain_pgd, seed, epsilon / 40),
        "- the same, fooled images leave, step epsilon / 40": lambda seed: loop(
            dropping_pgd, seed, epsilon / 40
        ),
        "- ours, step epsilon / 40": lambda seed: ours(seed, epsilon / 40),
    }


def plain_pgd(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    starts: Tensor,
    epsilon: float,
    steps: int,
    length: float,
) -> np.ndarray:
    """Every image to the last step; return (n,) which no iterate was misclassified of."""
    low, high = (images - epsilon).clamp_min(0), (images + epsilon).clamp_max(1)
    x = torch.clamp(images + epsilon * starts, low, high)
    broken = torch.zeros_like(labels, dtype=torch.bool)
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        logits = network(x)
        (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), x)
        broken |= logits.argmax(1) != labels
        x = torch.clamp(x.detach() + length * gradient.sign(), low, high)
    with torch.no_grad():
        broken |= network(x).argmax(1) != labels
    return ~broken.cpu().numpy()


def dropping_pgd(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    starts: Tensor,
    epsilon: float,
    steps: int,
    length: float,
) -> np.ndarray:
    """The same as `plain_pgd`, but an image leaves the batch once an iterate of it was misclassified."""
    low, high = (images - epsilon).clamp_min(0), (images + epsilon).clamp_max(1)
    x = torch.clamp(images + epsilon * starts, low, high)
    rows, broken = torch.arange(len(labels), device=labels.device), torch.zeros_like(labels, dtype=torch.bool)
    for step in range(steps + 1):
        x = x.detach().requires_grad_(step < steps)
        logits = network(x)
        fooled = logits.argmax(1) != labels[rows]
        broken[rows[fooled]] = True
        if step == steps or fooled.all():
            break
        (gradient,) = torch.autograd.grad(loss(logits, labels[rows]).sum(), x)
        kept = ~fooled
        rows = rows[kept]
        x = torch.clamp(x.detach()[kept] + length * gradient[kept].sign(), low[rows], high[rows])
    return ~broken.cpu().numpy()


if __name__ == "__main__":
    main()
