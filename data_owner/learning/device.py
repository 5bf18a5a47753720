"""What a model is trained on."""

from __future__ import annotations

import torch


def trains_on() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
