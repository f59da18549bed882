"""The decision boundary in input space: soft margins, the closest boundary point, and how fast it moves.

Everything here works per image, in at least float32, and reads nothing back from the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from trainables.functional.losses import full_precision

#: images (n, c, h, w) -> (n,) margins, positive where the class is right
Margin = Callable[[Tensor], Tensor]
#: current (n, d), start (n, d), margins (n,), gradients (n, d) -> next points (n, d)
Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

SEARCHES = ("sequential", "fab", "fab_onepass")

#: Margins down to here count as lying on the boundary; the search ends slightly on the wrong side.
MARGIN_TOLERANCE = 0.3
#: Coordinates that moved at least this share of the longest move are the active ones of the quality filter.
ACTIVE_SHARE = 0.8
#: Share of the active coordinates whose gradient must oppose the move.
AGREEING_SHARE = 0.9
#: A coordinate with a smaller derivative may stay where it is without costing anything.
FLAT_GRADIENT = 0.1


def soft_margin(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return phi = z_y - (1/b) log sum over j != y of exp(b z_j), a smooth lower bound of the margin.

    phi > 0 implies that the class is right. phi lies at most log(classes - 1) / b below the margin
    z_y - max over j != y of z_j, and does not overflow.

    Args:
        logits: (n, classes), at least two classes.
        labels: (n,).
        temperature: b > 0, in truth an inverse temperature: larger is nearer to the margin.

    Returns:
        (n,) any real number.

    Source:
        Xu et al. 2023, Exploring and Exploiting Decision Boundary Dynamics (DyART), equation 8.

    Example:
        Logits (3, 1, 1), label 0, b = 2: 3 - (1/2) log(2 e^2) = 2 - log(2) / 2.
    """
    logits = full_precision(logits)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return own - torch.logsumexp(temperature * others, dim=1) / temperature


def project_linf(points: Tensor, gradient: Tensor, residual: Tensor) -> Tensor:
    """Return the smallest Linf displacement from points to a hyperplane within the [0, 1] box.

    Coordinate i moves by min(l, room_i) against sign(g_i residual), room_i being its way to the box's face;
    l solves sum_i |g_i| min(l, room_i) = |residual|, a piecewise linear equation that sorting the rooms
    solves exactly. Where the hyperplane misses the box, every coordinate goes as far as it can.

    Args:
        points: (n, d) in [0, 1].
        gradient: (n, d), the normals g.
        residual: (n,) signed value <g, x> - c of the hyperplane's equation at the points.

    Returns:
        (n, d) displacements delta with <g, delta> = -residual where that is possible.

    Example:
        x = (.5, .9), g = (1, -1), residual 1: the first may fall by .5, the second rise by .1, and together
        they reach .6 of 1: delta = (-.5, .1). With residual .3 it is (-.2, .1): the second one is stuck first.
    """
    direction = -gradient.sign() * residual.sign()[:, None]
    room = torch.where(direction > 0, 1 - points, points)
    slope = gradient.abs()
    target = residual.abs()
    room_sorted, order = room.sort(dim=1)
    slope_sorted = slope.gather(1, order)
    spent = (slope_sorted * room_sorted).cumsum(1)  # what the coordinates up to here give once stuck
    free = slope.sum(1, keepdim=True) - slope_sorted.cumsum(1)  # slope of those still free beyond
    reach = spent + room_sorted * free.clamp_min(0)  # (n, d) value reached at l = room_sorted
    # the first breakpoint that reaches the target; before it, `stuck` coordinates have no room left
    stuck = (reach < target[:, None]).sum(1, keepdim=True)
    before = (stuck - 1).clamp_min(0)
    given = torch.where(stuck > 0, spent.gather(1, before), 0.0)
    slope_left = torch.where(stuck > 0, free.gather(1, before), slope.sum(1, keepdim=True))
    tiny = torch.finfo(points.dtype).tiny
    length = (target[:, None] - given) / slope_left.clamp_min(tiny)
    length = torch.where(stuck < points.shape[1], length.clamp_min(0), torch.inf)
    return direction * torch.minimum(room, length)


