"""What no line of the program does, looked up in its syntax: load pickles, unpack, run text, ..."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders_flows import ROOT

PACKAGES = ("flows", "detector", "oscar_core", "translation", "storage", "benchmarks")
CODE_IN_DATA = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
}
"""Modules whose reading runs what the file says."""
ARCHIVES = {"tarfile", "zipfile", "zipimport", "gzip", "bz2", "lzma"}
NODES = {"Node", "MappingNode", "SequenceNode", "CollectionNode"}
SAFE_YAML = {"safe_load", "safe_dump", "compose", "SafeLoader", "YAMLError"}
NETWORK = {"urllib", "http", "requests", "httpx", "aiohttp", "ftplib", "huggingface_hub"}
MAY_CHECK = {
    ("zipfile", "detector/training/checkpoint.py"),
    ("zipfile", "detector/published/weights_file.py"),
}
"""PyTorch's checkpoint is a ZIP file; its checksums are compared, nothing comes out of it."""
MAY_ASK = {"flows/orchestration", "storage/downloads.py", "storage/hub.py"}
"""Where Prefect's server is asked, and where files come from that a configuration names by URL."""


def broken_rules(source: str, place: str = "flows/example.py") -> list[str]:
    """Line and rule of everything in a source text that must not be there."""
    return [f"{place}:{line}: {rule}" for line, rule in _found(ast.parse(source), place)]


def _found(tree: ast.Module, place: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield from _imported(name.name, (), node.lineno, place)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from _imported(node.module, [n.name for n in node.names], node.lineno, place)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, rule) for rule in _called(node))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "yaml":
            yield from ((node.lineno, f"yaml.{name}") for name in {node.attr} - SAFE_YAML - NODES)


def _imported(
    module: str, names: list[str] | tuple[()], line: int, place: str
) -> Iterator[tuple[int, str]]:
    top = module.partition(".")[0]
    if top in CODE_IN_DATA and set(names) != {"UnpicklingError"}:  # what torch raises of a pickle
        yield line, f"imports {module}"
    if top in ARCHIVES and (top, place) not in MAY_CHECK:
        yield line, f"imports {module}"
    if top in NETWORK and module != "urllib.parse" and not place.startswith(tuple(MAY_ASK)):
        yield line, f"imports {module}"
    if module == "yaml" and set(names) - SAFE_YAML:
        yield line, "names of yaml one by one"


def _called(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name.endswith("torch.load") and given.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if given.get("allow_pickle", "False") != "False" or given.get("trust_remote_code"):
        yield f"{name} trusts what it reads"
    if name in ("eval", "exec", "compile", "os.system", "os.popen", "os.umask"):
        yield name
    if given.get("shell", "False") != "False":
        yield f"{name} through a shell"
    if name.endswith(
        (".unpack_archive", ".extract", ".extractall", ".load_state_dict_from_url", "hub.load")
    ):
        yield name
    # an override hands on what its caller says, and its callers are looked at here
    is_override = name == "super().from_pretrained"
    is_local = given.get("local_files_only") == "True"
    if name.endswith("from_pretrained") and not is_override and not is_local:
        yield f"{name} may download"
    if name.endswith("yaml.compose") and given.get("Loader") != "yaml.SafeLoader":
        yield "yaml.compose without SafeLoader"


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_source_breaks_a_rule(package: str) -> None:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths
    found = [
        rule
        for path in paths
        for rule in broken_rules(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "yaml.compose(text)",
        "from yaml import load",
        "import tarfile",
        "import zipfile",
        "archive.extract(name)",
        "shutil.unpack_archive(path, folder)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "eval(text)",
        "from urllib.request import urlopen",
        "import requests",
        "BertModel.from_pretrained(name)",
        "AutoModel.from_pretrained(name, local_files_only=True, trust_remote_code=True)",
        "os.umask(0)",
    ],
)
def test_the_rules_see_what_they_forbid(line: str) -> None:
    assert broken_rules(line)


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "yaml.safe_load(text)",
        "from urllib.parse import urlsplit",
        "subprocess.run(['ls'])",
        "model.eval()",
        "from pickle import UnpicklingError",
    ],
)
def test_the_rules_leave_the_rest_alone(line: str) -> None:
    assert broken_rules(line) == []


def test_only_the_figures_of_the_report_make_markup() -> None:
    """Everything else goes through the templates' escaping."""
    users = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if "Markup(" in path.read_text("utf-8")
    }
    assert users <= {"flows/report/figures.py", "flows/report/render.py"}
    templates = [path.read_text("utf-8") for path in (ROOT / "flows" / "report").glob("*.html")]
    assert templates
    assert not [text for text in templates if "|safe" in text.replace(" ", "")]
