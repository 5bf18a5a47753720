"""Every system of the comparison, in the order of the table."""

from __future__ import annotations

from collections.abc import Mapping

from data_owner.benchmark import fair4free, private
from data_owner.benchmark.baselines import (
    decaf,
    fair4free_published,
    fairdisco,
    fairgan,
    fairlearn_methods,
    fldgm,
    private_training,
    repaired,
    tabfairgan,
    trivial,
)
from data_owner.benchmark.systems import Generator, Predictor, System
from shared.errors import BadInput

OURS = "fair4free"
ODDS = "fair4free-odds"
ORIGINAL = "original"
CONSTANT = "constant"

REFERENCES = (ORIGINAL, CONSTANT)
"""In every comparison: what all scores stand between."""

PRIVATE: tuple[System, ...] = (
    Generator("fair4free-eps8", "Fair4Free, parity, ε = 8", private.epsilon_8),
    Generator("fair4free-eps3", "Fair4Free, parity, ε = 3", private.epsilon_3),
    Generator("fair4free-eps1", "Fair4Free, parity, ε = 1", private.epsilon_1),
    Generator("private-training-eps1", "DP-SGD on the teacher, ε = 1", private_training.epsilon_1),
    Generator("microdata-eps1", "microdata alone, ε = 1", private.microdata_1),
)
"""Under a privacy budget. A draw takes as long at less effort: a quick look at every system leaves them out."""

SYSTEMS: tuple[System, ...] = (
    Generator(OURS, "Fair4Free, parity", fair4free.parity),
    Generator(ODDS, "Fair4Free, odds", fair4free.odds),
    Generator("fair4free-unbalanced", "Fair4Free, parity, groups as recorded", fair4free.unbalanced),
    *PRIVATE,
    Generator("fair4free-published", "Fair4Free as published", fair4free_published.generate),
    Generator("fairdisco", "FairDisco", fairdisco.generate),
    Generator("fldgm-gan", "FLDGM, GAN", fldgm.generate_by_gan),
    Generator("fldgm-diffusion", "FLDGM, diffusion", fldgm.generate_by_diffusion),
    Generator("tabfairgan", "TabFairGAN", tabfairgan.generate),
    Generator("decaf", "DECAF", decaf.generate),
    Generator("fairgan", "FairGAN", fairgan.generate),
    Predictor("correlation-remover", "Correlation Remover", fairlearn_methods.correlation_remover),
    Predictor("threshold-parity", "Threshold Optimizer, parity", fairlearn_methods.threshold_optimizer_parity),
    Predictor("threshold-odds", "Threshold Optimizer, odds", fairlearn_methods.threshold_optimizer_odds),
    Generator("repaired", "original data, repaired and balanced", repaired.generate),
    Generator(ORIGINAL, "original data", trivial.original),
    Predictor(CONSTANT, "constant classifier", trivial.constant),
)

BETAS = (0.0, 50.0, 500.0, 5000.0)

SWEEP: Mapping[str, tuple[Generator, ...]] = {
    f"Fair4Free, {labels} labels, β from 0 to 5,000": tuple(
        Generator(f"beta-{beta:g}-{labels}", f"β {beta:,.0f}, {labels} labels", fair4free.parity_at(beta, repair))
        for beta in BETAS
    )
    for labels, repair in (("recorded", 0.0), ("repaired", fair4free.PARITY.repair))
}
"""The frontier of our system: named lines over the weight of the fairness penalty."""


QUICK = tuple(system.name for system in SYSTEMS if system not in PRIVATE)


def chosen(names: tuple[str, ...]) -> tuple[System, ...]:
    """Systems by name, in the table's order; all but the sweep for no names. Raises `BadInput` for one unknown."""
    every = (*SYSTEMS, *(system for line in SWEEP.values() for system in line))
    known = [system.name for system in every]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput("no such system", field=unknown[0], remedy=f"choose from {', '.join(known)}")
    return tuple(system for system in every if system.name in names) if names else SYSTEMS
