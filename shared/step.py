"""A step as programs call it: its arguments are what its signature names, and where the file system refuses it ends in
our error."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from numbers import Integral
from typing import ParamSpec, TypeVar

from pydantic import ConfigDict, ValidationError, validate_call

from shared.errors import BadInput
from shared.folder import permitted

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def step(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """`function`, which also raises `BadInput` for an argument that is of none of its types, NumPy's whole numbers
    apart, and `Unreachable` for a file that cannot be reached. It does not depend on what the caller has set of
    torch."""
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True, strict=True))(function)

    @wraps(function)
    def called(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        with permitted(), _own_defaults():
            try:
                return checked(*map(_plain, arguments), **{name: _plain(value) for name, value in named.items()})  # type: ignore[arg-type]
            except ValidationError as error:
                if error.title != function.__name__:  # of something else, within the step
                    raise
                raise _refused(error, function) from None

    return called


def _plain(value: object) -> object:
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _own_defaults() -> AbstractContextManager[None]:
    """Torch's own, where it is loaded: a step that has not loaded it does without."""
    if "torch" not in sys.modules:
        return nullcontext()
    from shared.torch_defaults import torch_defaults

    return torch_defaults()


def _refused(error: ValidationError, function: Callable[..., object]) -> BadInput:
    """Names the first argument that is of none of its types, and those; never what was given."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    first = found[0]["loc"][0]
    places: dict[int | str, str] = dict(enumerate(inspect.signature(function).parameters))
    wanted = dict.fromkeys(each["msg"] for each in found if each["loc"][0] == first)
    package = function.__module__.partition(".")[0]
    remedy = f"see help({package}.{function.__name__})"
    return BadInput(", or ".join(wanted), field=places.get(first, str(first)), remedy=remedy)
