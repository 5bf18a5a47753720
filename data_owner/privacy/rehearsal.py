"""A rehearsal on people: all that made a release is done once more, with most of them, and attacked on them.

Under a budget the gate attacks microdata's rows, for an attack on records would be an answer that nobody charged. Here
four fifths of the people, and canaries planted among them, go through draw, training and distillation like those of
the release; the other fifth is the control. What is found stays in the house: no card has it and no rule looks at it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

from data_owner.attacks import canaries, reconstruction
from data_owner.attacks.battery import Battery
from data_owner.attacks.outcome import Floats
from data_owner.attacks.run import SYNTHETIC_ROWS, at_every_gate
from data_owner.attacks.search import Released
from data_owner.learning.fitting import HELD_OUT_SHARE, artefacts, fit, split
from data_owner.measure import reference
from data_owner.privacy.accounting import guarantee
from data_owner.privacy.private_marginals import Plan, draw, varied
from data_owner.privacy.recoding import recoded
from data_owner.records.ingest import Records
from data_owner.settings import OwnerSettings, PrivacySettings
from shared.codec import encode
from shared.progress import Progress
from shared.student import StudentSettings


def rehearse(
    records: Records,
    persons: pd.Series,
    settings: OwnerSettings,
    asked: Plan,
    released: Released,
    privacy: PrivacySettings,
    progress: Progress,
) -> Battery:
    """Attack the mechanism of `asked`, which claims to be (ε, δ)-private with the δ of `privacy`, on `records`, row i
    of which is of `persons`[i].

    `released` never saw the canaries: how much better the rehearsal explains one is the guess of its coin.
    """
    seed = settings.training.seed
    whose, _ = pd.factorize(persons)
    parts = GroupShuffleSplit(1, test_size=HELD_OUT_SHARE, random_state=seed).split(records.frame, groups=whose)
    members, control = (records.frame.iloc[rows].reset_index(drop=True) for rows in next(parts))
    planted = canaries.plant(control, len(members), records.sensitive, seed)
    # a canary is a person with as many rows as the noise is scaled to
    everyone = pd.concat([members, *[planted.rows[planted.inside]] * privacy.rows_per_person], ignore_index=True)
    drawn = draw(replace(records, frame=everyone), settings, asked, progress)
    prepared = split(*varied(drawn, settings))
    made = artefacts(prepared.schema, fit(prepared, settings.training, progress=progress))
    synthesiser, _ = reference(made, StudentSettings(seed=seed))
    synthetic = synthesiser.table(seed, SYNTHETIC_ROWS)
    (inside, _), (outside, _) = (recoded(prepared.schema, people) for people in (members, control))
    found = at_every_gate(made, synthetic, inside, outside, seed, progress)
    gain = explained(Released.of(made), planted.rows) - explained(released, planted.rows)
    audit = canaries.judge(np.nan_to_num(gain), planted.inside, privacy.delta)
    # one draw is rehearsed, so that draw's ε is on trial and not the sum of all that was charged
    claimed = guarantee(asked.queries, privacy.delta).epsilon
    return found.model_copy(update={"audit": audit.model_copy(update={"claimed": claimed})})


def explained(released: Released, people: pd.DataFrame) -> Floats:
    """Log-likelihood of each of `people` at the best z, (n,); NaN for those the release has no place for."""
    rows, has_place = recoded(released.schema, people)
    found = np.full(len(people), np.nan)
    found[has_place] = reconstruction.scores(released, encode(released.schema, rows))
    return found
