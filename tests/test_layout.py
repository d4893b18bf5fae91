"""The rules of the house: who may import whom, what is at the top, that lists agree."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.mutations import MUTATIONS, check_table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lib" / "scorematrix"

# room: the rooms it may import. Arrows point one way. Wings may be left out: no room imports them.
ALLOWED = {
    "checksum": set(),
    "notebook_kernels": set(),
    "privacy": set(),
    "accelerator": {"readiness", "results"},
    "bundle": {"results"},
    "text_files": set(),
    "workload": {"checksum", "models", "text_files"},  # models: for the type of an open GGUF file only
    "models": {"workload"},
    "scoring": {"models", "privacy", "wings", "workload"},
    "results": {"checksum", "text_files", "wings", "workload"},
    "readiness": {"text_files", "privacy", "results", "scoring", "wings"},
    "measure": {"privacy", "results", "scoring", "workload"},
    "notebooks": {"notebook_kernels", "privacy"},
    "matrix": {
        "text_files",
        "notebook_kernels",
        "measure",
        "models",
        "notebooks",
        "privacy",
        "readiness",
        "results",
        "scoring",
        "checksum",
        "wings",
        "workload",
    },
    "compare": {"results", "workload"},
    "analysis": {"compare", "results", "wings", "workload"},
    "plots": {"analysis"},
    "audit": {"compare", "models", "results", "scoring", "workload"},
    "report": {"analysis", "compare", "notebooks", "results", "wings"},
    "servers": {
        "analysis",
        "audit",
        "checksum",
        "cli",
        "compare",
        "matrix",
        "measure",
        "models",
        "privacy",
        "readiness",
        "report",
        "results",
        "scoring",
        "workload",
    },
    "cluster": {"matrix", "measure", "privacy", "readiness", "results", "scoring"},
    "explore": {"analysis", "models", "plots", "report", "results", "scoring", "workload"},
    "cli": {
        "accelerator",
        "audit",
        "bundle",
        "compare",
        "matrix",
        "measure",
        "models",
        "notebooks",
        "privacy",
        "readiness",
        "report",
        "results",
        "scoring",
        "wings",
        "workload",
    },
    "wings": set(),
    "__main__": {"cli"},
    "__init__": {"analysis", "scoring", "workload"},
}
FRAMEWORKS = {"jax": {"jax", "jaxlib"}, "pytorch": {"torch"}, "transformers": {"torch", "transformers"}}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def test_imports_point_one_way() -> None:
    for path in PACKAGE.rglob("*.py"):
        rooms = {name.split(".")[1] for name in imports(path) if name.startswith("scorematrix.")}
        surplus = rooms - ALLOWED[room(path)] - {room(path)}
        assert not surplus, f"{path.relative_to(ROOT)} imports {surplus}"


def test_only_the_engines_import_frameworks() -> None:
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).parts
        allowed = FRAMEWORKS[parts[1]] if parts[0] == "scoring" and parts[1] in FRAMEWORKS else set()
        used = {name.split(".")[0] for name in imports(path)} & {"jax", "jaxlib", "torch", "transformers"}
        assert used <= allowed, f"{path.relative_to(ROOT)} imports {used - allowed}"


def test_only_the_cluster_room_imports_ray() -> None:
    for path in PACKAGE.rglob("*.py"):
        if room(path) != "cluster":
            assert "ray" not in {name.split(".")[0] for name in imports(path)}, path.relative_to(ROOT)


def test_engines_do_not_know_each_other() -> None:
    for one, other in (("jax", "pytorch"), ("pytorch", "jax")):
        for path in (PACKAGE / "scoring" / one).glob("*.py"):
            assert not any(name.startswith(f"scorematrix.scoring.{other}") for name in imports(path))


@pytest.mark.parametrize(
    "code",
    [
        "import scorematrix, scorematrix.compare, scorematrix.servers.load, scorematrix.matrix, scorematrix.measure\n"
        "import scorematrix.models, scorematrix.notebooks, scorematrix.readiness, scorematrix.report\n"
        "import scorematrix.results, scorematrix.scoring.registry, scorematrix.workload",
        "import sys; sys.argv = ['scorematrix', '--help']\nimport scorematrix.cli\n"
        "try: scorematrix.cli.main()\nexcept SystemExit: pass",
        "from tests.factory import make_run; from scorematrix.compare import compare_run; compare_run(*make_run())",
    ],
)
def test_no_framework_is_loaded(code: str) -> None:
    check = (
        "\nimport sys; loaded = {'jax', 'torch', 'transformers', 'ray'} & sys.modules.keys(); assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code + check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_round_does_not_wait_for_the_report() -> None:
    """Each round is a fresh kernel, and importing pandas and seaborn takes longer than many a round's calls."""
    source = "".join(json.loads((ROOT / "notebooks" / "02_score_matrix.ipynb").read_text())["cells"][2]["source"])
    code = "\n".join(line for line in source.splitlines() if line.startswith("from scorematrix"))
    check = "\nimport sys; loaded = {'pandas', 'matplotlib', 'seaborn'} & sys.modules.keys(); assert not loaded, loaded"
    done = subprocess.run([sys.executable, "-c", code + check], cwd=ROOT, capture_output=True, text=True)
    assert code.count("import") >= 3 and done.returncode == 0, done.stderr


