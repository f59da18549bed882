"""One spec per sampler: documentation, help text and limits follow from it, and a new one works by registering it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces.domain import Choice, Domain, Float, Int
from search_spaces.study import Objective, Study
from trainables.base.errors import InputError
from trainables.base.registry import resolve_reference
from tuner.base.errors import UsageError
from tuner.base.records import Decision, State, TrialRole
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve
from tuner.search.sampler_specs import SAMPLERS, SamplerSpec, check_sampler
from tuner.search.schedulers import SCHEDULERS
from tuner.store.trial_store import TrialStore

DOCS = Path(__file__).parents[4] / "docs" / "search.md"
SCORE, COST = Objective("val/score"), Objective("val/cost", "minimize")
CALLS = "test:calls"


class CountingSampler(optuna.samplers.RandomSampler):
    """Suggests the share x = (trials shown so far) / 10, and stores that count on the trial."""

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        seen = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        study._storage.set_trial_system_attr(trial._trial_id, CALLS, len(seen))
        return len(seen) / 10


def counting(space: Mapping[str, Any], seed: int) -> optuna.samplers.BaseSampler:
    return CountingSampler(seed=seed)


@pytest.fixture
def throw_away() -> Iterator[SamplerSpec]:
    spec = SamplerSpec(
        name="counting",
        about="counts the trials it is shown",
        use="tests",
        make=f"{__name__}:counting",
        reads_stopped=False,
        one_objective=True,
        draws=1,
        stored_attributes=(CALLS,),
    )
    SAMPLERS.register(spec)
    yield spec
    SAMPLERS.unregister(spec.name)


def store_of(storage: optuna.storages.BaseStorage) -> TrialStore:
    space: dict[str, Domain] = {"x": Float(0.0, 1.0)}
    return TrialStore(storage, "s", "search", TrialRole.SEARCH, space, [SCORE], 0, "counting")


def test_a_registered_sampler_works_from_suggestion_to_restart(throw_away: SamplerSpec) -> None:
    """It does not read stopped trials, so it is shown them as complete: 0, 1, 2 and 3 trials have ended."""
    storage = optuna.storages.InMemoryStorage()
    store = store_of(storage)
    for number, state in enumerate((State.COMPLETE, State.PRUNED, State.COMPLETE)):
        record = store.ask(lambda number, params: {"configuration": dict(params), "seed": number})
        assert record is not None
        assert record.params == {"x": number / 10}
        store.report(number, 1, {"val/score": 0.5}, Decision.DONE, "c")
        store.finish(number, state)
    again = store_of(storage)
    assert again.records() == store.records()
    record = again.ask(lambda number, params: {"configuration": dict(params), "seed": number})
    assert record is not None
    assert record.params == {"x": 0.3}
    stored = [t.system_attrs[CALLS] for t in optuna.load_study(study_name="s", storage=storage).get_trials()]
    assert stored == [0, 1, 2, 3]


def test_a_registered_sampler_can_be_asked_for(throw_away: SamplerSpec) -> None:
    assert resolve(LaunchOptions("aoe_sigma", sampler="counting"), "run").sampler == "counting"
    with pytest.raises(UsageError, match="sampler counting has one objective, not 2"):
        check_sampler("counting", "search", {}, [SCORE, COST])


def test_a_spec_must_say_whether_it_reads_stopped_trials() -> None:
    with pytest.raises(TypeError, match="reads_stopped"):
        SamplerSpec("mine", "about", "use", "module:function")  # type: ignore[call-arg]


def test_an_unknown_sampler_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="unknown sampler 'tpee'; did you mean tpe"):
        TrialStore(optuna.storages.InMemoryStorage(), "s", "search", TrialRole.SEARCH, {}, [SCORE], 0, "tpee")


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_what_a_spec_refuses_is_what_it_says(spec: SamplerSpec) -> None:
    def refuses(space: Mapping[str, Domain], *objectives: Objective) -> bool:
        try:
            check_sampler(spec.name, "search", space, objectives)
        except UsageError:
            return True
        return False

    assert refuses({"a": Choice(("x", "y"))}, SCORE) is spec.numbers_only is ("choices" in spec.limits)
    assert refuses({"a": Int(1, 3)}, SCORE, COST) is spec.one_objective is ("objectives" in spec.limits)
    assert refuses({"a": Float(0.0, 1.0)}, SCORE) is spec.listed_values_only is ("ranges" in spec.limits)
    assert not refuses({"a": Int(1, 3)}, SCORE)


@pytest.mark.parametrize("spec", SAMPLERS, ids=lambda spec: spec.name)
def test_every_sampler_is_one_of_optuna(spec: SamplerSpec) -> None:
    space = {"x": optuna.distributions.IntDistribution(1, 3)}
    assert isinstance(resolve_reference(spec.make)(space, 2**32 - 1), optuna.samplers.BaseSampler)


def section(start: str) -> list[list[str]]:
    """Return the cells of the table in the section of docs/search.md that starts so, without its heading."""
    text = DOCS.read_text().partition(f"\n## {start}")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def named(name: str, default: Any) -> str:
    return f"`{name}` (default)" if name == default else f"`{name}`"


def test_the_documentation_has_every_sampler() -> None:
    rows = [row[:4] for row in section("Samplers")]
    default = Study.__dataclass_fields__["sampler"].default
    assert rows == [[named(s.name, default), s.about, s.use, s.limits] for s in SAMPLERS]


def test_the_documentation_has_every_scheduler() -> None:
    default = Study.__dataclass_fields__["scheduler"].default
    assert section("Schedulers") == [[named(s.name, default), s.stops, s.use] for s in SCHEDULERS]
