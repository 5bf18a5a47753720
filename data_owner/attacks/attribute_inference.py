"""Attribute inference: the attacker knows all of a record but one column, and asks the decoder for that one.

It searches z by the known columns and says what the decoder believes the secret to be there: a category, or one of
`BINS` rank intervals of a number. Everyone is asked for the target column, which is what most would hide, and then for
one feature, drawn at random, so guesses are independent; each feature is a part of its own, for a leak of one would be
lost among many. The baseline says what is commonest (Giomi et al. 2023, with the decoder in the place of nearest
synthetic rows).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from data_owner.attacks.attack import Attack
from data_owner.attacks.outcome import Flags, Guesses, Result, outcomes
from data_owner.attacks.search import Released, search
from data_owner.attacks.targets import Targets
from shared.codec import Encoded, Layout, normal_score
from shared.logistic import log_mass
from shared.schema import Schema

BINS = 20
AIM = "one hidden feature"
AIM_AT_TARGET = "the hidden target"


def attack(released: Released, targets: Targets, seed: int) -> tuple[Result, ...]:
    generator = torch.Generator().manual_seed(seed)
    sides = (targets.members, targets.control)
    last = len(released.schema.features)
    secrets = {
        AIM_AT_TARGET: [torch.full((len(records),), last) for records in sides],
        AIM: [draw_secrets(records, generator) for records in sides],
    }
    return tuple(_result(released, targets, aim, *secret) for aim, secret in secrets.items())


def _result(released: Released, targets: Targets, aim: str, secret: Tensor, control_secret: Tensor) -> Result:
    parts, control_parts = (
        {**parts, **secret_parts(released.schema, hidden)}
        for parts, hidden in ((targets.member_parts, secret), (targets.control_parts, control_secret))
    )
    return Result(
        attack=Attack.ATTRIBUTE_INFERENCE,
        aim=aim,
        outcomes=outcomes(
            Guesses(guess(released, targets.members, secret).numpy(), parts),
            Guesses(guess(released, targets.control, control_secret).numpy(), control_parts),
            Guesses(guess_commonest(released.schema, targets.control, targets.members, secret).numpy(), parts),
        ),
    )


def draw_secrets(records: Encoded, generator: torch.Generator) -> Tensor:
    """A feature for each record, (n,): any but a number that is missing. The target if it has no other value."""
    columns = torch.cat([~records.absent, torch.ones_like(records.levels, dtype=torch.bool)], 1)
    nothing_else = ~columns.any(1, keepdim=True)
    return torch.multinomial(torch.cat([columns, nothing_else], 1).float(), 1, generator=generator)[:, 0]


def secret_parts(schema: Schema, secret: Tensor) -> dict[str, Flags]:
    """Who has which feature for a secret (n,)."""
    layout = Layout(schema)
    names = [each.name for each in layout.numeric] + [each.name for each in layout.categorical]
    return {f"column {name}": (secret == index).numpy() for index, name in enumerate(names)}


def guess(released: Released, records: Encoded, secret: Tensor) -> Tensor:
    """Whether the decoder's guess of each record's secret column (n,) is right, (n,) bool."""
    known = one_hot(secret, released.columns) == 0
    z = search(released, records, known).z
    with torch.no_grad():
        outputs = released.outputs(z, records)
        label = released.decoder.label(z).argmax(1)
        mixtures, _, of_levels = released.layout.split(outputs)
        edges = bin_edges()
        mass = torch.stack(
            [log_mass(mixtures, *(edge.expand(mixtures.shape[:2]) for edge in pair)) for pair in edges], 2
        )
        levels = [logits.argmax(1) for logits in of_levels]
    return _right(records, secret, mass.argmax(2), torch.stack([*levels, label], 1))


def guess_commonest(schema: Schema, known: Encoded, records: Encoded, secret: Tensor) -> Tensor:
    """Whether the commonest value among `known` records is right for each secret column, (n,) bool."""
    layout = Layout(schema)
    edges = bin_edges()
    held = torch.stack([(_overlaps(known, pair) & ~known.absent).sum(0) for pair in edges], 1)
    levels = torch.cat([known.levels, known.target.unsqueeze(1)], 1)
    commonest = torch.stack([column.mode().values for column in levels.unbind(1)])
    numbers = held.argmax(1) if layout.numeric else torch.zeros(0, dtype=torch.long)
    return _right(records, secret, numbers.expand(len(records), -1), commonest.expand(len(records), -1))


def bin_edges() -> list[tuple[Tensor, Tensor]]:
    """Normal scores of the rank intervals, low and high."""
    ranks = torch.linspace(0.0, 1.0, BINS + 1, dtype=torch.float64)
    return list(pairwise(normal_score(ranks.numpy())))


def _right(records: Encoded, secret: Tensor, bins: Tensor, levels: Tensor) -> Tensor:
    """Whether guesses, bins (n, numeric) and levels (n, categorical + 1), hold the record's value of its secret."""
    numbers = torch.zeros(bins.shape, dtype=torch.bool)
    for index, pair in enumerate(bin_edges()):
        numbers |= (bins == index) & _overlaps(records, pair)
    exact = levels == torch.cat([records.levels, records.target.unsqueeze(1)], 1)
    return torch.cat([numbers, exact], 1).gather(1, secret.unsqueeze(1))[:, 0]


def _overlaps(records: Encoded, edges: tuple[Tensor, Tensor]) -> Tensor:
    """Whether each number's own rank interval has its middle in the bin, or holds the whole of it."""
    low, high = edges
    middle = (records.score >= low) & (records.score < high)
    return middle | ((records.low <= low) & (records.high >= high))
