"""Decorators that act while a function is *called* do nothing for a coroutine, which runs after its call returned."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("rl", "rollout", "rewards", "lora", "bench", "tests")
FOR_SYNC_FUNCTIONS = {
    "no_grad", "enable_grad", "inference_mode", "set_grad_enabled", "autocast", "fork_rng", "suppress",
    "cache", "lru_cache", "contextmanager",
}  # fmt: skip


def misplaced(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each such decorator of a coroutine or an asynchronous generator."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if name in FOR_SYNC_FUNCTIONS:
                    yield decorator.lineno, name


@pytest.mark.parametrize("decorator", ["torch.no_grad()", "no_grad()", "torch.inference_mode(True)", "functools.cache"])
def test_a_misplaced_decorator_is_found(decorator: str) -> None:
    assert list(misplaced(f"class A:\n    @{decorator}\n    async def f(self): ...")) != []
    assert list(misplaced(f"class A:\n    @{decorator}\n    def f(self): ...")) == []


def test_no_coroutine_has_a_decorator_for_sync_functions() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    found = [f"{file.relative_to(ROOT)}:{line} {name}" for file in files for line, name in misplaced(file.read_text())]
    assert found == []
