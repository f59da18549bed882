"""What the authors of a method have set, beside what is set here: `PaperSetting`, and `PaperPreset` for a data set.

Pure data: `tuner.planning.paper_preset` puts a preset over a study, `search_spaces.paper_presets` holds all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.domain import Choice, Setting, SpaceError

NOT_KNOWN = "not known"  #: what `theirs` says of a number that neither paper nor code was found to tell
EPOCHS = "epochs"  #: the field of the schedule's length


@dataclass(frozen=True)
class PaperSetting:
    """One field of a published setting.

    Attributes:
        field: an option ("attack.epsilon"), "epochs", a field of an evaluation ("protocol.steps",
            "validation.steps"), an option of an arm ("trades: beta"), or words for what no option says.
        theirs: the published value as its authors write it.
        ours: the value that the preset sets; a text where `option` is False.
        source: where theirs stands.
        reason: why ours is another; "" where it is the same.
        tuned: what the authors went over; a study searches it, one training takes `ours`.
        option: whether the preset sets it; False for words.
    """

    field: str
    theirs: str
    ours: Any
    source: str
    reason: str = ""
    tuned: Choice | None = None
    option: bool = True

    def __post_init__(self) -> None:
        if not self.option and not self.reason:
            raise SpaceError(f"paper setting {self.field}: what no option says needs a reason")

    @property
    def arm(self) -> str:
        """Return the arm that it is of, "" if it is the study's."""
        return self.field.partition(": ")[0] if self.option and ": " in self.field else ""

    @property
    def key(self) -> str:
        """Return the field without arm or evaluation."""
        name = self.field.rpartition(": ")[2]
        return name.partition(".")[2] if self.evaluation else name

    @property
    def evaluation(self) -> str:
        """Return "protocol" or "validation" for a field of that evaluation, "" for any other."""
        head, dot, _ = self.field.partition(".")
        return head if self.option and dot and head in ("protocol", "validation") else ""

    @property
    def shown(self) -> str:
        """Return our value as tables write it, and what is searched."""
        return shown(self.ours) + (f"; a study searches {self.tuned}" if self.tuned else "")

    @property
    def deviation(self) -> str:
        """Return the difference in one line, "" if there is none."""
        return f"{self.field}: theirs {self.theirs}; here {self.shown}: {self.reason}" if self.reason else ""


@dataclass(frozen=True)
class PaperPreset:
    """The authors' setting of a study's method on one data set.

    Attributes:
        name: as `--preset` says it.
        source: paper and code.
        claim: the study's, of the authors' setting.
        settings: every field that is known, and every known difference.
        arms: {arm of the study that stays: a sentence on it}; others have no published setting, or would be the same
            training twice.
        needs: options that `--set` must give, with what they are.
    """

    study: str
    dataset: str
    source: str
    claim: str
    settings: tuple[PaperSetting, ...]
    arms: Mapping[str, str]
    name: str = "paper"
    needs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fields = [setting.field for setting in self.settings]
        twice = next((name for name in fields if fields.count(name) > 1), None)
        if twice:
            raise SpaceError(f"preset {self.name} of {self.study} on {self.dataset} sets {twice} twice")

    @property
    def epochs(self) -> int:
        """Return the length of the authors' schedule."""
        return int(next(setting.ours for setting in self.settings if setting.field == EPOCHS))

    def space(self, searched: bool) -> dict[str, Setting]:
        """Return {option of the study's method: value}; with `searched` what the authors went over as a choice."""
        return {
            s.key: s.tuned if searched and s.tuned else s.ours
            for s in self.settings
            if s.option and not s.arm and not s.evaluation and s.field != EPOCHS
        }

    def evaluation(self, which: str) -> dict[str, Any]:
        """Return the fields of the evaluation "protocol" or "validation"."""
        return {s.key: s.ours for s in self.settings if s.evaluation == which}

    def overrides(self, arm: str) -> dict[str, Setting]:
        """Return {option: value} of an arm."""
        return {s.key: s.ours for s in self.settings if s.arm == arm}


def same(name: str, value: Any, source: str, theirs: str = "", tuned: Choice | None = None) -> PaperSetting:
    """Return a setting that is the authors'; `theirs` is how they write it, if otherwise."""
    return PaperSetting(name, theirs or shown(value), value, source, tuned=tuned)


def other(name: str, theirs: str, value: Any, source: str, reason: str) -> PaperSetting:
    """Return a setting that is not the authors', and why."""
    return PaperSetting(name, theirs, value, source, reason)


def words(what: str, theirs: str, ours: str, source: str, reason: str) -> PaperSetting:
    """Return a difference that no option of this program can undo."""
    return PaperSetting(what, theirs, ours, source, reason, option=False)


def shown(value: Any) -> str:
    """Return a value as tables write it.

    Example:
        0.5 -> "0.5"; 16/255 -> "16/255"; True -> "true"; (8/255,) -> "8/255"
    """
    if isinstance(value, tuple):
        return ", ".join(map(shown, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        part = value * 255
        exact = part == round(part) and 0 < part < 255 and float(f"{value:.4g}") != value
        return f"{part:.0f}/255" if exact else f"{value:.6g}"
    return str(value)
