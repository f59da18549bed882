"""The import rules: who may import what, read from the syntax trees, and that the light start stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "ray", "optuna", "mlflow", "matplotlib", "scipy", "sklearn", "pandas")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return every module a file imports, at whatever depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules("search_spaces"), ids=relative)
def test_search_spaces_are_pure_data(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"search_spaces"}
    assert roots(path) <= allowed


@pytest.mark.parametrize("path", modules("trainables"), ids=relative)
def test_trainables_know_nothing_of_the_service(path: Path) -> None:
    forbidden = {"tuner", "search_spaces", "optuna", "mlflow", "tests"}
    if relative(path) not in (
        "trainables/ray/trainable.py",
        "trainables/ray/shells.py",
        "trainables/ray/packed_trainable.py",
    ):
        forbidden.add("ray")
    assert not roots(path) & forbidden


@pytest.mark.parametrize("path", modules("tuner"), ids=relative)
def test_each_heavy_library_has_its_room_in_tuner(path: Path) -> None:
    name = path.name
    if name not in ("searcher.py", "rows.py", "stored.py", "samplers.py", "mirror.py"):
        assert "optuna" not in roots(path)
    if name not in ("mlflow_store.py", "model_registry.py", "system_metrics.py", "mlflow_runs.py"):
        assert "mlflow" not in roots(path)
    if name not in (
        "controller.py",
        "bridge.py",
        "watchdog.py",
        "ray_start.py",
        "service.py",
        "submit.py",
        "gpu_copies.py",
    ):
        assert "ray" not in roots(path)
    assert "tests" not in roots(path)


@pytest.mark.parametrize("arguments", [["--status"], ["--why", "r", "1"], ["--stop", "r"]])
def test_asking_how_a_run_stands_starts_no_training_library(arguments: list[str], tmp_path: Path) -> None:
    code = (
        f"import sys; from tuner.cli import run\nrun({[*arguments, '--storage', str(tmp_path)]!r})\n"
        "print('HEAVY', [m for m in ('torch', 'ray', 'mlflow', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stdout + done.stderr


def test_options_and_catalogue_need_no_torch() -> None:
    for folder in ("trainables/options",):
        for path in modules(folder):
            assert not roots(path) & set(HEAVY), path
    for name in ("splits", "catalog"):
        assert not roots(ROOT / f"trainables/data/{name}.py") & set(HEAVY)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--list"], ["--study", "aoe_sigma", "--dry-run"], ["--study", "aoe_sigm"]]
)
def test_light_start_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from tuner.cli import run\n"
        f"try: run({arguments!r})\nexcept SystemExit: pass\n"
        "heavy = [m for m in ('torch', 'ray', 'optuna', 'mlflow', 'matplotlib', 'sklearn') if m in sys.modules]\n"
        "print('HEAVY', heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stdout + done.stderr
