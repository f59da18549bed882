"""How far a run is, as values for the live display: counts, the best trial, rate and time left, trials or arms."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from tuner.analysis.metric_text import duration, metric_label, setting_text, value_text
from tuner.analysis.selection import cost_of, reaches
from tuner.analysis.trial_columns import STATE_LABELS, TrialRow, TrialTable, columns_of
from tuner.base.records import State, TrialRecord
from tuner.planning.plan import Plan

if TYPE_CHECKING:
    from tuner.console.live_view import LiveState, LiveTable

CLEAN = "val/accuracy/clean"
ROWS, RUNNING = 8, 6  # best trials and running trials that are shown
FEWEST_FOR_A_RATE, FIRST_RATE_S = 2, 5.0
#: {stage of a launch: the name under which it stands in the strip}
_STRIP = {"start": "prepare", "probe": "prepare", "train": "search", "resume": "search"}
_COUNTED = {"search": "trials ended", "confirm": "trainings ended"}


class RunProgress:
    """Follows the events of a run; knows no screen.

    Args:
        totals: {"search" or "confirm": trials}.
        clock: seconds.

    Attributes:
        reference: the pretrained classifier's validation metrics.
        best: the best complete trial of the search that meets the floors.
        done: {stage: trials that have ended}.
    """

    def __init__(self, plan: Plan, totals: Mapping[str, int], clock: Callable[[], float]) -> None:
        self.plan, self.totals, self._clock = plan, totals, clock
        self.reference: Mapping[str, float] = {}
        self.records: dict[str, TrialRecord] = {}
        self.done: Counter[str] = Counter()
        self.best: TrialRecord | None = None
        self.stage, self.detail = "start", ""
        self._began = clock()
        self._running: set[str] = set()
        self._bar: tuple[int, int, str] | None = None
        self._since, self._before = (
            self._began,
            0,
        )  # of the rate: when counting began, and what had ended by then

    # -- events ----------------------------------------------------------------------------------------

    def load_earlier(self, records: Iterable[TrialRecord]) -> None:
        """Count the trials of the launches before a resume."""
        for record in records:
            self.records[record.key] = record
            if record.state is not State.RUNNING:
                self.done[stage_of(record)] += 1
                self.update_best(record)

    def follow(self, record: TrialRecord) -> None:
        """Take a trial that has started or come further."""
        self.records[record.key] = record
        self._running.add(record.key)
        self._bar = None

    def ended(self, record: TrialRecord) -> bool:
        """Take a trial that has ended; return whether it is the best so far."""
        self.records[record.key] = record
        self._running.discard(record.key)
        self._bar = None
        self.done[stage_of(record)] += 1
        return self.update_best(record)

    def begin(self, stage: str, detail: str) -> None:
        """Take the beginning of a stage."""
        self.stage, self.detail, self._bar = stage, detail, None
        self._since, self._before = self._clock(), self.done[self.lane_stage]

    def count(self, done: int, total: int, what: str) -> None:
        """Take the progress of something that has no trials of its own."""
        if self._bar is None or self._bar[2] != what:
            self._since, self._before = self._clock(), done
        self._bar = (done, total, what)

    def update_best(self, record: TrialRecord) -> bool:
        """Remember a complete search trial that meets the floors and beats the best so far; return whether it did."""
        if record.lane != "search" or record.state is not State.COMPLETE or not self.meets_floors(record):
            return False
        if self.best is not None and self._cost(record) >= self._cost(self.best):
            return False
        self.best = record
        return True

    def meets_floors(self, record: TrialRecord) -> bool:
        """Return False if a floor is missed; one whose reference is not known yet counts as met."""
        for floor in self.plan.floors:
            reference = self.reference.get(floor.metric)
            if floor.below_reference is not None and reference is None:
                continue
            if not reaches(record.judged.get(floor.metric, float("-inf")), floor.bound(reference)):
                return False
        return True

    def _cost(self, record: TrialRecord) -> float:
        return cost_of(record, self.plan.objectives[0])

    # -- in words --------------------------------------------------------------------------------------

    @property
    def lane_stage(self) -> str:
        return "confirm" if self.stage == "confirm" else "search"

    def name_of(self, stage: str) -> str:
        return "training" if self.plan.trains_one and stage == "search" else stage

    def objective_text(self, record: TrialRecord) -> str:
        metric = self.plan.objectives[0].metric
        return f"{metric_label(metric)} {value_text(metric, record.judged.get(metric))}"

    def count_line(self, stage: str) -> str:
        """Return how many trials of a stage have ended, how, and the best so far."""
        counts = Counter(r.state for r in self.records.values() if stage_of(r) == stage)
        parts = [f"{counts[state]} {words}" for state, words in STATE_LABELS.items() if counts[state]]
        best = f"; best {self.objective_text(self.best)} (trial {self.best.number})" if self.best else ""
        ended = f"{self.name_of(stage)}: {self.done[stage]} of {self.totals[stage]} trials ended"
        return f"{ended}: {', '.join(parts)}{best}"

    # -- as the live display shows it --------------------------------------------------------------------

    def state(self, width: int, devices: str = "") -> "LiveState":
        """Return what a screen of so many characters shows."""
        from tuner.console.live_view import LiveState

        done, total, label = self._bar_now()
        plan = self.plan
        return LiveState(
            title=f"{plan.study} on {plan.dataset} · {plan.run_name}",
            elapsed=clock_text(self._clock() - self._began),
            stages=self._stages(),
            label=label,
            done=done,
            total=total,
            pace=self._pace(done, total),
            devices=devices,
            running=self._running_texts(width),
            table=self._arms() if self._arms_are_shown() else self._trials(width),
        )

    def _bar_now(self) -> tuple[int, int, str]:
        if self._bar is not None:
            return self._bar
        stage = _STRIP.get(self.stage, self.stage)
        if stage not in _COUNTED:
            return 0, 0, f"{self.stage}: {self.detail}" if self.detail else self.stage
        label = "trainings ended" if self.plan.trains_one and stage == "search" else _COUNTED[stage]
        return self.done[stage], self.totals[stage], label

    def _stages(self) -> list[tuple[str, str]]:
        names = ["prepare", *self.plan.stages]
        now = _STRIP.get(self.stage, self.stage)
        at = names.index(now) if now in names else 0
        shown = {"search": "train"} if self.plan.trains_one else {}
        return [
            (shown.get(name, name), "done" if i < at else "now" if i == at else "to come")
            for i, name in enumerate(names)
        ]

    def _pace(self, done: int, total: int) -> str:
        """Return the rate of this stage in this launch, and the time left at that rate; "" before both are known."""
        ended, seconds = done - self._before, self._clock() - self._since
        if not total or ended < FEWEST_FOR_A_RATE or seconds < FIRST_RATE_S:
            return ""
        rate = ended / seconds
        left = f" · about {_about((total - done) / rate)} left of this stage" if done < total else ""
        return f"{60 * rate:.3g} per min{left}"

    def _running_texts(self, width: int) -> list[str]:
        known = [self.records[key] for key in sorted(self._running)]
        shown = known[: max(1, min(RUNNING, (width - 20) // 20))]
        texts = [f"{r.key} {r.epochs}/{self.plan.max_epochs}" for r in shown]
        return [*texts, *([f"+{len(known) - len(shown)} more"] if len(known) > len(shown) else [])]

    def _trials(self, width: int) -> "LiveTable":
        """Return the best trials so far, finished or not."""
        from tuner.console.live_view import LiveTable

        table, metric = TrialTable.LIVE, self.plan.objectives[0].metric
        space = self.plan.lanes[0].space
        asked = [name for name in self.plan.effects if name in space]  # what the study is about
        params = list(dict.fromkeys([*asked, *space]))[: max(0, (width - 58) // 17)]
        columns = columns_of(table)
        own = [
            TrialRow(r, self.meets_floors(r))
            for r in self.records.values()
            if r.lane == "search" and r.history and r.state is not State.FAIL
        ]
        own.sort(key=lambda row: (not row.meets_floors, self._cost(row.record), row.record.number))
        rows = []
        for row in own[:ROWS]:
            values = [value_text(name, row.record.judged.get(name)) for name in (metric, CLEAN)]
            settings = [setting_text(row.record.params[p]) if p in row.record.params else "" for p in params]
            rows.append([*(column.cell(row, table) for column in columns), *values, *settings])
        header = [*(column.headings[table] for column in columns), "objective", "val. accuracy", *params]
        words = {column.headings[table] for column in columns if column.words} | set(params)
        return LiveTable(header, rows, frozenset(words), "state")

    def _arms_are_shown(self) -> bool:
        """Return whether fresh seeds are trained, or were before the report is made."""
        begun = any(r.lane == "confirm" for r in self.records.values())
        return self.stage == "confirm" or (self.stage == "report" and begun)

    def _arms(self) -> "LiveTable":
        """Return for each arm how many of its fresh seeds are trained, and the mean of the objective over them."""
        from tuner.console.live_view import LiveTable

        metric, seeds = self.plan.objectives[0].metric, self.plan.confirm_seeds
        trained = {(r.arm, r.seed_index): r for r in self.records.values() if r.lane == "confirm"}
        rows = []
        for name in ("best", *(arm.name for arm in self.plan.arms)):
            own = [r for (arm, _), r in trained.items() if arm == name]
            ended = [r.judged[metric] for r in own if r.state is State.COMPLETE and metric in r.judged]
            failed = sum(r.state is State.FAIL for r in own)
            runs = sum(r.key in self._running for r in own)
            state = "running" if runs else "failed" if failed and len(ended) + failed == seeds else ""
            state = "complete" if len(ended) == seeds else state
            mean = value_text(metric, sum(ended) / len(ended)) if ended else "-"
            rows.append(["winner" if name == "best" else name, state, f"{len(ended)}/{seeds}", mean])
        header = ("configuration", "state", "seeds", "mean objective")
        return LiveTable(header, rows, frozenset({"configuration", "state"}), "state")


def stage_of(record: TrialRecord) -> str:
    return "confirm" if record.lane == "confirm" else "search"


def _about(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 59.5 else duration(seconds)


def clock_text(seconds: float) -> str:
    """Return "04:07", "1:04:07"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
