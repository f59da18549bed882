"""The GPU suite on a CPU: every section runs with the smallest sizes and leaves its table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def gpu_suite(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=580)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_gpu_suite_measures_every_section_and_its_file_gives_the_tables(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = gpu_suite("--device", "cpu", "--tiny", "--out", str(out))
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    assert content["trouble"] == {}
    rows = content["sections"]
    assert list(rows) == ["limits", "loader", "packed", "shares", "evaluation", "steps", "choice"]
    assert [(row[0], row[1]) for row in rows["packed"] if "stacked" in row[1]] == [
        ("small_cnn", "2, stacked"),
        ("mobilenet_v3_small", "2, stacked"),
    ]
    assert [row[1] for row in rows["shares"]] == ["1", "2"]
    # both sides of every pair attack the same images from the same starts, and one step cannot tell them apart
    assert {row[-1] for row in rows["evaluation"]} == {"0"}
    assert {row[1] for row in rows["steps"]} == {
        "AOE FGSM",
        "AOE PGD-1",
        "PGD-AT-1",
        "TRADES-1",
        "DyART FAB-2",
    }
    assert [row[1].removesuffix(", chosen") for row in rows["choice"]] == [
        "1 copy",
        "2 copies",
        "a pack of 8",
    ]
    assert [row[4][-1:] for row in rows["choice"] if "chosen" in row[1]] == ["%"]
    shown = gpu_suite("--table", str(out)).stdout
    for section, found in rows.items():
        assert f"\n{section}\n" in shown
        assert all(" | ".join(row) in shown for row in found)


def test_without_a_gpu_the_suite_says_what_can_be_done() -> None:
    done = gpu_suite()
    assert done.returncode == 1
    assert done.stderr.strip() == "no GPU here; --device cpu --tiny tries the code paths"
