"""Membership by shadow releases: how a record is explained by releases that did and did not see it.

LiRA (Carlini et al., "Membership inference attacks from first principles", S&P 2022), online, with one variance for all
records as it advises for few shadows. A shadow release is trained in the same way on a random half of all records; it
saw those of them that its weights were learned from. The score of a record is the log ratio of two normal densities of
its log-likelihood at the best z: fitted to the shadows that saw it, and to those that did not. The baseline scores by
the shadows alone, without the release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from data_owner.attacks import reconstruction, score
from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Flags, Floats, Result
from data_owner.attacks.search import Released
from data_owner.attacks.targets import Targets
from data_owner.learning.training import validation_split
from protocol.artefacts import Artefact
from shared.progress import Progress

Train = Callable[[pd.DataFrame, int], Mapping[Artefact, bytes]]
"""Makes what a release of these records would hold, by the same training, for a seed."""


@dataclass(frozen=True)
class Shadows:
    """Scores of targets by shadow releases, and which shadows saw which, (shadows, targets) each."""

    scores: Floats
    saw: Flags


def attack(released: Released, targets: Targets, shadows: Shadows, seed: int) -> tuple[Result, ...]:
    observed = reconstruction.scores(released, targets.both)
    ratio = likelihood_ratios(observed, shadows)
    known = np.where(shadows.saw, np.nan, shadows.scores)
    baseline = np.nanmean(known, 0)
    members = len(targets.members)
    return score.results(Attack.MEMBERSHIP, targets, ratio[:members], ratio[members:], baseline, seed)


def train_shadows(
    train: Train,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    targets: Targets,
    count: int,
    seed: int,
    progress: Progress,
) -> Shadows:
    """Train `count` shadow releases, in pairs of a half and its complement, so each target is given to half of them."""
    everyone = pd.concat([training, held_out], ignore_index=True)
    places = np.concatenate([targets.member_rows.numpy(), len(training) + targets.control_rows.numpy()])
    generator = np.random.default_rng(seed)
    scores, saw = [], []
    half = np.zeros(len(everyone), bool)
    for index in range(count):
        progress(index, count, "shadow releases")
        half = ~half if index % 2 else generator.permutation(len(everyone)) < len(everyone) // 2
        own = seed + 1 + index
        shadow = Released.of(train(everyone[half].reset_index(drop=True), own))
        scores.append(reconstruction.scores(shadow, targets.both))
        _, learned = validation_split(targets.schema, int(half.sum()), own)
        saw.append(np.isin(places, np.flatnonzero(half)[learned.numpy()]))
    return Shadows(np.stack(scores), np.stack(saw))


def likelihood_ratios(observed: Floats, shadows: Shadows) -> Floats:
    """log N(observed; mean of shadows that saw, σ²) - log N(observed; mean of those that did not, σ²), (n,).

    Scores of each release are centred on their median first: one trained on more records explains all of them better.
    A record that no shadow saw, as a few do of two, has 0. How scores differ among those that saw a record is told by
    records that two of them saw; where there are none, it is as among those that did not.
    """
    centred = shadows.scores - np.median(shadows.scores, 1, keepdims=True)
    own = observed - np.median(observed)
    inside, outside = (
        np.where(flags, centred, 0.0).sum(0) / np.maximum(flags.sum(0), 1) for flags in (shadows.saw, ~shadows.saw)
    )
    residuals = centred - np.where(shadows.saw, inside, outside)
    spread_inside, spread_outside = (_spread(residuals, flags) for flags in (shadows.saw, ~shadows.saw))
    ratio = norm.logpdf(own, inside, spread_inside or spread_outside or 1.0)
    ratio -= norm.logpdf(own, outside, spread_outside or spread_inside or 1.0)
    return np.where(shadows.saw.any(0), ratio, 0.0)


def _spread(residuals: Floats, flags: Flags) -> float:
    """Of the flagged residuals (shadows, n) about their record's mean; 0 where no record has two."""
    told = flags & (flags.sum(0) > 1)
    return float(residuals[told].std()) if told.any() else 0.0
