"""A run as Python values: its trials, winner, arms, answer, report and classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_tuner.errors import UsageError, in_one_line
from trainables.base.errors import unknown
from tuner.base.records import TrialRecord
from tuner.base.text import counted
from tuner.planning.command_line import parse

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from trainables.inference.robust_predictor import Predictor
    from tuner.analysis.results import ArmResult, StudyResult
    from tuner.analysis.verdict import Verdict
    from tuner.commands.run_state import RunSnapshot


@dataclass(frozen=True, repr=False)
class Trial:
    """One trained configuration.

    Attributes:
        key: its name within the run: "0007", "oe-0007" of a tuned baseline, "confirm-0007" of a retrained arm.
        state: COMPLETE, PRUNED, FAIL or RUNNING; `reason` says why it failed or was stopped.
        params: the searched options.
        configuration: every option that was set.
        metrics: validation metrics after the last epoch.
        tests: test metrics, {} if it was not evaluated.
        checkpoint: file of its last epoch, relative to the run folder.
    """

    key: str
    number: int
    state: str
    reason: str
    epochs: int
    seed: int
    method: str
    params: Mapping[str, Any]
    configuration: Mapping[str, Any]
    metrics: Mapping[str, float]
    tests: Mapping[str, float]
    checkpoint: str

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.params.items())
        about = f"trial {self.key}: {self.state} after {counted(self.epochs, 'epoch')}"
        return f"{about} ({settings})" if settings else about


@dataclass(frozen=True, repr=False)
class Run:
    """A run as it was stored when it was read; `refresh` reads it again.

    Attributes:
        name: of the run and of its folder.
        storage: root of the run folders.
        study_storage: the database it was read from, if that was named.
    """

    name: str
    storage: str
    study_storage: str | None
    _snapshot: "RunSnapshot"

    @classmethod
    def read(cls, name: str, storage: str, study_storage: str | None = None) -> "Run":
        """Return a run below a root; see `robust_tuner.load_run`."""
        from tuner.commands.run_state import read_run

        return cls(name, storage, study_storage, read_run(name, storage, study_storage))

    def refresh(self) -> "Run":
        """Return the run as it is now."""
        with in_one_line():
            return self.read(self.name, self.storage, self.study_storage)

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        done = f"{self._snapshot.ended} of {self._snapshot.total} trials"
        return f"run {self.name}: {self.study} on {self.dataset}, {self.state}, {done}"

    # -- what it is ------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Return its folder, a path or a URI."""
        return self._snapshot.folder.uri

    @property
    def study(self) -> str:
        return self._snapshot.plan.study

    @property
    def dataset(self) -> str:
        return self._snapshot.plan.dataset

    @property
    def state(self) -> str:
        """Return running, silent, interrupted, done, failed or restarting, as `--status` does."""
        return self._snapshot.state.value

    @property
    def reason(self) -> str:
        """Return why it has failed, or ""."""
        return self._snapshot.reason

    # -- what came out ---------------------------------------------------------------------------------

    @cached_property
    def _result(self) -> "StudyResult":
        from tuner.commands.stored_result import result_of

        return result_of(self._snapshot)

    def trials(self, *, arms: bool = False) -> "pd.DataFrame":
        """Return the trials of the search, one row each, with the columns of trials.csv.

        Args:
            arms: those of the baselines' searches and of the confirm stage instead, as in arms.csv.
        """
        import pandas as pd

        from tuner.report.csv_tables import arm_rows, trial_rows

        table = (arm_rows if arms else trial_rows)(self._result)
        frame = pd.DataFrame(table.rows, columns=table.columns)
        judged = {"true": True, "false": False}
        frame["feasible"] = frame["feasible"].map(judged.get).astype("boolean")
        return frame

    def history(self) -> "pd.DataFrame":
        """Return every epoch of every trial, one row each: `trial`, `epoch` and the metrics of that epoch."""
        import pandas as pd

        rows = [
            {"trial": record.key, "epoch": epoch, **entry.metrics}
            for record in self._snapshot.records
            for epoch, entry in sorted(record.history.items())
        ]
        return pd.DataFrame(rows, columns=["trial", "epoch"] if not rows else None)

    @property
    def best(self) -> Trial | None:
        """Return the winner: the best complete trial of the search that meets the floors; None if there is none."""
        best = self._snapshot.best
        return None if best is None else self._trial(best)

    def trial(self, key: str | int) -> Trial:
        """Return a trial by its number in the search or by its key, such as "confirm-0001".

        Raises:
            UsageError: there is none.
        """
        return self._trial(self._record(key))

    @property
    def arms(self) -> "dict[str, ArmResult]":
        """Return {name: result} of the confirm stage, the winner as "best" first; {} before it has ended.

        `run.arms["oe"].seed_interval("test/auroc/near")` is a mean with its 95 % interval, `.values` has each seed's.
        """
        return {arm.name: arm for arm in self._result.arms}

    @property
    def answer(self) -> "Verdict":
        """Return the verdict on the study's claim; `print(run.answer)` shows its sentences."""
        from tuner.analysis.verdict import verdict

        return verdict(self._result)

    @property
    def report(self) -> Path | None:
        """Return the file of the HTML report; None before it was written. Of a remote run, this machine's copy."""
        file = self._snapshot.folder.local / "report.html"
        return file if file.is_file() else None

    def model(self, trial: str | int | None = None) -> "nn.Module":
        """Return the classifier of the winner, or of another trial, on the CPU and in eval mode.

        It takes images (n, c, h, w) in [0, 1] and returns logits (n, classes); it normalises them itself.

        Raises:
            UsageError: there is no such trial, or it has no checkpoint that can be read.
        """
        from tuner.commands.stored_model import classifier_of_trial

        with in_one_line():
            record = self._snapshot.best if trial is None else self._record(trial)
            if record is None:
                raise UsageError(f"run {self.name} has no winner yet; name a trial")
            return classifier_of_trial(self._snapshot.folder, record)

    def predictor(self, trial: str | int | None = None) -> "Predictor":
        """Return the winner, or another trial, as a model for pictures of any size.

        `predict(pictures)` gives class, probability, outlier score and whether it is above the threshold that accepts
        95 % of the validation images; see docs/using_the_winner.md.

        Raises:
            UsageError: as `model`, or the data set, whose validation images set the threshold, is not there.
        """
        from tuner.commands.export import predictor

        with in_one_line():
            return predictor(parse(self._export_words(trial)))

    def export(
        self,
        output: str | Path | None = None,
        *,
        formats: str | Sequence[str] = "pytorch",
        trial: str | int | None = None,
    ) -> Path:
        """Write `predictor` as files that need no part of this program and return their folder, as `--export` does.

        Args:
            output: folder; default exports/RUN-TRIAL.
            formats: of pytorch, torchscript and onnx.

        Raises:
            UsageError: as `predictor`, or a format that cannot be written.
        """
        from tuner.commands.export import write

        listed = formats if isinstance(formats, str) else ",".join(formats)
        words = ["--format", listed, *([] if output is None else ["--output", str(output)])]
        with in_one_line():
            return write(parse([*self._export_words(trial), *words]))[0]

    def _export_words(self, trial: str | int | None) -> list[str]:
        which = self.name if trial is None else f"{self.name}/{self._record(trial).key}"
        stored = [] if self.study_storage is None else ["--study-storage", self.study_storage]
        return ["--export", which, "--storage", self.storage, *stored]

    # -- trials ----------------------------------------------------------------------------------------

    def _record(self, key: str | int) -> TrialRecord:
        known = {record.label: record for record in self._snapshot.records}
        known |= {record.key: record for record in self._snapshot.records}
        if str(key) not in known:
            raise UsageError(
                f"run {self.name}: {unknown('trial', str(key), (r.key for r in self._snapshot.records))}"
            )
        return known[str(key)]

    def _trial(self, record: TrialRecord) -> Trial:
        return Trial(
            key=record.key,
            number=record.number,
            state=record.state.value,
            reason=record.reason,
            epochs=record.epochs,
            seed=record.seed,
            method=record.method,
            params=record.params,
            configuration=record.configuration,
            metrics=record.judged,
            tests=self._snapshot.tests.get(record.key, {}),
            checkpoint=record.checkpoint,
        )
