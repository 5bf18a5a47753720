"""Discrete Gaussian noise for counts: OpenDP's exact sampler, integers throughout, the operating system's randomness.

There is no floating-point number between a count and its noisy form, so none can be told apart by its last bits
(Mironov 2012). Of integer sensitivity Δ, noise of scale σ has the Rényi divergence of the continuous Gaussian of the
same σ (Canonne, Kamath and Steinke, arXiv 2004.00010, proposition 5).
"""

from __future__ import annotations

import numpy as np
import opendp.prelude as opendp
from numpy.typing import NDArray

opendp.enable_features("contrib")

Counts = NDArray[np.int64]


def discrete_gaussian(counts: Counts, scale: float) -> Counts:
    """`counts`, of any shape, with independent noise of this scale added to each."""
    space = opendp.vector_domain(opendp.atom_domain(T="i64")), opendp.l2_distance(T="i64")
    mechanism = opendp.m.make_gaussian(*space, scale=float(scale))
    return np.asarray(mechanism(np.ravel(counts).tolist()), np.int64).reshape(counts.shape)
