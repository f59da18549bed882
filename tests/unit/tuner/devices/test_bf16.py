"""bfloat16 on a processor that has to emulate it is said before the first step."""

from pathlib import Path

import pytest

from tuner.devices.bf16 import multiplies_bf16, slow_bf16
from tuner.devices.resources import Resources
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve

WITH = "processor\t: 0\nflags\t\t: fpu sse2 avx512f avx512_bf16\nprocessor\t: 1\nflags\t\t: fpu\n"
WITHOUT = "processor\t: 0\nmodel name\t: some bf16\nflags\t\t: fpu sse2 avx512f\nbugs\t\t: bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(WITH, True), (WITHOUT, False), (ARM, True), ("processor\t: 0\n", None), (None, None)],
)
def test_the_processors_own_flags_decide(text: str | None, expected: bool | None, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    if text is not None:
        info.write_text(text)
    assert multiplies_bf16(info) is expected


@pytest.mark.parametrize(
    ("setting", "gpus", "text", "said"),
    [
        ("precision=bf16", 0.0, WITHOUT, True),
        ("precision=choice(float32, bf16)", 0.0, WITHOUT, True),
        ("precision=bf16", 0.25, WITHOUT, False),
        ("precision=bf16", 0.0, WITH, False),
        ("precision=float32", 0.0, WITHOUT, False),
    ],
)
def test_what_is_said(setting: str, gpus: float, text: str, said: bool, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(text)
    plan = resolve(LaunchOptions(study="aoe_sigma", settings=(setting,)), "run")
    line = slow_bf16(plan, Resources(1, gpus, 2), info)
    assert bool(line) is said
    assert line.startswith("precision=bf16 on a CPU without avx512_bf16 or amx_bf16") is said
