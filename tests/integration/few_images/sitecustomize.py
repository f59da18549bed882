"""Has studies measure the first images of each set alone: attacks on all of them are most of a small launch's time.

Python imports this module at the start of every process whose PYTHONPATH names this folder. Nothing else differs from a
user's launch.
"""

import importlib.machinery
import os
import sys
from dataclasses import replace
from importlib.abc import MetaPathFinder

IMAGES = int(os.environ["FEW_IMAGES"])


class AfterImport(MetaPathFinder):
    """Wraps `search_spaces.get` once that package has been imported."""

    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == "search_spaces" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            get = module.get
            module.get = lambda name: with_few_images(get(name))

        spec.loader.exec_module = exec_module
        return spec


def with_few_images(part):
    """Return a study or a profile of one whose protocols measure at most IMAGES images of a set."""
    few = {"max_images": IMAGES}
    changed = replace(part, validation={**part.validation, **few}, protocol={**part.protocol, **few})
    profiles = getattr(part, "profiles", ())
    return replace(changed, profiles=tuple(map(with_few_images, profiles))) if profiles else changed


sys.meta_path.insert(0, AfterImport())
