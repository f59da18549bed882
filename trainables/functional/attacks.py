"""Linf attacks in training: signed gradient ascent, and the attacks on outliers and inliers by their specs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.base.errors import InputError, unknown
from trainables.functional.losses import energy, full_precision, uniformity
from trainables.options.attacks import AttackSpec
from trainables.options.classifiers import InlierAttackOptions
from trainables.options.common import AttackOptions

#: (n, c, h, w) images -> (n,) values to maximise.
Objective = Callable[[Tensor], Tensor]


@contextmanager
def attack_mode(network: nn.Module, mode: str = "eval") -> Iterator[None]:
    """Freeze a network for an attack and leave it exactly as it was, also after an exception.

    Inside, no parameter asks for a gradient. In mode "train" dropout is active and batch norm normalises
    with the batch; its running statistics then move on copies only, which are thrown away on exit.

    Args:
        mode: "eval" or "train"; train is what the AOE code does.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in ("eval", "train"):
        raise ValueError(f"unknown attack mode {mode!r}; known: eval, train")
    training = [(module, module.training) for module in network.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    # the tensors themselves are put back: writing into them would invalidate a graph that still needs them
    buffers = [
        (module, name, buffer)
        for module, _ in training
        for name, buffer in module._buffers.items()
        if mode == "train" and buffer is not None
    ]
    try:
        for module, name, buffer in buffers:
            module._buffers[name] = buffer.clone()
        network.train(mode == "train")
        for parameter, _ in gradients:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, flag in gradients:
            parameter.requires_grad_(flag)
        for module, name, buffer in buffers:
            module._buffers[name] = buffer


def ascend(
    objective: Objective,
    images: Tensor,
    epsilon: float,
    steps: int,
    *,
    step_scale: float = 2.5,
    generator: torch.Generator | None = None,
    momentum: float | None = None,
    random_start: bool = True,
    clamp: bool = True,
) -> Tensor:
    """Maximise an objective of each image by signed gradient steps within an Linf ball and the [0, 1] box.

    One step with `step_scale=1` and no random start is FGSM, several are PGD, with momentum MI-FGSM. Call it
    within `attack_mode`: only the images are differentiated, but a network in training mode would still
    update its statistics. Nothing is read back from the device.

    Args:
        objective: (n, c, h, w) -> (n,) values to maximise; their sum is differentiated.
        images: (n, c, h, w) in [0, 1].
        epsilon: radius in [0, 1] pixel units; 0 returns the images unchanged.
        steps: at least 1; each of length step_scale * epsilon / steps.
        generator: of the random start, on the images' device; None draws from the global one.
        momentum: None, or the share mu of the previous direction: g <- grad / mean|grad| + mu g, mean per
            image.
        random_start: start uniformly in the ball.
        clamp: stay in the box; without, only the random start is brought into it.

    Returns:
        (n, c, h, w) detached, within epsilon of the images and, if clamped, within [0, 1].

    Source:
        Madry et al. 2018 (PGD); Goodfellow et al. 2015 (FGSM); Dong et al. 2018 (MI-FGSM), which divides by
        the L1 norm: with the mean instead, as here, the sign of every step is the same.

    Example:
        Objective x -> sum(x), epsilon 0.1, 1 step of scale 1: 0.5 becomes 0.6 and 0.95 becomes 1.
    """
    images = images.detach()
    if epsilon == 0:
        return images
    lower, upper = images - epsilon, images + epsilon
    if clamp:
        lower, upper = lower.clamp_(min=0.0), upper.clamp_(max=1.0)
    step = step_scale * epsilon / steps
    current = images
    if random_start:
        noise = torch.empty_like(images).uniform_(-epsilon, epsilon, generator=generator)
        current = torch.clamp(images + noise, lower, upper).clamp_(0.0, 1.0)
    previous = torch.zeros_like(images)
    for _ in range(steps):
        current = current.detach().requires_grad_(True)
        with torch.enable_grad():
            (direction,) = torch.autograd.grad(objective(current).sum(), current)
        if momentum is not None:
            scale = direction.abs().mean(dim=(1, 2, 3), keepdim=True)
            # a vanished gradient keeps the old direction instead of becoming NaN
            direction = direction / scale.clamp_min(torch.finfo(scale.dtype).tiny) + momentum * previous
            previous = direction
        current = torch.clamp(current.detach() + step * direction.sign(), lower, upper)
    return current.detach()


def epsilon_at(options: AttackOptions, epoch: int, epochs: int) -> float:
    """Return the radius of an epoch under the attack's schedule.

    constant is epsilon; up is epsilon (e + 1) / E; down is epsilon (1 - e / E); oscillate takes the rule of
    up in even epochs and that of down in odd ones.

    Args:
        epoch: e, from 0.
        epochs: E, the length of the whole schedule.

    Example:
        epsilon 0.4 over 4 epochs: up 0.1, 0.2, 0.3, 0.4; down 0.4, 0.3, 0.2, 0.1; oscillate
        0.1, 0.3, 0.3, 0.1.
    """
    rule = options.schedule
    if rule == "oscillate":
        rule = "down" if epoch % 2 else "up"
    if rule == "up":
        return options.epsilon * (epoch + 1) / epochs
    if rule == "down":
        return options.epsilon * (1 - epoch / epochs)
    if rule != "constant":
        raise InputError(unknown("attack schedule", rule, ("constant", "up", "down", "oscillate")))
    return options.epsilon


def negative_energy(logits: Tensor) -> Tensor:
    """Return -E of (n, classes) logits, (n,): the objective of eba, which makes outliers look like inliers."""
    return -energy(logits)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each row of (n, classes) logits, (n,): the objective of the inlier attack ce."""
    return F.cross_entropy(full_precision(logits), labels, reduction="none")


def inlier_energy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the free energy of (n, classes) logits, (n,): the objective of the inlier attack energy."""
    return energy(logits)


def gaussian_noise(images: Tensor, generator: torch.Generator, shared: bool) -> Tensor:
    """Return standard normal noise of the images' shape; if shared, (1, c, h, w) for the whole batch."""
    shape = (1, *images.shape[1:]) if shared else images.shape
    return torch.randn(shape, generator=generator, device=images.device, dtype=images.dtype)


def sign_noise(images: Tensor, generator: torch.Generator, shared: bool) -> Tensor:
    """Return -1 or +1 at random for every value of every image, also where noise is shared."""
    # sign() would leave a drawn 0 in place
    return torch.where(gaussian_noise(images, generator, False) < 0, -1.0, 1.0)


def add_noise(
    images: Tensor,
    spec: AttackSpec,
    epsilon: float,
    generator: torch.Generator,
    shared: bool,
    clamp: bool = True,
) -> Tensor:
    """Return images plus epsilon times the noise of a spec, detached and, if asked, clamped to [0, 1]."""
    images = images.detach()
    if epsilon == 0:
        return images
    noise: Tensor = spec.load_noise()(images, generator, shared)
    noisy = images + epsilon * noise
    return noisy.clamp_(0.0, 1.0) if clamp else noisy


def perturb_outliers(
    network: nn.Module,
    inliers: Tensor,
    labels: Tensor,
    outliers: Tensor,
    options: AttackOptions,
    generator: torch.Generator,
    *,
    oe_weight: float,
    epsilon: float | None = None,
    shared_noise: bool = False,
    mode: str = "eval",
    clamp: bool = True,
) -> Tensor:
    """Attack outliers as `options.spec` says, so that the network takes them for inliers; inliers are only read.

    In eval mode the rows of a batch do not influence one another, so that each outlier's own objective is ascended.
    In train mode batch norm couples them: attacks with `joint_loss` ascend the loss of the joint batch,
    oe_weight U(f(x_out)) + mean CE of the inliers.

    Args:
        network: maps images to logits; left as it was found.
        inliers: (n, c, h, w), labels: (n,); used by `joint_loss` in train mode only.
        outliers: (m, c, h, w) in [0, 1].
        generator: of random starts and noise, on the outliers' device.
        oe_weight: weight of the outlier term in the loss.
        epsilon: overrides the options' radius (schedules).
        shared_noise: gauss draws one noise image for the whole batch.
        mode: "eval" or "train", see `attack_mode`.
        clamp: keep them in [0, 1], see `ascend`.

    Returns:
        (m, c, h, w) detached and, if clamped, in [0, 1].

    Raises:
        InputError: an unknown attack.

    Source:
        The AOE code. What differs: everything is clamped to [0, 1] (there: random starts alone, clamp=False);
        pgd and mifgsm follow the gradient at the outliers (there: at the inliers); gauss noise is fresh per image
        (there: shared_noise); eba_pgd, signnoise and the random start of eba_pgd are new.

    Example:
        Linear logits f = W x: eba lowers the energy -logsumexp(W x) by stepping along
        +sign(W^T softmax(W x)).
    """
    spec = options.spec
    radius = options.epsilon if epsilon is None else epsilon
    if spec.noise:
        return add_noise(outliers, spec, radius, generator, shared_noise, clamp)
    if not spec.objective or radius == 0:
        return outliers.detach()

    def joint_loss(images: Tensor) -> Tensor:
        logits = network(torch.cat([inliers, images]))
        ce = F.cross_entropy(full_precision(logits[: len(inliers)]), labels)
        return oe_weight * uniformity(logits[len(inliers) :]) + ce

    values = spec.load_objective()
    objective = joint_loss if spec.joint_loss and mode == "train" else lambda images: values(network(images))
    with attack_mode(network, mode):
        return ascend(
            objective,
            outliers,
            radius,
            spec.gradient_steps(options.steps),
            step_scale=spec.step_scale(options.step_scale),
            generator=generator,
            momentum=options.momentum if spec.momentum else None,
            random_start=spec.random_start,
            clamp=clamp,
        )


def perturb_inliers(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    options: InlierAttackOptions,
    generator: torch.Generator,
    *,
    mode: str = "eval",
) -> Tensor:
    """Attack inliers as `options.spec` says.

    Args:
        images: (n, c, h, w) in [0, 1], labels: (n,).
        generator: of the random start, on the images' device.
        mode: "eval" or "train", see `attack_mode`.

    Returns:
        (n, c, h, w) detached, in [0, 1].

    Raises:
        InputError: an unknown attack.
    """
    spec = options.spec
    if not spec.objective:
        return images.detach()
    values = spec.load_objective()
    with attack_mode(network, mode):
        return ascend(
            lambda x: values(network(x), labels),
            images,
            options.epsilon,
            spec.gradient_steps(options.steps),
            step_scale=spec.step_scale(options.step_scale),
            generator=generator,
            random_start=spec.random_start,
        )
