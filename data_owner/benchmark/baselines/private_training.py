"""Private training, the other way to a private release: DP-SGD on the teacher (Abadi et al., arXiv 1607.00133).

Opacus clips each record's gradient and adds Gaussian noise to the sum over a Poisson sample, which it does draw. The
sketch penalty couples the records of a batch, so it is left out, and labels stay as recorded: repairing them needs
scores of every record. Latents come from the prior; released moments and sketch would need noise of their own. The
schema is made from the noisy histograms of single columns alone. A baseline: Opacus' noise is floating point.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pandas as pd
import torch
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, TensorDataset

from data_owner.benchmark.private import declared, readable
from data_owner.benchmark.systems import Fold, Unsuitable
from data_owner.learning.teacher import Teacher, TeacherSettings
from data_owner.privacy import histogram
from data_owner.privacy.accounting import ORDERS, Query, affordable
from data_owner.privacy.domain import NumericDomain, domains
from data_owner.privacy.noise import discrete_gaussian
from data_owner.privacy.private_marginals import varied
from data_owner.records.disclosure import disclose
from data_owner.records.ingest import Records, ingest, read
from data_owner.settings import OwnerSettings
from shared.codec import Encoded, Layout, decode, encode, sample, sample_level
from shared.generation import group_shares
from shared.schema import Schema

DELTA = 1e-5
HISTOGRAMS = 0.15
"""Share of ρ for the histograms of single columns; the rest is for gradients."""

BATCH, EPOCHS, CLIP, RATE = 512, 30, 1.0, 2e-3
SIZES = TeacherSettings(
    beta=0.0, kl_weight=1.0, latent=8, encoder_hidden=(64,), hidden=(64,), head=(32,), by_class=False, linked_gaps=False
)
"""Opacus knows the gradients of layers, and of no parameter beside them: none for means of classes or links of gaps."""


def epsilon_1(fold: Fold) -> pd.DataFrame:
    return generate(fold, 1.0)


def generate(fold: Fold, epsilon: float) -> pd.DataFrame:
    settings, training = declared(fold, epsilon)
    records = read(training, settings, as_declared=True)
    columns, schema = _schema(records, settings, epsilon)
    encoded = encode(schema, _without_gaps(records.frame, schema))
    rate = min(BATCH / len(encoded), 1.0)
    steps = fold.steps(round(EPOCHS / rate))
    torch.manual_seed(fold.seed)
    teacher = Teacher(schema, SIZES)
    private, loader = private_steps(teacher, encoded, rate, _noise(columns, rate, steps, epsilon))
    done = 0
    while done < steps:
        for batch in loader:
            private.zero_grad()
            teacher.losses(Encoded(*batch)).total(SIZES).backward()  # type: ignore[no-untyped-call]
            private.step()
            done += 1
            if done == steps:
                break
    return readable(_from_prior(teacher, schema, fold), fold)


def private_steps(teacher: Teacher, encoded: Encoded, rate: float, noise: float) -> tuple[Any, DataLoader[Any]]:
    """An optimiser that clips and adds noise, and Poisson samples of `rate` to step on."""
    try:
        from opacus import PrivacyEngine
    except ImportError:
        raise Unsuitable("its package is missing: pip install -c deploy/constraints.txt -e '.[benchmark]'") from None
    _, private, loader = PrivacyEngine(accountant="rdp").make_private(
        module=teacher,
        optimizer=torch.optim.Adam(teacher.parameters(), RATE),
        data_loader=DataLoader(TensorDataset(*vars(encoded).values()), batch_size=round(rate * len(encoded))),
        noise_multiplier=noise,
        max_grad_norm=CLIP,
        poisson_sampling=True,
    )
    return private, loader


def _schema(records: Records, settings: OwnerSettings, epsilon: float) -> tuple[Query, Schema]:
    """What the histograms cost, and a schema made from columns drawn from them independently."""
    found = domains(records.columns, settings)
    counted = sum(histogram.levels(domain.cells, ordered=isinstance(domain, NumericDomain)) for domain in found)
    scale = sqrt(counted / (2.0 * HISTOGRAMS * affordable(epsilon, DELTA)))
    generator = np.random.default_rng()
    columns = {}
    for domain in found:
        noisy = histogram.count(
            domain.encode(records.frame[domain.name]),
            domain.cells,
            ordered=isinstance(domain, NumericDomain),
            has_missing=domain.has_missing,
            noise=lambda exact: discrete_gaussian(exact, scale),
            scale=scale,
        )
        clear = histogram.categories(noisy, scale).histogram if domain.has_missing else noisy
        rows = max(round(clear.total), 1000)
        as_one = histogram.Bins(clear, np.zeros(len(clear.starts), np.int64))
        columns[domain.name] = domain.decode(as_one.decode(np.zeros(rows, np.int64), generator))
    rows = min(len(values) for values in columns.values())
    frame = pd.DataFrame({name: values.iloc[:rows] for name, values in columns.items()})
    schema, _ = disclose(ingest(*varied(frame, settings)), settings.policy.minimum_count, of_people=False)
    return Query(what="histograms", noise_multiplier=scale, count=counted), schema


def _noise(histograms: Query, rate: float, steps: int, epsilon: float) -> float:
    """The least noise multiplier of gradients that keeps both within (ε, δ)."""

    def over(noise: float) -> float:
        accountant = RdpAccountant(ORDERS)
        accountant.compose(histograms.event)
        accountant.compose(Query(what="gradients", noise_multiplier=noise, count=steps, sampling=rate).event)
        return float(accountant.get_epsilon(DELTA)) - epsilon

    return float(brentq(over, 0.8, 500.0, rtol=1e-4)) * (1.0 + 1e-3)


def _without_gaps(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Gaps of columns that the schema says have none become its first category."""
    first = {
        column.name: column.categories[0]
        for column in schema.columns
        if column.kind in ("category", "boolean") and not column.optional
    }
    return frame.fillna(first)


@torch.no_grad()
def _from_prior(teacher: Teacher, schema: Schema, fold: Fold) -> pd.DataFrame:
    generator = torch.Generator().manual_seed(fold.seed)
    z = torch.randn(fold.rows, SIZES.latent, generator=generator)
    uniform = torch.rand(2, fold.rows, generator=generator)
    shares = group_shares(schema)
    group = sample_level(shares.log().expand(fold.rows, -1), uniform[0])
    decoder = teacher.decoder.eval()
    target = sample_level(decoder.label(z), uniform[1])
    drawn = sample(Layout(schema), decoder(z, one_hot(group, len(shares))), None, generator)
    return decode(schema, drawn, target, group)
