"""The source as it is written: types, lint, sizes, and traps that have been met before."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "digital_twin"


def tool(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], cwd=REPOSITORY, capture_output=True, text=True)


def test_the_core_is_typed():
    done = tool("mypy", "--cache-dir", "/tmp/mypy_digital_twin", "digital_twin/core")
    assert done.returncode == 0, done.stdout


def test_lint():
    done = tool("ruff", "check", "--no-cache", "--output-format", "concise", ".")
    assert done.returncode == 0, done.stdout
    done = tool("ruff", "format", "--no-cache", "--check", ".")
    assert done.returncode == 0, done.stdout


def test_nodes_take_no_name_that_rclpy_uses():
    """An attribute called _clock or _guards breaks rclpy's Node in ways that show much later."""
    import rclpy
    from rclpy.node import Node

    rclpy.init(args=[])
    try:
        node = Node("plain")
        taken = {name for name in (*vars(node), *dir(Node)) if not name.startswith("__")}
        node.destroy_node()
    finally:
        rclpy.shutdown()
    for path in [PACKAGE / "ros/node.py", *(PACKAGE / "nodes").glob("*.py")]:
        ours = set(re.findall(r"self\.(_?\w+)(?:: [^=\n]+)? = ", path.read_text()))
        assert not ours & taken, f"{path.name}: {ours & taken}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_unsafe_and_every_public_thing_explained(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            inside_function = any(
                isinstance(f, ast.FunctionDef) and node in ast.walk(f) and f is not node for f in ast.walk(tree)
            )
            overriding = any(
                isinstance(d, ast.Name) and d.id == "override" for d in getattr(node, "decorator_list", [])
            )
            trivial = isinstance(node, ast.FunctionDef) and len(node.body) == 1
            if not inside_function and not overriding and not trivial:
                assert ast.get_docstring(node), f"{node.name} is not explained"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "os.system"), called


def test_only_who_scores_reads_the_truth():
    """ground_truth/… is read by the monitor alone; a node of the twin that did would judge itself."""
    readers = [
        str(p.relative_to(PACKAGE))
        for p in PACKAGE.rglob("*.py")
        if re.search(r"(subscri\w*|listen)\([^)]*ground_truth", p.read_text())
    ]
    assert readers == ["cli/monitor.py"]
