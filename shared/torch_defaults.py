"""What a program sets of torch for itself: no number that a step makes is to depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def torch_defaults() -> Iterator[None]:
    """float32, gradients and the processor while the body runs, whatever the caller has set; then that again."""
    dtype = torch.get_default_dtype()
    # only where another is set: a device slows every call down
    device = torch.device("cpu") if torch.get_default_device().type != "cpu" else nullcontext()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), device:
            yield
    finally:
        torch.set_default_dtype(dtype)
