"""The radii that a trial of plain Ray Tune is validated at: its data set's, unless it is told others."""

from pathlib import Path

from tests.unit import disk_formats
from trainables.ray.trial_runner import TrialRunner


class StandardRunner(TrialRunner):
    method_name = "standard"


def test_a_trial_alone_is_validated_at_the_radii_of_its_data(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    config = {"dataset": "imagefolder", "data_dir": str(tmp_path), "epochs": 1}
    for radii, name in (({}, "0.03137"), ({"robust_epsilons": (0.1,)}, "0.1")):
        trial = StandardRunner()
        trial.setup({**config, "validation": {"groups": ("robust",), "steps": 1, **radii}})
        assert [key for key in trial.step() if key.startswith("val/")] == [f"val/accuracy/robust_{name}"]
