"""The package as it is published: its files, its metadata, its optional parts, and the pages of its API."""

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pdoc.doc
import pytest
from harness.server import REPOSITORY

import roomlog
import roomlog.server
import roomlog.sync

PROJECT = REPOSITORY / "clients/python"

MODULES = [roomlog, roomlog.sync, roomlog.server]


def run(*command, **options):
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist and the wheel that is built from it, without a network."""
    directory = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", directory, PROJECT)
    [sdist], [wheel] = directory.glob("*.tar.gz"), directory.glob("*.whl")
    return sdist, wheel


def test_both_distributions_have_types_and_licences(built):
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"src/roomlog/py.typed", "README.md", "LICENSE-MIT", "LICENSE-APACHE", "pyproject.toml"} <= names
    assert not any("test" in name or "venv" in name for name in names)
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    sources = {str(path.relative_to(PROJECT / "src")) for path in (PROJECT / "src").rglob("*.py")}
    assert {"roomlog/py.typed", *sources} <= set(files)
    assert {name.rpartition("/")[2] for name in files if "/licenses/" in name} == {"LICENSE-MIT", "LICENSE-APACHE"}


@pytest.mark.parametrize("licence", ["LICENSE-MIT", "LICENSE-APACHE"])
def test_the_licences_are_those_of_the_project(licence):
    assert (PROJECT / licence).read_bytes() == (REPOSITORY / licence).read_bytes()


def test_the_metadata_pleases_the_package_index(built):
    run("-m", "twine", "check", "--strict", *built)
    with zipfile.ZipFile(built[1]) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert {url.partition(",")[0] for url in metadata.get_all("Project-URL")} == {"Homepage", "Documentation", "Changelog", "Issues"}
    assert metadata["Keywords"] and "Typing :: Typed" in metadata.get_all("Classifier")
    # The index does not have the other files of the repository.
    assert "](../" not in metadata.get_payload()


def test_the_wheel_works_and_loads_only_what_a_client_needs(built, tmp_path):
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path, built[1])
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import roomlog, roomlog.sync
assert roomlog.__file__.startswith({str(tmp_path)!r}), roomlog.__file__
print(sorted({{"httpx", "jwt", "cryptography", "typing_extensions"}} & set(sys.modules)))
"""
    assert run("-c", script, cwd=tmp_path) == "[]\n"


def test_the_helpers_for_servers_say_which_packages_they_need():
    script = """
import sys
sys.modules["jwt"] = None
try:
    import roomlog.server
except ImportError as error:
    print(error)
"""
    assert run("-c", script).endswith("roomlog.server needs `pip install 'roomlog[server]'`\n")


def documented(module):
    """Yields each public item of a module and of its classes, with its documentation."""
    page = pdoc.doc.Module(module)
    yield page, page.docstring
    for item in page.own_members:
        if item.name not in module.__all__:
            continue
        yield item, item.docstring or alias(item)
        if isinstance(item, pdoc.doc.Class):
            yield from ((member, member.docstring) for member in item.own_members if not member.name.startswith("_"))


def alias(item):
    """Returns the documentation of an alias of a type, which is where it is defined."""
    sources = [pdoc.doc.Module(module) for name, module in sys.modules.items() if name.startswith("roomlog.")]
    return next((doc for source in sources if (doc := source._var_docstrings.get(item.name))), "")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_item_is_documented(module):
    items = list(documented(module))
    assert len(items) > len(module.__all__)
    assert [item.fullname for item, text in items if not text] == []


def test_the_pages_of_the_api_are_generated(tmp_path):
    """With the command of the README."""
    run("-m", "pdoc", "-o", tmp_path, *(module.__name__ for module in MODULES))
    for page, text in [("roomlog.html", "SqliteOutbox"), ("roomlog/sync.html", "submit"), ("roomlog/server.html", "sign_token")]:
        assert text in Path(tmp_path, page).read_text()
