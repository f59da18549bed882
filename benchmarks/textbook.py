"""Training steps as a tutorial or a paper's code writes them, in float32: the peers of `benchmarks/steps.py`.

One call is one step on a batch that is there already. The attacks read their loss back in every step, as such loops
do to print it. `backward` says how an attack differentiates: False asks for the gradient of the images alone
(torch.autograd.grad, as the codes of AOE and DyART do), True calls loss.backward(), which computes all weight
gradients too and throws them away.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Textbook:
    """A network with its optimiser, and the radius and number of steps of its attack."""

    network: nn.Module
    epsilon: float
    steps: int
    backward: bool = False
    lr: float = 1e-3

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=self.lr, momentum=0.9, nesterov=True)

    def _update(self, loss: Tensor) -> float:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _gradient(self, loss: Tensor, x: Tensor) -> Tensor:
        if not self.backward:
            return torch.autograd.grad(loss, x)[0]
        self.network.zero_grad()
        loss.backward()
        assert x.grad is not None
        return x.grad

    def standard(self, x: Tensor, y: Tensor, _: Tensor) -> float:
        self.network.train()
        return self._update(F.cross_entropy(self.network(x), y))

    # -- outlier exposure: inliers and outliers go through the attack together, batch norm sees both ---------

    def _exposure(self, x: Tensor, y: Tensor, outliers: Tensor) -> Tensor:
        logits = self.network(torch.cat([x, outliers]))
        z = logits[len(x) :]
        uniform = -(z.mean(1) - torch.logsumexp(z, dim=1)).mean()
        return F.cross_entropy(logits[: len(x)], y) + 0.5 * uniform

    def oe(self, x: Tensor, y: Tensor, outliers: Tensor) -> float:
        self.network.train()
        return self._update(self._exposure(x, y, outliers))

    def aoe_fgsm(self, x: Tensor, y: Tensor, outliers: Tensor) -> float:
        self.network.train()
        attacked = outliers.clone().requires_grad_(True)
        gradient = self._gradient(self._exposure(x, y, attacked), attacked)
        attacked = (outliers + self.epsilon * gradient.sign()).clamp(0, 1)
        return self._update(self._exposure(x, y, attacked.detach()))

    def aoe_pgd(self, x: Tensor, y: Tensor, outliers: Tensor) -> float:
        self.network.train()
        attacked = outliers + torch.empty_like(outliers).uniform_(-self.epsilon, self.epsilon)
        attacked = attacked.clamp(0, 1)
        for _ in range(self.steps):
            attacked = attacked.detach().requires_grad_(True)
            loss = self._exposure(x, y, attacked)
            attacked = self._ascended(attacked, self._gradient(loss, attacked), outliers)
            loss.item()
        return self._update(self._exposure(x, y, attacked))

    # -- adversarial training ----------------------------------------------------------------------------------

    def _ascended(self, x: Tensor, gradient: Tensor, centre: Tensor) -> Tensor:
        x = x.detach() + 2.5 * self.epsilon / self.steps * gradient.sign()
        x = torch.min(torch.max(x, centre - self.epsilon), centre + self.epsilon)
        return x.clamp(0, 1).detach()

    def _pgd(self, x: Tensor, y: Tensor) -> Tensor:
        self.network.eval()
        attacked = (x + torch.empty_like(x).uniform_(-self.epsilon, self.epsilon)).clamp(0, 1)
        for _ in range(self.steps):
            attacked = attacked.detach().requires_grad_(True)
            loss = F.cross_entropy(self.network(attacked), y)
            attacked = self._ascended(attacked, self._gradient(loss, attacked), x)
            loss.item()
        self.network.train()
        return attacked

    def pgd_at(self, x: Tensor, y: Tensor, _: Tensor) -> float:
        attacked = self._pgd(x, y)
        return self._update(F.cross_entropy(self.network(attacked), y))

    def trades(self, x: Tensor, y: Tensor, _: Tensor) -> float:
        self.network.eval()
        clean = F.softmax(self.network(x), dim=1).detach()
        attacked = (x + torch.empty_like(x).uniform_(-self.epsilon, self.epsilon)).clamp(0, 1)
        for _ in range(self.steps):
            attacked = attacked.detach().requires_grad_(True)
            loss = F.kl_div(F.log_softmax(self.network(attacked), dim=1), clean, reduction="sum")
            attacked = self._ascended(attacked, self._gradient(loss, attacked), x)
            loss.item()
        self.network.train()
        logits = self.network(x)
        divergence = F.kl_div(
            F.log_softmax(self.network(attacked), dim=1), F.softmax(logits, dim=1), reduction="batchmean"
        )
        return self._update(F.cross_entropy(logits, y) + 6.0 * divergence)

    def mart(self, x: Tensor, y: Tensor, _: Tensor) -> float:
        attacked = self._pgd(x, y)
        logits, logits_adv = self.network(x), self.network(attacked)
        probabilities, clean = F.softmax(logits_adv, dim=1), F.softmax(logits, dim=1)
        top = torch.argsort(probabilities, dim=1)[:, -2:]
        other = torch.where(top[:, -1] == y, top[:, -2], top[:, -1])
        boosted = F.cross_entropy(logits_adv, y) + F.nll_loss(
            torch.log(1.0001 - probabilities + 1e-12), other
        )
        true = torch.gather(clean, 1, y[:, None]).squeeze(1)
        divergence = F.kl_div(torch.log(probabilities + 1e-12), clean, reduction="none").sum(1)
        return self._update(boosted + 6.0 * (divergence * (1.0000001 - true)).mean())

    # -- DyART: FAB with row indices, a label check in every step, all images to the end -------------------------

    def dyart(self, x: Tensor, y: Tensor, _: Tensor) -> float:
        self.network.eval()
        right = (self._margin(x, y) > 0).nonzero().squeeze(1)
        images, labels = x[right], y[right]
        start = images.flatten(1)
        current = (start + 0.015 * torch.empty_like(start).uniform_(-1, 1)).clamp(0, 1)
        best, distance = start.clone(), torch.full((len(start),), 1e10, device=x.device)
        for _ in range(self.steps):
            value, gradient = self._linearised(current.view_as(images), labels)
            move = self._projected(current, gradient, value)
            home = self._projected(start, gradient, value + (gradient * (start - current)).sum(1))
            near, far = move.abs().amax(1, keepdim=True), home.abs().amax(1, keepdim=True)
            share = torch.clamp(near / (near + far).clamp_min(1e-12), max=0.1)
            current = ((1 - share) * (current + 1.05 * move) + share * (start + 1.05 * home)).clamp(0, 1)
            with torch.no_grad():
                crossed = (self._margin(current.view_as(images), labels) < 0).nonzero().squeeze(1)
            if len(crossed):
                length = (current[crossed] - start[crossed]).abs().amax(1)
                better = crossed[length < distance[crossed]]
                distance[better] = (current[better] - start[better]).abs().amax(1)
                best[better] = current[better]
                current[crossed] = start[crossed] + 0.9 * (current[crossed] - start[crossed])
        found = (distance < 1e9).nonzero().squeeze(1)
        points, labels = best[found].view(-1, *x.shape[1:]), labels[found]
        _, gradient = self._linearised(points, labels)
        weights = torch.exp(-5.0 * distance[found]) / gradient.abs().sum(1)
        margins = self._margin(points, labels)
        self.network.train()
        ce = F.cross_entropy(self.network(x), y)
        return self._update(ce - 200.0 * (weights * margins).sum() / len(x))

    def _margin(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.network(x)
        others = logits.scatter(1, y[:, None], -torch.inf)
        return logits.gather(1, y[:, None]).squeeze(1) - torch.logsumexp(5.0 * others, dim=1) / 5.0

    def _linearised(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_(True)
        value = self._margin(x, y)
        return value.detach(), self._gradient(value.sum(), x).flatten(1)

    @staticmethod
    def _projected(points: Tensor, gradient: Tensor, residual: Tensor) -> Tensor:
        """The exact Linf projection, by sorting: the same for all arms."""
        from trainables.functional.boundary import project_linf

        return project_linf(points, gradient, residual)
