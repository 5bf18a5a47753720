"""Numbers as mixtures of logistic distributions over normal scores, judged by the mass of a rank interval.

A value that many records share owns an interval of ranks, so its likelihood is the mass the mixture puts on
that interval: nothing about where inside it a record lies has to be learned. (The discretised mixture of
Salimans et al., PixelCNN++, arXiv 1701.05517, over quantiles in place of pixel levels.)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

COMPONENTS = 3
LEAST_LOG_SCALE = -5.0
MOST_LOG_SCALE = 2.0


def log_mass(parameters: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Log of the probability of normal scores low..high, elementwise.

    parameters: (n, columns, 3, COMPONENTS) as weight logits, means and log scales. low < high: (n, columns).
    Uses σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)), which keeps its precision in both tails.
    """
    weights, means, log_scales = parameters.unbind(2)
    inverse = torch.exp(-log_scales.clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE))
    upper = (high.unsqueeze(2) - means) * inverse
    lower = (low.unsqueeze(2) - means) * inverse
    width = (upper - lower).clamp_min(1e-6)
    mass = logsigmoid(upper) + logsigmoid(-lower) + torch.log(-torch.expm1(-width))
    return torch.logsumexp(torch.log_softmax(weights, 2) + mass, 2)


def draw(parameters: Tensor, generator: torch.Generator) -> Tensor:
    """One normal score for each column, (n, columns)."""
    # components first: steps over the last, of three, take twice as long
    weights, means, log_scales = parameters.permute(2, 3, 0, 1).contiguous()
    uniform = torch.rand(2, *means.shape[1:], generator=generator)
    cumulative = torch.softmax(weights, 0).cumsum(0)
    chosen = (uniform[0] * cumulative[-1] > cumulative).sum(0, keepdim=True).clamp_max(len(weights) - 1)
    mean, log_scale = means.gather(0, chosen)[0], log_scales.gather(0, chosen)[0]
    return mean + log_scale.clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE).exp() * torch.logit(uniform[1], eps=1e-6)
