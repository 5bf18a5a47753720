"""What a program sets of torch for itself: no number that a step makes is to depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from shared.process_wide import ProcessWide

_DTYPE = ProcessWide(torch.get_default_dtype, torch.set_default_dtype)


@contextmanager
def torch_defaults() -> Iterator[None]:
    """float32, gradients and the processor while the body runs, whatever the caller has set; then that again."""
    # only where another is set: a device slows every call down
    device = torch.device("cpu") if torch.get_default_device().type != "cpu" else nullcontext()
    with _DTYPE.changed(), torch.inference_mode(False), torch.enable_grad(), device:
        torch.set_default_dtype(torch.float32)
        yield
