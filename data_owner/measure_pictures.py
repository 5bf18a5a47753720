"""What only the owner can measure of pictures: by a classifier trained on originals, and of the encoder's latents."""

from __future__ import annotations

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from data_owner.learning.teacher import Teacher, default_settings
from data_owner.learning.training import posteriors
from data_owner.picture_scores import group_accuracies, group_from_latents, hardest
from shared.codec import encode, positions
from shared.decoder import Decoder
from shared.errors import VerificationFailure
from shared.judge import ImageJudge
from shared.metrics import Integers
from shared.schema import Schema
from shared.scores import PictureScores


def picture_scores(
    judge: ImageJudge,
    synthetic: pd.DataFrame,
    test: pd.DataFrame,
    predicted: Integers,
    from_original: Integers,
    schema: Schema,
) -> PictureScores:
    """Labels and groups. `predicted` and `from_original`: outcomes of `test` by synthetic and by original pictures."""
    hardest_synthetic, hardest_original = hardest(test, predicted, from_original, schema) or (None, None)
    return PictureScores(
        agreement=agreement(judge, synthetic, schema),
        agreement_ceiling=agreement(judge, test, schema),
        groups=group_accuracies(test, predicted, from_original, schema),
        hardest_synthetic=hardest_synthetic,
        hardest_original=hardest_original,
    )


def agreement(judge: ImageJudge, table: pd.DataFrame, schema: Schema) -> float:
    """How often a classifier trained on the originals gives a picture its label."""
    labels = positions(schema.target, table[schema.target.name])
    return float((judge.classifier.predict(table, schema) == labels).mean())


@torch.no_grad()
def with_latents(
    found: PictureScores, teacher: Teacher | None, held_out: pd.DataFrame, schema: Schema, seed: int
) -> PictureScores:
    """The same with what latents of held-out pictures, one draw each from their posteriors, tell of the group."""
    if teacher is None:
        return found
    records = encode(schema, held_out)
    mean, variance = posteriors(teacher, records)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
    told = group_from_latents(mean + variance.sqrt() * noise, records.target, records.group, seed)
    return found.model_copy(update=told)


def restored_teacher(schema: Schema, decoder: Decoder, encoder: bytes) -> Teacher:
    """The teacher out of the encoder that stayed here and the decoder of its release."""
    teacher = Teacher(schema, default_settings(schema))
    try:
        teacher.encoder.load_state_dict(load_tensors(encoder))
    except (RuntimeError, SafetensorError):  # torch raises a subclass of its own for other shapes
        raise VerificationFailure(
            "the encoder is not of this release", field="encoder.safetensors", remedy="train again"
        ) from None
    teacher.decoder = decoder
    return teacher.eval()
