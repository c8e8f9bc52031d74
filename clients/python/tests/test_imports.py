"""The modules of the package import each other in one direction only."""

import ast
from pathlib import Path

import roomlog

PACKAGE = Path(roomlog.__file__).parent


def imports_of(path: Path) -> set[str]:
    """Returns the modules of this package that a module imports, for its types included."""
    names: set[str] = set()
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) + 1 - node.level]
            names |= {".".join((*base, name)) for name in ([node.module] if node.module else [alias.name for alias in node.names])}
    return names


def circle_in(imports: dict[str, set[str]]) -> list[str] | None:
    """Returns a path that leads back to its first module, if there is one."""
    finished: set[str] = set()

    def search(path: list[str]) -> list[str] | None:
        for name in sorted(imports.get(path[-1], set()) - finished):
            if name in path:
                return [*path[path.index(name) :], name]
            if circle := search([*path, name]):
                return circle
        finished.add(path[-1])
        return None

    return next((circle for name in sorted(imports) if (circle := search([name]))), None)


def test_modules_do_not_import_each_other_in_a_circle():
    imports = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): imports_of(path) for path in PACKAGE.rglob("*.py")}
    assert "connection" in imports["client"] and {"client", "errors"} <= imports["sync"]
    assert {"tokens", "server.operations"} <= imports["server.rest"]
    assert circle_in(imports) is None


def test_the_search_finds_a_circle():
    assert circle_in({"a": {"b", "d"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
