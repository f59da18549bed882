"""The import rules, read from the syntax trees, and that the light start stays light.

A package imports only what stands before it in its list, at any depth of a function and by `import_module` too; no
module imports itself by way of others; each library is imported in its own packages alone. Specs that name a heavy
class as "module:attribute" are data: `test_references_of_specs` follows those.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from trainables.base.registry import resolve_reference

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "ray", "optuna", "mlflow", "matplotlib", "scipy", "sklearn", "pandas")

#: bottom to top
TUNER = (
    *("base", "search", "planning", "analysis", "store", "tracking", "devices", "execution"),
    *("report", "console", "commands", "cli", "__main__"),
)
TRAINABLES = (
    *("base", "options", "functional", "networks"),
    *("data.types", "data.readers", "data.synthetic", "data.download", "data.loading"),
    *("evaluation.metrics", "evaluation.attacks", "evaluation.detectors", "evaluation"),
    *("inference", "training", "methods", "outliers", "packed", "ray", "testing", ""),
)
#: {library: the packages that may import it}
ROOMS = {
    "optuna": {"tuner.search", "tuner.store"},
    "mlflow": {"tuner.tracking"},
    "matplotlib": {"trainables.data.synthetic"},  # glyphs are drawn with its fonts
    "rich": {"tuner.console"},
    "ray": {"tuner.devices", "tuner.execution", "tuner.commands", "trainables.ray"},
}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Return every module a file imports, at whatever depth; `from package import module` counts as the module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: relative import"
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                base = ROOT.joinpath(*name.split("."))
                found.add(name if base.is_dir() or base.with_suffix(".py").is_file() else node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                found.add(str(argument.value))
            else:  # a name made at run time: only what finds specs and studies may do that
                assert dotted(path) in ("trainables.base.modules", "search_spaces"), f"{path}: import_module"
    return found


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(module: str, order: tuple[str, ...]) -> str:
    """Return the entry of `order` that a module of `tuner` or `trainables` belongs to."""
    inside = module.partition(".")[2]
    fitting = [name for name in order if not name or f"{inside}.".startswith(f"{name}.")]
    return max(fitting, key=len)


@pytest.mark.parametrize("path", modules("search_spaces"), ids=relative)
def test_search_spaces_are_pure_data(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | {"search_spaces"}
    assert roots(path) <= allowed


@pytest.mark.parametrize("path", [*modules("tuner"), *modules("trainables")], ids=relative)
def test_a_package_imports_only_what_is_below_it(path: Path) -> None:
    top = relative(path).split("/")[0]
    order = TUNER if top == "tuner" else TRAINABLES
    if relative(path) == "tuner/__init__.py":
        order = ("",)
    place = order.index(package_of(dotted(path), order))
    for name in imports(path):
        if name.split(".")[0] == top:
            assert order.index(package_of(name, order)) <= place, f"{relative(path)} imports {name} above it"


def test_every_folder_has_its_place_in_the_order() -> None:
    folders = {p.name for p in (ROOT / "tuner").iterdir() if p.name[0] not in "_."}
    assert folders == set(TUNER) - {"cli", "__main__"} | {"cli.py"}
    for path in modules("trainables"):
        inside = dotted(path).partition(".")[2]
        assert package_of(dotted(path), TRAINABLES) or inside in ("", "data"), (
            f"{path} has no place in TRAINABLES"
        )


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        dotted(path): imports(path)
        for folder in ("robust_tuner", "tuner", "trainables", "search_spaces")
        for path in modules(folder)
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", modules("robust_tuner"), ids=relative)
def test_the_python_interface_stands_above_everything_and_is_thin(path: Path) -> None:
    """pandas is imported where a table is made; torch is named as a type alone."""
    ours = {"robust_tuner", "tuner", "trainables", "search_spaces"}
    assert roots(path) - set(sys.stdlib_module_names) <= ours | {"pandas", "torch"}


@pytest.mark.parametrize("path", [*modules("tuner"), *modules("search_spaces")], ids=relative)
def test_nothing_imports_the_python_interface(path: Path) -> None:
    assert "robust_tuner" not in roots(path)


@pytest.mark.parametrize("path", modules("trainables"), ids=relative)
def test_trainables_know_nothing_of_the_service(path: Path) -> None:
    assert not roots(path) & {"robust_tuner", "tuner", "search_spaces", "optuna", "mlflow", "tests"}


@pytest.mark.parametrize("path", [*modules("tuner"), *modules("trainables")], ids=relative)
def test_each_library_is_imported_in_its_packages_alone(path: Path) -> None:
    name = dotted(path)
    for library, rooms in ROOMS.items():
        if library in roots(path):
            assert any(f"{name}.".startswith(f"{room}.") for room in rooms), f"{relative(path)}: {library}"
    assert not roots(path) & {"tests", "pytest"}


@pytest.mark.parametrize(
    "path", [p for p in (*modules("tuner"), *modules("trainables")) if p.name == "__init__.py"], ids=relative
)
def test_packages_of_the_service_hold_a_docstring_only(path: Path) -> None:
    """So that importing a light module of a package imports nothing of its heavy ones."""
    body = ast.parse(path.read_text()).body
    exempt = ("trainables", "trainables.options", "trainables.networks", "trainables.packed")
    if dotted(path) not in exempt:
        assert len(body) == 1
        assert isinstance(body[0], ast.Expr)


def test_references_of_specs_lead_somewhere() -> None:
    """Every "trainables.module:attribute" or "tuner.module:attribute" in the code exists."""
    for path in [*modules("tuner"), *modules("trainables")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                module, found, attribute = node.value.partition(":")
                if found and attribute.isidentifier() and module.split(".")[0] in ("tuner", "trainables"):
                    assert resolve_reference(node.value)


def imported_at_once(path: Path) -> set[str]:
    """Return the modules that a file imports when it is imported itself, with the packages above them."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found | {name.rpartition(".")[0] for name in found}


def test_the_service_names_what_workers_run_and_imports_none_of_it() -> None:
    """So that its driver has no torch; the tasks of workers are named, and the probe is imported where a GPU is."""
    graph = {dotted(path): imported_at_once(path) for top in ("tuner", "trainables") for path in modules(top)}
    heavy = {name for name, imported in graph.items() if any(i.split(".")[0] == "torch" for i in imported)}
    while more := {name for name, imported in graph.items() if imported & heavy} - heavy:
        heavy |= more
    assert {name for name in heavy if name.startswith("tuner.")} == {
        "tuner.devices.ray_probe",
        "tuner.execution.remote_tasks",
    }


@pytest.mark.parametrize("arguments", [["--status"], ["--why", "r", "1"], ["--stop", "r"]])
def test_asking_how_a_run_stands_starts_no_training_library(arguments: list[str], tmp_path: Path) -> None:
    code = (
        f"import sys; from tuner.cli import run\nrun({[*arguments, '--storage', str(tmp_path)]!r})\n"
        "print('HEAVY', [m for m in ('torch', 'ray', 'mlflow', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stdout + done.stderr


def test_options_and_catalogue_need_no_torch() -> None:
    for folder in ("trainables/options", "trainables/data/types"):
        for path in modules(folder):
            assert not roots(path) & set(HEAVY), path


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
