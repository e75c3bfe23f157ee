"""What the import contracts and the linter cannot hold: the house rules, read off the source."""

import ast
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import byrote
from byrote.studies import STUDIES

ROOT = Path(byrote.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PACKAGES = sorted(path.parent for path in MODULES if path.name == "__init__.py")
DRAWERS = {"utils", "util", "helpers", "helper", "common", "base", "misc", "tools", "shared"}
ONE_PLACE = (
    *("plotly", "jinja2", "mnist1d", "ray", "mlflow", "rdkit", "openml"),
    *("lightning", "pytorch_lightning", "transformers", "accelerate", "xgboost", "lightgbm", "catboost"),
)
"""Packages that exactly one file, or one folder below a layer, may import."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT.parent).with_suffix("")).replace("/", ".").removesuffix(".__init__")


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imported(node: ast.AST) -> list[str]:
    """The modules that an import statement, or a literal `import_module` or `require` call, asks for."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            return [node.module or ""]
        case ast.Call(
            func=ast.Name(id="import_module" | "require") | ast.Attribute(attr="import_module" | "require"),
            args=[ast.Constant(value=str(module)), *_],
        ):
            return [module]
        case _:
            return []


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def _decorators(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(decorator) for decorator in node.decorator_list]


each_module = pytest.mark.parametrize("path", MODULES, ids=_name)
each_package = pytest.mark.parametrize("folder", PACKAGES, ids=_name)


@pytest.mark.parametrize("path", [path for path in MODULES if not path.is_relative_to(ROOT / "cli")], ids=_name)
def test_own_code_is_imported_at_the_top(path: Path) -> None:
    """Only the command line may put off importing a command's module, so that `--help` answers at once."""
    late = [
        f"{_name(path)}:{node.lineno} {module}"
        for function in _functions(_tree(path))
        for node in ast.walk(function)
        for module in _imported(node)
        if isinstance(node, ast.expr | ast.stmt) and module.split(".")[0] == "byrote"
    ]
    assert late == []


@each_module
def test_a_file_is_named_by_its_one_concept(path: Path) -> None:
    assert path.stem not in DRAWERS


@each_module
def test_classes_are_abstract_or_final(path: Path) -> None:
    """Nothing concrete is overridden. Errors are a tree; named tuples, protocols and enumerations are neither."""
    exempt = {"NamedTuple", "Protocol", "TypedDict", "Enum", "StrEnum", "Exception"}
    tree = _tree(path)
    errors = {node.name for node in _classes(tree) if node.name.endswith("Error")}
    loose = [
        node.name
        for node in _classes(tree)
        if "final" not in _decorators(node)
        and not node.name.lstrip("_").startswith("Abstract")
        and node.name not in errors
        and not exempt & {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
    ]
    assert loose == []


@each_module
def test_dataclasses_are_frozen_and_keyword_only(path: Path) -> None:
    """A dataclass that writes its own `__init__` (`init=False`) decides about keywords there."""
    loose = [
        node.name
        for node in _classes(_tree(path))
        for decorator in _decorators(node)
        if decorator.split("(")[0].split(".")[-1] == "dataclass"
        and not ("frozen=True" in decorator and ("kw_only=True" in decorator or "init=False" in decorator))
    ]
    assert loose == []


@each_module
def test_no_global_generator_is_seeded_or_read(path: Path) -> None:
    """Randomness is data: `torch.rand` and its like take a generator."""
    drawing = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "rand_like", "randn_like"}
    loose = [
        f"{_name(path)}:{node.lineno} {ast.unparse(node.func)}"
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "torch"
        and node.func.attr in drawing
        and "generator" not in {keyword.arg for keyword in node.keywords}
    ]
    assert loose == []


@each_module
def test_no_device_is_hard_coded(path: Path) -> None:
    """Device follows the data; only asking whether there is one may name it."""
    loose = [
        f"{_name(path)}:{node.lineno}"
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Attribute) and node.func.attr == "cuda")
            or any(
                keyword.arg == "device" and isinstance(keyword.value, ast.Constant) and keyword.value.value == "cuda"
                for keyword in node.keywords
            )
        )
    ]
    assert loose == []


def _bound(tree: ast.Module) -> set[str]:
    """The public names that a module's statements bind."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.Import() | ast.ImportFrom():
                names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=target)):
                names.add(target)
            case _:
                pass
    return {name for name in names if not name.startswith("_")}


@each_package
def test_all_is_the_public_names(folder: Path) -> None:
    """What a package binds without an underscore is what `__all__` says, and it is there.

    A package that imports its names when they are first used binds them in the stub beside it.
    """
    stub = folder / "__init__.pyi"
    public = _bound(_tree(stub if stub.exists() else folder / "__init__.py"))
    package = importlib.import_module(_name(folder))
    declared: list[str] = list(getattr(package, "__all__", []))
    assert len(declared) == len(set(declared))
    assert set(declared) == public
    assert [name for name in declared if not hasattr(package, name)] == []


def test_names_imported_on_first_use_are_what_their_stub_says() -> None:
    stub = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.module not in (None, "byrote"):
            home = importlib.import_module(str(node.module))
            for alias in node.names:
                assert getattr(byrote, alias.name) is getattr(home, alias.name)


@pytest.mark.parametrize("package", ONE_PLACE)
def test_a_heavy_or_optional_package_has_one_place(package: str) -> None:
    """One file imports it; or, for an integration of several files, one folder."""
    places = {
        path if path.parent.parent == ROOT else path.parent
        for path in MODULES
        for node in ast.walk(_tree(path))
        for module in _imported(node)
        if module.split(".")[0] == package
    }
    assert len(places) <= 1, sorted(map(str, places))


def test_every_study_is_a_stranger_to_the_others() -> None:
    """The import contract lists the studies by name, since what they share stands beside them: none may be missing."""
    settings = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["id"]: contract for contract in settings["tool"]["importlinter"]["contracts"]}
    assert set(contracts["studies"]["modules"]) == {study.__module__ for study in STUDIES.values()}
