"""What the page for a privacy officer says in words, whatever was found."""

from __future__ import annotations

from collections.abc import Mapping

from data_owner.attacks.attack import Attack
from protocol.artefacts import Artefact
from shared.card import AttackFinding

MEANING: Mapping[AttackFinding, str] = {
    "succeeded": "They tell members beyond the policy's limit: approval needs two people.",
    "inconclusive": "Not shown to be beyond the limit, nor shown to be within it: too few guesses or shadow releases, "
    "or a part is above it and chance may explain that.",
    "resisted": "Within the policy's limit, the whole interval; no part is above it but for what chance explains.",
}

CONTENT = {
    Artefact.MANIFEST: "names and digests of the other four, the privacy statement, expiry; signed",
    Artefact.DECODER: "weights of a model trained on the records, where most of a record could be memorised",
    Artefact.STATISTICS: "mean and covariance of the latents by class and their characteristic function by group; "
    "of the records too",
    Artefact.SCHEMA: "column names, categories, quantile points and group shares; of the records too, "
    "each of at least the minimum count",
    Artefact.CARD: "scores to two decimals, counts to tens, one word for each attack",
}

CONTENT_OF_MICRODATA = CONTENT | {
    Artefact.DECODER: "weights of a model trained on microdata",
    Artefact.STATISTICS: "mean and covariance of the latents by class and their characteristic function by group",
    Artefact.SCHEMA: "column names, what owner.toml declares of them, quantile points and group shares of microdata",
}

QUESTIONS = {
    Attack.RECONSTRUCTION: "Can the decoder be made to say exactly this person's record, or far better in the person's "
    "own group than in another? Searches its latent space.",
    Attack.DENSITY_RATIO: "Are synthetic rows denser around this person than real people are? "
    "Method: DOMIAS (van Breugel et al. 2023).",
    Attack.ATTRIBUTE_INFERENCE: "Who knows all of a person's record but one column: can they guess that one?",
    Attack.LINKABILITY: "Who has two files without a common column: can they tell which rows are one person?",
    Attack.SINGLING_OUT: "Does a condition made from synthetic rows hold for exactly one person? Tried on a sample of "
    "members no larger than the held-out side; each person counts once. Resisted compares members with others: it does "
    "not say that nobody can be singled out.",
    Attack.MEMBERSHIP: "Was this person among the records? Compares with shadow releases made with and without. "
    "Method: LiRA (Carlini et al. 2022).",
}

WORDS = (
    (
        "members",
        "rows that the decoder's weights were learned from; control are held-out rows, which training never saw",
    ),
    ("latents", "the few numbers that the decoder turns into a row; the encoder, which stays, finds those of a record"),
    (
        "membership",
        "the strongest attack: shadow releases, made by the same training with and without a row, show how one that "
        "saw it differs",
    ),
    (
        "canaries",
        "made-up rows, each put into a run of the same training or left out by a coin: how many coins an attacker "
        "guesses shows the least that one row changes (ε)",
    ),
    (
        "TPR at 1 % FPR",
        "true and false positive rate: the share of members called members by a threshold that calls about 1 % of "
        "other held-out rows so; of few rows more may be",
    ),
    ("95 % interval", "in brackets, by Wilson's method: the shares that so many right of so many guesses allow"),
    ("rarest tenth", "the tenth of rows that lie farthest from others"),
)

NOT_COVERED = (
    (
        "stronger attackers",
        "Only these attacks were made. One that resists them may fall to another, or to more effort.",
    ),
    (
        "people in general",
        "What is true of members and of others alike can be learned, and may concern a person all the same.",
    ),
    (
        "one person in several rows",
        "Where no column says whose a row is, a record counts as a person: rows of one are neither joined nor bounded.",
    ),
    (
        "the sensitive column",
        "Attackers are taken to know a person's group; it is not among the columns that are guessed.",
    ),
    (
        "the synthetic rows of others",
        "An analyst's rows follow from the release; what is done with them is not seen here.",
    ),
)

OF_RECORDS = (
    (
        "anonymity",
        "Without a budget a release is not anonymous in the sense of the GDPR's recital 26 just by having passed. "
        "Treat decoder, statistics and rows as personal data unless your own assessment says otherwise.",
    ),
    (
        "those who choose when training ends",
        "A tenth of the training records: no weight of the decoder is learned from them, but the latent statistics and "
        "the repair of labels are of them too. They are neither attacked nor a control.",
    ),
    (
        "several releases",
        "Each is attacked alone. Two from much the same records tell more together, though their records are the same, "
        "or those of one at least the minimum count of rows more than those of the other.",
    ),
    ("schema and card", "They are held to the minimum count and to rounding, and were not attacked."),
    (
        "the sketch by group",
        "Nobody tried to solve it for single records. Small groups share one: it has fewer numbers than unknowns.",
    ),
)
"""Said where there is no budget: under one, records are read for microdata alone."""

BEHIND_MICRODATA = (
    "people behind the microdata",
    "Under the budget microdata stands in for records, at the gate too: its attacks were made on those rows. What the "
    "release tells of people themselves is bounded by the guarantee, and shown by a rehearsal alone.",
)
