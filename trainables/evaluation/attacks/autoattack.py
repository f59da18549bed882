"""AutoAttack with the attack code of pyautoattack, for fewer than 10 classes too, resumable after a kill.

The attacks (APGD-CE, APGD-T, FAB-T, Square), their order and their batches are the reference's, and so are the
verdicts. Added: fewer than 10 classes, a network that is left as it was, the library's warnings in the result, and a
state file after every batch.
"""

import hashlib
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.base.errors import InputError
from trainables.data.loading.device_loader import to_unit
from trainables.data.loading.open_dataset import fingerprint_images
from trainables.data.loading.stream_loader import in_order
from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.attacks.autoattack_progress import Progress
from trainables.functional.attacks import attack_mode

FORMAT = 1
#: Beyond these a perturbation has left its ball; float32 arithmetic alone moves a pixel by about 1e-7.
TOLERANCE = 1e-5


class Attack(StrEnum):
    """The attacks of AutoAttack by its own names."""

    APGD_CE = "apgd-ce"
    APGD_DLR = "apgd-dlr"
    APGD_T = "apgd-t"
    FAB_T = "fab-t"
    SQUARE = "square"


@dataclass(frozen=True)
class AttackBudget:
    """How hard to attack; the defaults are AutoAttack's "standard", and only they deserve its name.

    Attributes:
        iterations: of APGD and FAB, per target.
        targets: classes that APGD-T and FAB-T try, at most; never more than there are others.
        queries: of Square.
    """

    iterations: int = 100
    targets: int = 9
    queries: int = 5000


@dataclass
class AutoAttackResult:
    """The result of an AutoAttack run.

    Attributes:
        robust: (n,) bool, right under every attack.
        clean: (n,) bool, right without any.
        after: {"clean" or attack: share of images still right after it}, in the order they ran; attacks that no
            image was left for are missing.
        version: "standard", "custom" (3 classes or fewer) or "reduced" (a smaller budget): not the same number.
        attacks: every attack of that version, in order.
        warnings: the reference's warnings about this network (random, probabilities in place of logits, zero
            gradients, Square stronger than the white-box attacks), one line each; empty is good.
        seed, batch_size, epsilon: what else the verdicts depend on.
    """

    robust: np.ndarray
    clean: np.ndarray
    after: dict[str, float]
    version: str
    attacks: tuple[str, ...]
    seed: int
    batch_size: int
    epsilon: float
    warnings: list[str] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """The robust accuracy in [0, 1]."""
        return float(self.robust.mean())


def auto_attack(
    network: nn.Module,
    data: LabelledImages,
    epsilon: float,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    batch_size: int = 250,
    state: Path | None = None,
    budget: AttackBudget | None = None,
) -> AutoAttackResult:
    """Attack every image within an Linf ball; each attack gets the images that are still right when it begins.

    Args:
        network: (n, c, h, w) in [0, 1] -> logits, on the device; run in eval mode with frozen parameters, left
            as it was, random streams of torch included.
        data: classes 0, 1, ...; all of it is attacked.
        epsilon: radius in [0, 1] pixel units.
        seed: of every random start; each batch starts from it, as in the reference.
        batch_size: belongs to the result, because the images of a batch share random numbers.
        state: file to go on from and to write after every batch, whole or not at all; kept at the end, so that a
            second call only reads it. A file that cannot be read starts over, with a warning.

    Raises:
        InputError: no images, labels that are no classes, or a state file of another network, data or setting.

    Source:
        Croce & Hein 2020, version "standard", code of pyautoattack 0.2 (fra31/auto-attack). What differs: with
        K < 10 classes the targeted attacks try all K - 1 others (the reference fails); with K = 3 the targeted DLR
        does not exist and APGD-CE, APGD-DLR and Square run, with K = 2 APGD-CE and Square.
    """
    _check(data)
    budget = budget or AttackBudget()
    device = torch.device(device)
    with _restored(network, device), _collected_warnings() as warnings:
        run = _Run(network, data, epsilon, seed, device, batch_size, budget, warnings)
        return run.run(state)