def test_top_level_is_as_designed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("no git checkout to list")
    assert {name.split("/")[0] for name in tracked} == {
        ".ci", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile",
        "README.md", "environment.yml", "lib", "notebooks", "outputs", "params", "pyproject.toml", "tests",
    }  # fmt: skip


def test_files_stay_small() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path
        assert path.stem not in ("utils", "common", "helpers", "misc")


def pins() -> dict[str, str]:
    lines = (ROOT / "lib" / "constraints.txt").read_text().splitlines()
    return dict(normal(line.split("#")[0]).split("==") for line in lines if "==" in line)


def normal(name: str) -> str:
    return re.sub(r"\[.*?\]", "", name).strip().lower().replace("_", "-")


def declared() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    entries = [*project["dependencies"], *extras["cpu"], *extras["servers"], *extras["dev"]]
    return {normal(re.match(r"[\w-]+", entry).group()): entry for entry in entries}


def test_pins_lie_in_the_ranges() -> None:
    from packaging.requirements import Requirement

    for name, entry in declared().items():
        assert Requirement(entry).specifier.contains(pins()[name]), f"{entry} against pin {pins()[name]}"


def test_environment_yml_agrees_and_says_what_for() -> None:
    text = (ROOT / "environment.yml").read_text()
    pip = next(part["pip"] for part in yaml.safe_load(text)["dependencies"] if isinstance(part, dict))
    listed = dict(normal(line).split("==") for line in pip if "==" in line)
    assert listed == {name: pins()[name] for name in declared()}
    for line in text.splitlines():
        assert "==" not in line or "  # " in line, f"{line} lacks a word on its use"


def test_installed_versions_are_the_pins() -> None:
    from importlib.metadata import distributions

    installed = {normal(one.metadata["Name"]): one.version for one in distributions()}
    different = {
        name: installed.get(name) for name in declared() if installed.get(name, "").split("+")[0] != pins()[name]
    }
    if different:
        pytest.skip(f"this environment was not made by make setup: {different}")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_thin_and_clean(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert sum(cell["cell_type"] == "code" for cell in cells) <= 25
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    for cell in cells:
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 15
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
            # The example of a scorer is the one function.
            assert [n.name for n in nodes] == (["overlap"] if "def overlap" in source else [])


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_what_notebooks_import_is_there(path: Path) -> None:
    sources = ("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code")
    lines = [ast.unparse(node) for source in sources for node in ast.parse(source).body if is_import(node)]
    assert lines
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_the_version_has_one_source() -> None:
    from importlib.metadata import version

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in pyproject["project"] and pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "scorematrix.__version__"}
    assigned = [
        node.value
        for node in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__version__"]
    ]
    assert len(assigned) == 1, "setuptools reads one literal and imports nothing"
    assert version("scorematrix") == ast.literal_eval(assigned[0])


def test_readme_commands_are_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        used = set(re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
        assert used and used <= targets, page


def lacking(text: str) -> list[str]:
    """Return paths in backticks that do not exist, and names in backticks that are not in the file after their `in`."""

    def home(path: str) -> Path:
        top = ("lib", "tests", "params", "notebooks", "README.md", "CHANGELOG.md")
        return (ROOT if path.split("/")[0] in top else PACKAGE) / path

    paths = [word for word in re.findall(r"`([^`\s]+)`", text) if "/" in word or word.endswith((".py", ".md"))]
    named = re.findall(r"((?:`\w+`(?:, | and | or ))*`\w+`)\s+in\s+`([^`]+)`", text)
    places = [(name, path) for names, path in named for name in re.findall(r"\w{3,}", names)]
    absent = [path for path in paths if not home(path).exists()]
    absent += [
        f"{n} in {p}" for n, p in places if home(p).is_file() and not re.search(rf"\b{n}\b", home(p).read_text())
    ]
    return absent + sorted(set(re.findall(r"`(\w+)`", text)) - {name for name, _ in places})


def test_contributing_names_what_is_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    (section,) = re.findall(r"^## To add X.*?(?=^## )", page, re.MULTILINE | re.DOTALL)
    assert section.count("\n| ") >= 10 and section.count("` in `") >= 10
    assert lacking(section) == []
    made_up = "`NO_SUCH` in `wings.py`, `wing` in `wings.py`, `no/such.py`, `tests/no_such.py`, `loose`"
    assert lacking(made_up) == ["no/such.py", "tests/no_such.py", "NO_SUCH in wings.py", "loose"]


def test_readme_lists_the_architectures() -> None:
    from scorematrix.models.config import ARCHITECTURES

    (listed,) = re.findall(r"Supported architectures: ([^.]+)\.", (ROOT / "README.md").read_text())
    assert sorted(name.strip().lower() for name in listed.split(",")) == sorted(ARCHITECTURES)


def test_hooks_are_local_and_run_what_make_setup_installs() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    for hook in repo["hooks"]:
        assert hook["language"] == "system"
        command = hook["entry"].split()[0]
        assert command.startswith(".venv/bin/") and normal(Path(command).name) in declared()


def test_planted_faults_fit_the_library() -> None:
    check_table(MUTATIONS)
