"""`--evaluate --set KEY=VALUE`: every field in its own type, by hand; what would change nothing is refused."""

from typing import Any

import pytest

from trainables.base.errors import InputError
from trainables.data.types.radii import Radii, radii_of
from trainables.evaluation.metrics.presets import named
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from tuner.base.errors import UsageError
from tuner.planning.protocol_settings import with_settings


def changed(*texts: str, preset: str = "standard") -> EvaluationProtocol:
    return with_settings(named(preset, radii_of("digits")), texts)


def test_radii_of_the_command_line_stand_alone() -> None:
    """Protocol `full` also measures a quarter and a half of a data set's first radius."""
    full = with_settings(named("full", Radii((0.1, 0.2), (0.1, 0.2))), (), (0.1, 0.2))
    assert full.ood_epsilons == full.robust_epsilons == (0.1, 0.2)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("robust_epsilons=4/255,8/255", "robust_epsilons", (4 / 255, 8 / 255)),
        ("ood_epsilons=0.05", "ood_epsilons", (0.05,)),
        ("steps= 50", "steps", 50),
        ("margin=false", "margin", False),
        ("score=energy", "score", "energy"),
        ("detectors=knn, vim", "detectors", ("knn", "vim")),
        ("scores=none", "scores", ()),
        ("max_images=0", "max_images", 0),
    ],
)
def test_values_by_type(text: str, field: str, value: Any) -> None:
    assert getattr(changed(text), field) == value


def test_all_images_of_autoattack() -> None:
    protocol = changed("auto_attack_images=10000", preset="autoattack")
    assert (protocol.auto_attack_images, protocol.auto_attack_epsilons) == (10000, (0.15, 0.2))
    assert changed("auto_attack_images=5", "auto_attack_epsilons=0.1").auto_attack_images == 5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("attack.epsilon=0.1", "--set attack.epsilon: unknown field of a protocol 'attack.epsilon'; "),
        ("detector=knn", "--set detector: unknown field of a protocol 'detector'; did you mean detectors?"),
        ("name=mine", "--set name: unknown field of a protocol 'name'; "),
        ("steps=many", "--set steps=many: it must be a whole number"),
        ("ood_epsilons=1/0", "--set ood_epsilons=1/0: it must be numbers such as 0.1 or 8/255"),
        ("margin=yes", "--set margin=yes: it must be true or false"),
        ("steps", "--set 'steps' is not KEY=VALUE, for example --set steps=50"),
        (
            "auto_attack_images=10000",
            "--set auto_attack_images changes nothing: protocol standard measures no auto_attack_epsilons",
        ),
        ("check_images=3", "--set check_images changes nothing: protocol standard measures no check_steps"),
    ],
)
def test_what_is_no_setting_is_refused(text: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        changed(text)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps=0", "steps of the protocol is 0; it must be from 1 to 1000000000"),
        ("robust_epsilons=8", "robust_epsilons of the protocol: 8.0 is not in [0, 1] pixel units"),
        ("detectors=kn", "unknown detector 'kn'; did you mean knn?"),
    ],
)
def test_values_are_checked_as_those_of_a_study(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        changed(text)
    assert str(caught.value).startswith(says)


def test_radii_need_their_group() -> None:
    with pytest.raises(
        UsageError, match=r"^--set robust_epsilons changes nothing: protocol quick measures no group robust$"
    ):
        changed("robust_epsilons=0.1", preset="quick")
    assert changed("robust_epsilons=0.1", "groups=robust", preset="quick").groups == ("robust",)