def plan(classes: int, budget: AttackBudget) -> tuple[str, tuple[Attack, ...], int]:
    """Return (version, attacks, targets) for a number of classes.

    Raises:
        InputError: fewer than two classes.

    Example:
        10 classes: standard with 9 targets; 7: standard with 6; 3: APGD-CE, APGD-DLR, Square.
    """
    if classes < 2:
        raise InputError(f"AutoAttack needs a network of 2 classes or more, not {classes}")
    if classes > 3:
        version = "standard" if budget == AttackBudget() else "reduced"
        attacks = (Attack.APGD_CE, Attack.APGD_T, Attack.FAB_T, Attack.SQUARE)
        return version, attacks, min(budget.targets, classes - 1)
    middle = (Attack.APGD_DLR,) if classes == 3 else ()
    return "custom", (Attack.APGD_CE, *middle, Attack.SQUARE), 0


class _Run:
    """One AutoAttack run: the library's attacks in a loop over attacks and batches that can be resumed."""

    def __init__(
        self,
        network: nn.Module,
        data: LabelledImages,
        epsilon: float,
        seed: int,
        device: torch.device,
        batch_size: int,
        budget: AttackBudget,
        warnings: dict[str, str],
    ) -> None:
        self.network, self.data, self.epsilon, self.seed = network, data, epsilon, seed
        self.device, self.batch_size, self.budget, self.warnings = device, batch_size, budget, warnings
        with torch.no_grad():
            classes = int(network(self._images(np.arange(1))[0]).shape[1])
        if data.labels.max() >= classes:
            raise InputError(f"label {data.labels.max()} does not exist: the network has {classes} classes")
        self.version, self.attacks, targets = plan(classes, budget)
        self.library = _library(network, epsilon, seed, device, targets, budget)

    def run(self, path: Path | None) -> AutoAttackResult:
        key = "" if path is None else self._key()
        progress = self._resumed(path, key) or self._begun()
        self.warnings.update(progress.warnings)
        while progress.stage < len(self.attacks):
            for _ in self._batches(progress):
                if path is not None:
                    progress.warnings = dict(self.warnings)
                    progress.write(path, key)
        if self.attacks[-1] in progress.after:
            self._checks().check_square_sr(progress.after, logger=_logger())
        return AutoAttackResult(
            progress.standing,
            progress.clean,
            progress.after,
            self.version,
            self.attacks,
            self.seed,
            self.batch_size,
            self.epsilon,
            list(self.warnings.values()),
        )

    def _begun(self) -> Progress:
        """Run the reference's checks of the network, and find the images that are right without an attack."""
        n = min(self.batch_size, len(self.data))
        x, y = self._images(np.arange(n))
        checks = self._checks()
        tracing = sys.gettrace()
        checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # the library counts on from run to run
        try:
            checks.check_randomized(self.network, x, y, bs=self.batch_size, logger=_logger())
            checks.check_range_output(self.network, x, logger=_logger())
            checks.check_dynamic(self.network, x, False, logger=_logger())
        finally:
            sys.settrace(tracing)
        with torch.no_grad():
            right = []
            labels = torch.tensor(np.asarray(self.data.labels), device=self.device).split(self.batch_size)
            for part, wanted in zip(
                in_order(self.data.images, self.batch_size, self.device), labels, strict=True
            ):
                logits = self.network(to_unit(part))
                if not bool(torch.isfinite(logits).all()):
                    _logger().warning("the network returns numbers that are not finite on clean images")
                right.append(logits.argmax(1) == wanted)
        clean = torch.cat(right).cpu().numpy()
        return Progress(clean, clean.copy(), clean.copy(), {"clean": float(clean.mean())}, {})

    def _resumed(self, path: Path | None, key: str) -> Progress | None:
        if path is None or not path.is_file():
            return None
        try:
            return Progress.read(path, key)
        except InputError:
            raise
        except ValueError as error:
            _logger().warning(f"the state file {path} was damaged, the run started over ({_line(error)})")
            return None

    def _batches(self, progress: Progress) -> Iterator[None]:
        """Run the batches of the current attack that are not done yet; yield whenever the progress is consistent."""
        attack = self.attacks[progress.stage]
        rows = np.flatnonzero(progress.begun)
        if len(rows) == 0:  # the reference stops here too
            progress.stage = len(self.attacks)
            yield
            return
        parts = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        for index in range(progress.batch, len(parts)):
            progress.standing[parts[index]] = self._holds(attack, parts[index])
            progress.batch = index + 1
            if progress.batch < len(parts):
                yield
        progress.after[attack] = float(progress.standing.mean())
        progress.stage, progress.batch = progress.stage + 1, 0
        progress.begun = progress.standing.copy()
        yield

    @torch.no_grad()
    def _holds(self, attack: Attack, rows: np.ndarray) -> np.ndarray:
        """Return which images of one batch are still right after one attack."""
        x, y = self._images(rows)
        adversarial = _perturb(self.library, attack, x, y)
        distance = (adversarial - x).abs().amax()
        outside = torch.maximum(-adversarial.amin(), adversarial.amax() - 1)
        if not bool((distance <= self.epsilon + TOLERANCE) & (outside <= TOLERANCE)):
            _logger().warning(f"{attack} left its ball or [0, 1]; the robust accuracy may be too low")
        right: np.ndarray = (self.network(adversarial).argmax(1) == y).cpu().numpy()
        return right

    def _images(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        images, labels = self.data.images[rows], self.data.labels[rows]
        x = to_unit(torch.tensor(np.ascontiguousarray(images), device=self.device))
        return x, torch.tensor(np.ascontiguousarray(labels), device=self.device).long()

    def _key(self) -> str:
        """Return what a state file belongs to; the constants of the input normalisation are buffers too."""
        digest = hashlib.sha256(fingerprint_images(self.data).encode())
        for name, value in [*self.network.named_parameters(), *self.network.named_buffers()]:
            digest.update(f"{name} {tuple(value.shape)} {value.dtype} ".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        setting = [FORMAT, self.epsilon, self.seed, self.batch_size, self.attacks, asdict(self.budget)]
        digest.update(json.dumps(setting).encode())
        return digest.hexdigest()

    @staticmethod
    def _checks() -> Any:
        from pyautoattack import checks

        return checks


def _library(
    network: nn.Module, epsilon: float, seed: int, device: torch.device, targets: int, budget: AttackBudget
) -> Any:
    """Return the reference's object with its attacks set up for this number of classes."""
    from pyautoattack import AutoAttack

    # "standard" logs more and sets the same numbers that follow
    library = AutoAttack(
        network, attacks=[], device=device, eps=epsilon, norm="Linf", seed=seed, version="custom"
    )
    library.verbose = False
    library.apgd.n_restarts = library.fab.n_restarts = 1  # without a version there would be 5
    library.apgd_targeted.n_target_classes = library.fab.n_target_classes = targets
    library.square.n_queries = budget.queries
    library.fab.n_iter = budget.iterations
    for attack in (library.apgd, library.apgd_targeted):
        attack.n_iter = attack.n_iter_orig = budget.iterations
        # the schedule of its step length is worked out for 100 iterations when it is made
        attack.n_iter_2 = max(int(0.22 * budget.iterations), 1)
        attack.n_iter_min = max(int(0.06 * budget.iterations), 1)
        attack.size_decr = max(int(0.03 * budget.iterations), 1)
    return library


def _perturb(library: Any, attack: Attack, x: Tensor, y: Tensor) -> Tensor:
    """Run one attack of the library on one batch that is classified rightly."""
    if attack is Attack.SQUARE:
        run = library.square
    elif attack is Attack.FAB_T:
        run = library.fab
        run.targeted = True
    elif attack is Attack.APGD_T:
        run = library.apgd_targeted
    else:
        run = library.apgd
        run.loss = "ce" if attack is Attack.APGD_CE else "dlr"
    run.seed = library.get_seed()
    adversarial: Tensor = run.perturb(x, y)
    return adversarial


@contextmanager
def _restored(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Freeze the network, switch mixed precision off, and restore the global random states that the library seeds."""
    cuda = [device] if device.type == "cuda" else []
    with (
        attack_mode(network),
        torch.random.fork_rng(devices=cuda),
        torch.autocast(device.type, enabled=False),
    ):
        yield


def _logger() -> logging.Logger:
    return logging.getLogger("auto-attack")  # the library's own


@contextmanager
def _collected_warnings() -> Iterator[dict[str, str]]:
    """Collect the warnings of the library instead of printing them.

    Messages that differ in their numbers only (points with zero gradient, once per batch and target) count as one,
    and the one with the largest number is kept.
    """
    warnings: dict[str, str] = {}

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage().replace(" See flags_doc.md for details.", "")
            kind = re.sub(r"\d+", "#", message)
            warnings[kind] = max(warnings.get(kind, message), message, key=_numbers)

    logger, handler = _logger(), Collect(logging.WARNING)
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield warnings
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)


def _numbers(message: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", message)]


def _check(data: LabelledImages) -> None:
    if len(data) == 0:
        raise InputError("AutoAttack got no images")
    if data.labels.min() < 0:
        raise InputError(f"AutoAttack needs the class of every image, and one label is {data.labels.min()}")


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
