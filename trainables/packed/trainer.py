"""Optimiser, schedule, clipping and weight average of K replicas: every setting is a column, one entry per replica."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainables.packed.network import StackedNetwork
from trainables.training.method import Trainer, schedule_factor

ADAM_EPS, BETA2 = 1e-8, 0.999  # torch's defaults, which `make_optimizer` leaves


class StackedTrainer:
    """Adam or SGD with Nesterov momentum, schedule, clipping and weight average of K replicas for one epoch.

    Ages may differ: the schedule and Adam's bias corrections follow each replica's own count of steps. What depends on
    the step alone is computed beforehand, in double precision as torch does, so that no step waits for the device.

    Args:
        network: with the stacked weights, updated in place.
        trainers: of the methods, all with the same kind of optimiser, and all with a weight average or none.
        steps: so many steps will be taken before `finish`.
    """

    def __init__(self, network: StackedNetwork, trainers: Sequence[Trainer], steps: int) -> None:
        self.network, self.trainers, self.steps = network, tuple(trainers), steps
        self.count = len(self.trainers)
        self.options = [trainer.options for trainer in self.trainers]
        self.leaves = list(network.parameters.values())
        self.rows = [leaf.detach().view(self.count, -1) for leaf in self.leaves]
        self.taken = 0
        self.sums: dict[str, Tensor] = {}
        self._states = self._stack_states()
        self._averages = self._stack_averages()
        self._prepare()

    @property
    def adam(self) -> bool:
        return self.options[0].optimizer == "adam"

    # -- numbers ---------------------------------------------------------------------------------------

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).to(self.rows[0]).view(-1, 1)

    def _table(self, rows: list[list[float]]) -> Tensor:
        """Return (steps, K, 1) from a row per step."""
        return torch.tensor(rows, dtype=torch.float64).to(self.rows[0]).unsqueeze(-1)

    def _prepare(self) -> None:
        options, ages = self.options, [trainer.steps for trainer in self.trainers]
        self.decay = self._column([o.weight_decay for o in options])
        self.decays = any(o.weight_decay for o in options)
        self.momentum = self._column([o.momentum for o in options])
        self.rest = self._column([1 - o.momentum for o in options])
        self.clip = self._column([o.grad_clip for o in options])
        self.clips = any(o.grad_clip for o in options)
        rates, roots, means = [], [], []
        for step in range(self.steps):
            counts = [age + step + 1 for age in ages]
            rate = self._rates(step)
            if self.adam:
                rate = [r / (1 - o.momentum**n) for r, o, n in zip(rate, options, counts, strict=True)]
            rates.append([-r for r in rate])
            roots.append([(1 - BETA2**n) ** 0.5 for n in counts])
            means.append([1 - min(o.ema, (1 + n) / (10 + n)) for o, n in zip(options, counts, strict=True)])
        self.rates, self.roots, self.means = self._table(rates), self._table(roots), self._table(means)

    def _rates(self, step: int) -> list[float]:
        """Return every replica's learning rate in the step that follows `step` of this epoch."""
        return [
            t.options.lr * schedule_factor(t.options, t.steps + step, t.steps_per_epoch)
            for t in self.trainers
        ]

    # -- state in ---------------------------------------------------------------------------------------

    def _stack_states(self) -> dict[str, list[Tensor]]:
        names = ("exp_avg", "exp_avg_sq") if self.adam else ("momentum_buffer",)
        states: dict[str, list[Tensor]] = {}
        for name in names:
            states[name] = [torch.zeros_like(row) for row in self.rows]
            for k, trainer in enumerate(self.trainers):
                for stacked, parameter in zip(states[name], trainer.trainable, strict=True):
                    own = trainer.optimizer.state.get(parameter, {}).get(name)
                    if own is not None:  # none before the first step
                        stacked[k] = own.flatten()
        return states

    def _stack_averages(self) -> list[Tensor]:
        if self.trainers[0].average is None:
            return []
        each = [list(t.average.parameters()) for t in self.trainers if t.average is not None]
        return [torch.stack([p.detach().flatten() for p in same]) for same in zip(*each, strict=True)]

    # -- a step -----------------------------------------------------------------------------------------

    def step(self, losses: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Take one step down each replica's own loss.

        Args:
            losses: (K,) with a graph to the stacked weights.
            terms: {name: (K,)} for the epoch's means.
        """
        # a replica's loss depends on its own row only, so the sum's gradient is every replica's own
        gradients = [g.view(self.count, -1) for g in torch.autograd.grad(losses.sum(), self.leaves)]
        with torch.no_grad():
            if self.clips:
                gradients = self._clipped(gradients)
            if self.decays:
                pairs = zip(gradients, self.rows, strict=True)
                gradients = [torch.addcmul(g, row, self.decay) for g, row in pairs]
            (self._adam if self.adam else self._sgd)(gradients)
            for average, row in zip(self._averages, self.rows, strict=bool(self._averages)):
                average.lerp_(row, self.means[self.taken])
            for name, values in {"loss": losses, **terms}.items():
                values = values.detach()
                self.sums[name] = self.sums[name] + values if name in self.sums else values.clone()
        self.taken += 1

    def _clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        norms = torch.stack([g.norm(dim=1) for g in gradients]).norm(dim=0).unsqueeze(1)
        scale = torch.where(self.clip > 0, (self.clip / (norms + 1e-6)).clamp(max=1.0), 1.0)
        return [g * scale for g in gradients]

    def _adam(self, gradients: list[Tensor]) -> None:
        rate, root = self.rates[self.taken], self.roots[self.taken]
        states = zip(self._states["exp_avg"], self._states["exp_avg_sq"], strict=True)
        for row, g, (mean, square) in zip(self.rows, gradients, states, strict=True):
            mean.lerp_(g, self.rest)
            square.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            row.addcmul_(mean / square.sqrt().div_(root).add_(ADAM_EPS), rate)

    def _sgd(self, gradients: list[Tensor]) -> None:
        rate = self.rates[self.taken]
        for row, g, velocity in zip(self.rows, gradients, self._states["momentum_buffer"], strict=True):
            velocity.mul_(self.momentum).add_(g)
            row.addcmul_(torch.addcmul(g, velocity, self.momentum), rate)

    # -- state out --------------------------------------------------------------------------------------

    @torch.no_grad()
    def finish(self) -> None:
        """Give every method its weights, optimiser state and sums, as if it had trained alone."""
        sums = {name: values.cpu() for name, values in self.sums.items()}
        last = self._rates(self.taken - 1)
        for k, trainer in enumerate(self.trainers):
            buffers = {name: stacked[k] for name, stacked in self.network.buffers.items()}
            for parameter, row in zip(trainer.trainable, self.rows, strict=True):
                parameter.copy_(row[k].view_as(parameter))
            _copy(buffers, trainer.network)
            if trainer.average is not None:
                for parameter, row in zip(trainer.average.parameters(), self._averages, strict=True):
                    parameter.copy_(row[k].view_as(parameter))
                _copy(buffers, trainer.average)
            self._give_state(k, trainer, last[k])
            trainer.count_packed_steps(self.taken, {name: values[k] for name, values in sums.items()})

    def _give_state(self, k: int, trainer: Trainer, rate: float) -> None:
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        if not self.adam and not trainer.options.momentum:
            return  # torch keeps no velocity then
        for number, parameter in enumerate(trainer.trainable):
            state = trainer.optimizer.state[parameter]
            if self.adam:
                state["step"] = torch.tensor(float(trainer.steps + self.taken))
            for name, stacked in self._states.items():
                state[name] = stacked[number][k].view_as(parameter).clone()


def _copy(buffers: Mapping[str, Tensor], network: torch.nn.Module) -> None:
    own = dict(network.named_buffers())
    for name, value in buffers.items():
        own[name].copy_(value)
