"""The steps of a package, each imported when first asked for: `--help` should not wait, nor `verify` for torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any


def lazy_steps(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` (PEP 562) for a package. modules: each step's name, and which of its modules has it."""

    @cache
    def found(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; its steps are {', '.join(modules)}")
        from shared.step import step

        return step(getattr(import_module(f"{package}.{modules[name]}"), name))

    return found