@dataclass(frozen=True)
class Boundary:
    """The boundary points of a batch.

    Attributes:
        points: (n, c, h, w) in [0, 1]; the image itself where none was found.
        gradients: (n, c, h, w) of the margin at the points.
        margins: (n,) at the points, at most 0 where one was found.
        distances: (n,) Linf, infinite where none was found.
    """

    points: Tensor
    gradients: Tensor
    margins: Tensor
    distances: Tensor

    @property
    def found(self) -> Tensor:
        """(n,) whether the search crossed the boundary."""
        return self.distances.isfinite()

    def select(self, rows: Tensor) -> "Boundary":
        """Return the boundary of some rows (m,)."""
        return Boundary(self.points[rows], self.gradients[rows], self.margins[rows], self.distances[rows])


def closest_boundary(
    margin: Margin,
    images: Tensor,
    *,
    search: str = "sequential",
    steps: int,
    epsilon_init: float,
    mixing: float = 0.1,
    generator: torch.Generator | None = None,
    shared_alpha: bool = False,
) -> Boundary:
    """Search the closest point where the margin is not positive, in Linf within the [0, 1] box.

    Each step linearises the margin at the current point, projects this point and the image onto that
    hyperplane, and goes to a mixture of both projections, slightly overshot. Points with a negative margin are
    candidates. Call it within `attacks.attack_mode`.

    - fab: the image's projection has a share that grows with the current point's own distance to the
      hyperplane, up to `mixing`; both overshoot by 5 %; from a candidate the search goes on at nine tenths of
      the way to it. Two forward passes and one backward to the images for each step.
    - fab_onepass: fab, but what is linearised is the candidate itself, whose margin is computed anyway, and the
      linearisation carried over to nine tenths of the way. One forward and one backward pass for each step and
      for the last point, which comes as near as that of fab.
    - sequential: a candidate is linearised where it is, and the search goes on mostly (80 %) from the image's
      projection, overshot by 1 %: nearly a fresh solution of the linearised problem. One forward and one
      backward pass for each step. On the digits network, 10 steps come as near as 20 of fab, in 40 % of the time.

    Args:
        margin: differentiable; the images are expected to have positive margins.
        images: (n, c, h, w) in [0, 1], n may be 0.
        search: one of `SEARCHES`.
        steps: linearisations, at least 1.
        epsilon_init: half of it is the Linf length of the random start.
        mixing: both kinds of fab only.
        generator: of the start, on the images' device.
        shared_alpha: likewise; the first image's mixture serves all, a quirk of the DyART code.

    Returns:
        The boundary, detached; its distances are upper bounds of the true ones.

    Raises:
        ValueError: an unknown search.

    Source:
        Croce & Hein 2020 (FAB), on the scalar soft margin as in DyART's code; there the mixture is that of the
        first image. The variants sequential and fab_onepass are ours.
    """
    if search not in SEARCHES:
        raise ValueError(f"unknown search {search!r}; known: {', '.join(SEARCHES)}")
    start = images.detach().flatten(1)
    noise = torch.empty_like(start).uniform_(-1, 1, generator=generator)
    length = noise.abs().amax(1, keepdim=True).clamp_min(1e-12)
    current = (start + 0.5 * epsilon_init * noise / length).clamp_(0, 1)
    if search == "fab":
        return _fab(margin, images, start, current, steps, mixing, shared_alpha)
    if search == "sequential":
        return _one_pass(margin, images, start, current, steps, _sequential_step)
    return _one_pass(
        margin, images, start, current, steps + 1, partial(_fab_step, mixing=mixing, shared=shared_alpha)
    )


def _one_pass(
    margin: Margin, images: Tensor, start: Tensor, current: Tensor, passes: int, move_on: Step
) -> Boundary:
    """Visit as many points as passes; each is linearised, is a candidate, and says where the next one lies."""
    best, slope = start, torch.zeros_like(start)
    found_value = torch.full_like(start[:, 0], torch.inf)
    distance = torch.full_like(found_value, torch.inf)
    for step in range(passes):
        value, gradient = _linearise(margin, current, images.shape)
        crossed = value < 0
        length = (current - start).abs().amax(1)
        better = crossed & (length < distance)
        distance = torch.where(better, length, distance)
        found_value = torch.where(better, value, found_value)
        best = torch.where(better[:, None], current, best)
        slope = torch.where(better[:, None], gradient, slope)
        if step == passes - 1:
            break  # the next point would not be looked at
        current = move_on(current, start, value, gradient)
    return Boundary(best.view(images.shape), slope.view(images.shape), found_value, distance)


