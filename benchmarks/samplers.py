"""What a suggestion costs the driver: CPU time per sampler, as the trials grow; the figures of docs/search.md.

Command: OMP_NUM_THREADS=1 python -m benchmarks.samplers
"""

import time

import optuna

from search_spaces.domain import Float
from search_spaces.study import Objective
from tuner.base.records import Decision, State, TrialRole
from tuner.search.sampler_specs import SAMPLERS
from tuner.store.trial_store import TrialStore

AT = (60, 500)  # trials
MOST = {"gp": 60}


def suggestion_ms(sampler: str) -> dict[int, float]:
    """Return {trials: CPU milliseconds of the next suggestion}: 6 real parameters, two thirds stopped early."""
    space = {name: Float(0.0, 1.0) for name in "abcdef"}
    memory = optuna.storages.InMemoryStorage()
    store = TrialStore(memory, "s", "search", TrialRole.SEARCH, space, [Objective("val/score")], 0, sampler)
    found = {}
    for number in range(MOST.get(sampler, max(AT)) + 1):
        started = time.process_time()
        store.ask(lambda number, params: {"configuration": {}, "seed": number})
        if number in AT:
            found[number] = 1000 * (time.process_time() - started)
        store.report(number, 1, {"val/score": store.record(number).params["a"]}, Decision.DONE, "c")
        store.finish(number, State.PRUNED if number % 3 else State.COMPLETE)
    return found


if __name__ == "__main__":
    print(f"optuna {optuna.__version__}")
    for name in SAMPLERS.names:
        if not SAMPLERS[name].grid:  # needs listed values; costs what random does
            times = ", ".join(f"{ms:.1f} ms at {trials} trials" for trials, ms in suggestion_ms(name).items())
            print(f"{name:17} {times}", flush=True)
