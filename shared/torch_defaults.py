"""What a program sets of torch for itself: no number that a step makes is to depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock

import torch

_LOCK = Lock()
_DTYPES: list[torch.dtype] = []
"""The caller's, once for each body that runs now: the whole process has one, and bodies overlap."""


@contextmanager
def torch_defaults() -> Iterator[None]:
    """float32, gradients and the processor while the body runs, whatever the caller has set; then that again."""
    # only where another is set: a device slows every call down
    device = torch.device("cpu") if torch.get_default_device().type != "cpu" else nullcontext()
    with _LOCK:
        _DTYPES.append(_DTYPES[0] if _DTYPES else torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), device:
            yield
    finally:
        with _LOCK:
            dtype = _DTYPES.pop()
            if not _DTYPES:
                torch.set_default_dtype(dtype)