def _sequential_step(current: Tensor, start: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    move, move_start = _project_both(current, start, value, gradient)
    beyond = (value < 0)[:, None]
    share = torch.where(beyond, 0.8, _mixture(move, move_start, 0.5))
    # a candidate's own projection leads back towards the image: overshooting that would lose the boundary
    further = (1 - share) * (current + torch.where(beyond, 0.95, 1.05) * move) + share * (
        start + torch.where(beyond, 1.01, 1.05) * move_start
    )
    return further.clamp_(0, 1)


def _fab_step(
    current: Tensor, start: Tensor, value: Tensor, gradient: Tensor, mixing: float, shared: bool
) -> Tensor:
    back = torch.where((value < 0)[:, None], -0.1 * (current - start), 0.0)
    value = value + (gradient * back).sum(1)
    return _fab_mixture(current + back, start, value, gradient, mixing, shared)


def _fab_mixture(
    current: Tensor, start: Tensor, value: Tensor, gradient: Tensor, mixing: float, shared: bool
) -> Tensor:
    move, move_start = _project_both(current, start, value, gradient)
    share = _mixture(move, move_start, mixing)
    share = share[:1] if shared else share
    further = (1 - share) * (current + 1.05 * move) + share * (start + 1.05 * move_start)
    return further.clamp_(0, 1)


def _fab(
    margin: Margin, images: Tensor, start: Tensor, current: Tensor, steps: int, mixing: float, shared: bool
) -> Boundary:
    best = start
    distance = torch.full_like(start[:, 0], torch.inf)
    for _ in range(steps):
        value, gradient = _linearise(margin, current, images.shape)
        current = _fab_mixture(current, start, value, gradient, mixing, shared)
        with torch.no_grad():
            crossed = margin(current.view(images.shape)) < 0
        length = (current - start).abs().amax(1)
        better = crossed & (length < distance)
        best = torch.where(better[:, None], current, best)
        distance = torch.where(better, length, distance)
        current = torch.where(crossed[:, None], start + 0.9 * (current - start), current)
    value, gradient = _linearise(margin, best, images.shape)
    return Boundary(best.view(images.shape), gradient.view(images.shape), value, distance)


def _project_both(current: Tensor, start: Tensor, value: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the displacements of the current point and of the image onto one hyperplane, in one call."""
    residual = torch.cat([value, value + (gradient * (start - current)).sum(1)])
    move, move_start = project_linf(torch.cat([current, start]), gradient.repeat(2, 1), residual).chunk(2)
    return move, move_start


def _linearise(margin: Margin, points: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return the margins (n,) and their gradients (n, d) at points (n, d)."""
    points = points.detach().requires_grad_(True)
    with torch.enable_grad():
        value = margin(points.view(shape))
        (gradient,) = torch.autograd.grad(value.sum(), points)
    return value.detach(), gradient


def _mixture(move: Tensor, move_start: Tensor, largest: float) -> Tensor:
    """Return (n, 1) shares of the step that starts at the image."""
    near, far = move.abs().amax(1, keepdim=True), move_start.abs().amax(1, keepdim=True)
    return (near / (near + far).clamp_min(1e-12)).clamp_max(largest)


def quality_filter(images: Tensor, boundary: Boundary) -> Tensor:
    """Return (n,) which boundary points pass for closest ones, by an approximate optimality test.

    At the closest point in Linf, every coordinate whose derivative is not 0 has moved equally far against it
    (or is stuck at the box). Kept are points with phi > -0.3 of whose longest moves (over .8 of the longest)
    more than 90 % go against the gradient, and some of whose other coordinates are flat (derivative at most .1).

    Args:
        images: (n, c, h, w), where the search started.

    Source:
        DyART's code. What differs: a point all of whose coordinates moved equally far has no other
        coordinates, and passes the last test instead of failing it.
    """
    delta, gradient = (boundary.points - images).flatten(1), boundary.gradients.flatten(1)
    active = delta.abs() > ACTIVE_SHARE * delta.abs().amax(1, keepdim=True)
    agreeing = (active & (delta * gradient < -1e-7)).sum(1)
    flat = (~active & (gradient.abs() <= FLAT_GRADIENT)).any(1) | active.all(1)
    optimal = (agreeing > AGREEING_SHARE * active.sum(1)) & flat
    return boundary.found & (boundary.margins > -MARGIN_TOLERANCE) & optimal


def margin_weights(boundary: Boundary, alpha: float, r0: float) -> Tensor:
    """Return w = exp(-alpha R) 1[R < r0] / ||grad phi(x^)||_1, the slope of the cost times that of the margin.

    Args:
        alpha: of the cost h with h'(R) = -exp(-alpha R).
        r0: margins from here on weigh 0, as do points that were not found.

    Returns:
        (n,) at least 0, finite.

    Source:
        Xu et al. 2023 (DyART), equations 7 and 10; the L1 norm is the dual of Linf.

    Example:
        R = .1, alpha = 5, gradient (2, -3), r0 = .4: exp(-.5) / 5.
    """
    norm = boundary.gradients.flatten(1).abs().sum(1)
    weights = torch.exp(-alpha * boundary.distances) / norm.clamp_min(1e-12)
    return torch.where((boundary.distances < r0) & (norm > 0), weights, 0.0)


def margin_surrogate(margins: Tensor, weights: Tensor, count: int) -> Tensor:
    """Return -(1/count) sum of w_i phi(x^_i), whose gradient is that of the mean cost of the margins R_i.

    The value itself is near 0, as phi(x^) is: watch the distances instead.

    Args:
        margins: (m,) phi at the boundary points, differentiable in the parameters; m may be 0.
        weights: (m,) detached.
        count: size of the whole batch, not of the boundary set.

    Source:
        Xu et al. 2023 (DyART), equation 9: d R / d theta = d phi(x^) / d theta / ||grad_x phi(x^)||_1, which
        needs no derivative of x^.

    Example:
        phi = <w, x> + c: with alpha = 0 the gradient in w is that of -phi(x) / ||w||_1 at the image x.
    """
    return -(weights.detach() * margins).sum() / count


def relative_speed(
    network: nn.Module,
    labels: Tensor,
    boundary: Boundary,
    temperature: float,
    direction: Sequence[Tensor],
) -> Tensor:
    """Return s = <grad_theta phi(x^), v> / ||grad_x phi(x^)||_1: how fast each margin R grows along an update.

    Negative means that the update moves the boundary towards the image.

    Args:
        network: run as it is (eval mode).
        labels: (n,).
        boundary: of the same n images, for the same temperature.
        direction: v, one tensor for each of `network.parameters()`.

    Returns:
        (n,) in pixel units for each unit of v; only those of points that were found mean anything.

    Source:
        Xu et al. 2023 (DyART), section 3. The exact derivative, where a finite difference would cancel.
    """
    values = {name: parameter.detach().requires_grad_(True) for name, parameter in network.named_parameters()}
    with torch.enable_grad():
        logits = torch.func.functional_call(network, values, (boundary.points,))
        margins = soft_margin(logits, labels, temperature)
        # a gradient that is linear in its weights: differentiating it by them gives every image's product with v
        ones = torch.ones_like(margins, requires_grad=True)
        gradients = torch.autograd.grad(
            margins, list(values.values()), ones, create_graph=True, allow_unused=True, materialize_grads=True
        )
        along = torch.stack([(g * v).sum() for g, v in zip(gradients, direction, strict=True)]).sum()
        (change,) = torch.autograd.grad(along, ones)
    speed: Tensor = change / boundary.gradients.flatten(1).abs().sum(1).clamp_min(1e-12)
    return speed
