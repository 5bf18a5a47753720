"""Microdata by select, measure and generate: records become noisy marginals, and those rows that nobody is behind.

Marginals are chosen for what fair synthetic data is for. Measured are

1. each column's histogram, which bins the numbers and merges rare categories,
2. (s, y, x) for every feature x: what a feature says of the outcome in each group,
3. how badly a model of those fits each (y, x, x'), all at once, and then as many of the worst as there are features
   less one: a tree's worth, so that exact inference stays small.

A graphical model of maximum entropy is fitted to the answers by mirror descent (McKenna et al., arXiv 1901.09136, the
library mbi) and sampled. Only answers with noise added enter it: all of that costs nothing.
"""

from __future__ import annotations

import itertools
import unicodedata
from dataclasses import dataclass
from math import pi, sqrt

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

# mbi asks for both before it is imported: double precision, and no cache of its many small programs
jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
jax.config.update("jax_enable_compilation_cache", False)  # type: ignore[no-untyped-call]

import mbi  # noqa: E402

from data_owner.privacy import histogram  # noqa: E402
from data_owner.privacy.accounting import Query  # noqa: E402
from data_owner.privacy.domain import Domain, NumericDomain, domains  # noqa: E402
from data_owner.privacy.noise import discrete_gaussian  # noqa: E402
from data_owner.records.ingest import Records  # noqa: E402
from data_owner.settings import OwnerSettings, PrivacySettings  # noqa: E402
from shared.canonical import canonical  # noqa: E402
from shared.errors import PolicyRefusal  # noqa: E402
from shared.limits import LIMITS  # noqa: E402
from shared.progress import Progress  # noqa: E402
from shared.schema import ColumnRole  # noqa: E402

Integers = NDArray[np.int64]
Clique = tuple[str, ...]

SHARES = {"histograms": 0.15, "outcome": 0.45, "choice": 0.10, "pairs": 0.30}
"""Of ρ, set on inner splits of COMPAS and Adult."""

UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000))))
)
"""Letters and marks that nothing shows: Unicode's Default_Ignorable_Code_Point, and an empty Braille cell."""

MOST_BINS = 24
CLEAR, LEAST_SHARE = 3.0, 0.1
"""A bin of numbers holds so many noise scales of records even in the smallest group (of this share or more): where a
person stands within her group is what repaired labels follow, so noise there is unfair to small groups."""

MODEL_MEGABYTES = 0.25
ITERATIONS = 1000
COMPARED = 5
"""Rows sampled for each estimated record when the model is compared with the records."""


@dataclass(frozen=True)
class Plan:
    """Everything that will be asked, before anything is. Scales are of the noise added to counts of rows."""

    queries: tuple[Query, ...]
    histogram_scale: float
    outcome_scale: float
    choice_scale: float
    pair_scale: float
    outcomes: tuple[Clique, ...]
    candidates: tuple[Clique, ...]
    pairs: int


def plan(found: tuple[Domain, ...], privacy: PrivacySettings, rho: float) -> Plan:
    """What a draw asks that costs `rho` at most. Depends on nothing but that, owner.toml and column names."""
    (target,) = (domain.name for domain in found if domain.facts.role is ColumnRole.TARGET)
    sensitive = tuple(domain.name for domain in found if domain.facts.role is ColumnRole.SENSITIVE)
    features = [domain.name for domain in found if domain.facts.role is ColumnRole.FEATURE]
    outcomes: list[Clique] = [(column, target, feature) for feature in features for column in sensitive]
    if len(sensitive) > 1:
        outcomes.append((*sensitive, target))
    candidates = tuple((target, *pair) for pair in itertools.combinations(features, 2))
    counted = sum(histogram.levels(domain.cells, ordered=isinstance(domain, NumericDomain)) for domain in found)
    pairs = len(features) - 1

    def multiplier(share: str, count: int) -> float:
        return sqrt(max(count, 1) / (2.0 * SHARES[share] * rho))

    scales = {
        "histograms": multiplier("histograms", counted),
        "outcome": multiplier("outcome", len(outcomes)),
        "choice": multiplier("choice", 1),
        "pairs": multiplier("pairs", pairs),
    }
    queries = [
        Query(what="histograms of single columns", noise_multiplier=scales["histograms"], count=counted),
        Query(
            what="counts of sensitive, target and one feature",
            noise_multiplier=scales["outcome"],
            count=len(outcomes),
        ),
    ]
    if pairs:
        queries += [
            Query(what="misfit of target and two features", noise_multiplier=scales["choice"]),
            Query(what="counts of target and two features", noise_multiplier=scales["pairs"], count=pairs),
        ]
    # all rows of a person move a histogram or marginal by their number, and every candidate's misfit by as much
    rows = privacy.rows_per_person
    return Plan(
        tuple(queries),
        histogram_scale=rows * scales["histograms"],
        outcome_scale=rows * scales["outcome"],
        choice_scale=rows * sqrt(max(len(candidates), 1)) * scales["choice"],
        pair_scale=rows * scales["pairs"],
        outcomes=tuple(outcomes),
        candidates=candidates,
        pairs=pairs,
    )


def rho_of(queries: tuple[Query, ...]) -> float:
    """The ρ for which a plan with these queries was made."""
    return queries[0].rho / SHARES["histograms"]


def of_each_person(table: pd.DataFrame, privacy: PrivacySettings) -> pd.DataFrame:
    """The first rows of each person, as many as are allowed; all rows where a row is a person.

    A person is told by the text of that column, its case, invisible characters and the blanks around it aside: one
    whose name is typed in two ways would be two. Rows that name no person are left out: of those nobody can say whose
    they are, or of how many.
    """
    if privacy.person is None:
        return table
    names = canonical(table[privacy.person], privacy.person, "category", gaps=True)
    names = names.map(_one_spelling, na_action="ignore")
    named = table.assign(**{privacy.person: names})[names.notna() & (names != "")]
    return named.groupby(privacy.person, sort=False).head(privacy.rows_per_person).reset_index(drop=True)


def _one_spelling(name: str) -> str:
    """The same for all that look alike. Case folding composes characters anew, so it is normalised before and after."""
    shown = "".join(each for each in name if unicodedata.category(each) not in ("Cc", "Cf") and each not in UNSEEN)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", shown).casefold()).strip()


def draw(records: Records, settings: OwnerSettings, asked: Plan, progress: Progress) -> pd.DataFrame:
    """Microdata in the columns and types of the records' table, about as many rows. Asks all of `asked`, once."""
    found = domains(records.columns, settings)
    progress(0, 4, "histograms of single columns")
    cells = {domain.name: domain.encode(records.frame[domain.name]) for domain in found}
    counted = {domain.name: _histogram(domain, cells[domain.name], asked) for domain in found}
    least = CLEAR * asked.outcome_scale / _smallest_share(found, counted, asked.histogram_scale)
    bins = {domain.name: _binned(domain, counted[domain.name], asked, least) for domain in found}
    binned = {name: found_bins.encode(cells[name]) for name, found_bins in bins.items()}
    space = mbi.Domain(list(bins), [found_bins.count for found_bins in bins.values()])

    def counts(clique: Clique, columns: dict[str, Integers] = binned) -> Integers:
        shape = space.project(clique).shape
        places = np.ravel_multi_index([columns[name] for name in clique], shape)
        return np.bincount(places, minlength=int(np.prod(shape)))

    def measure(clique: Clique, scale: float) -> mbi.LinearMeasurement:
        return mbi.LinearMeasurement(discrete_gaussian(counts(clique), scale).astype(float), clique, scale)

    progress(1, 4, "counts with the target")
    measured = [measure(clique, asked.outcome_scale) for clique in asked.outcomes]
    estimator = mbi.estimation.MirrorDescent()
    model = estimator.estimate(space, measured, iters=ITERATIONS)
    if asked.pairs:
        progress(2, 4, "which features go together")
        modelled = model.synthetic_data(COMPARED * _rows(model)).to_dict()
        expected = {clique: np.rint(counts(clique, modelled) / COMPARED) for clique in asked.candidates}
        misfit = np.array(
            [int(np.abs(counts(clique) - expected[clique]).sum()) for clique in asked.candidates], np.int64
        )
        noisy = discrete_gaussian(misfit, asked.choice_scale)
        gain = noisy - sqrt(2.0 / pi) * asked.pair_scale * np.array([len(cell) for cell in expected.values()])
        chosen = _chosen(space, asked, gain)
        measured += [measure(clique, asked.pair_scale) for clique in chosen]
        progress(3, 4, "fitting the model")
        model = estimator.estimate(space, measured, iters=ITERATIONS, warm_start=model)
    drawn = model.synthetic_data(_rows(model)).to_dict()
    generator = np.random.default_rng()
    columns = {
        domain.name: domain.decode(bins[domain.name].decode(np.asarray(drawn[domain.name], np.int64), generator))
        for domain in found
    }
    progress(4, 4, "microdata drawn")
    return pd.DataFrame(columns)


def varied(drawn: pd.DataFrame, settings: OwnerSettings) -> tuple[pd.DataFrame, OwnerSettings]:
    """Microdata and settings of what noise left to learn from: classes and features with the policy's minimum count of
    rows, features of two values or more. Rows of a smaller class are left out: they are nobody's.

    Raises `PolicyRefusal` if that is too little, or a sensitive group is too small where the policy does not merge.
    """
    least = settings.policy.minimum_count
    (target,) = (name for name in drawn.columns if settings.columns[name].role == "target")
    entry = settings.columns[target]
    labels = canonical(drawn[target], target, "boolean" if entry.kind == "boolean" else "category")
    counts = labels.value_counts()
    classes = set(counts.index[counts >= least])
    drawn = drawn[labels.isin(classes)].reset_index(drop=True)
    if entry.categories is not None:
        entry = entry.model_copy(update={"categories": tuple(name for name in entry.categories if name in classes)})
    kept = [name for name in drawn.columns if settings.columns[name].role != "feature" or _varies(drawn[name], least)]
    columns = {name: settings.columns[name] for name in kept} | {target: entry}
    sensitive = [name for name in kept if settings.columns[name].role == "sensitive"]
    sizes = drawn.groupby(sensitive, dropna=False).size()
    small = sizes[sizes < least]
    groups = len(sizes) - len(small) + int(small.sum() >= least)
    if len(classes) < 2 or settings.positive not in classes or groups < 2 or len(kept) == len(sensitive) + 1:
        raise PolicyRefusal(
            f"noise left less than two classes (the positive one too), two groups and a feature of {least} rows each",
            field="privacy.epsilon",
            remedy="see first that owner.toml declares classes and categories as the records spell them; then begin a "
            "new node with more records or a larger epsilon: what this one charged stays spent",
        )
    if len(small) and settings.policy.small_groups == "refuse":
        raise PolicyRefusal(
            f"noise left a sensitive group with fewer than {least} rows",
            field=", ".join(sensitive),
            remedy='set small_groups = "merge" in [policy], which needs no other draw',
        )
    if groups > LIMITS.groups:
        raise PolicyRefusal(
            f"there are more than {LIMITS.groups} groups",
            field=", ".join(sensitive),
            remedy="raise minimum_count in [policy], which merges more of them and needs no other draw",
        )
    return drawn[kept], settings.model_copy(update={"columns": columns})


def _varies(values: pd.Series, least: int) -> bool:
    return int(values.count()) >= least and values.nunique() > 1


def _histogram(domain: Domain, cells: Integers, asked: Plan) -> histogram.Histogram:
    scale, ordered = asked.histogram_scale, isinstance(domain, NumericDomain)
    return histogram.count(
        cells,
        domain.cells,
        ordered=ordered,
        has_missing=domain.has_missing,
        noise=lambda exact: discrete_gaussian(exact, scale),
        scale=scale,
    )


def _smallest_share(found: tuple[Domain, ...], counted: dict[str, histogram.Histogram], scale: float) -> float:
    """Of a sensitive column's categories that stand out of the noise."""
    shares: list[float] = []
    for domain in found:
        if domain.facts.role is ColumnRole.SENSITIVE:
            records = counted[domain.name].records
            shares += list(records[records > histogram.KEEP_ABOVE * scale] / records.sum())
    return max(min(shares, default=1.0), LEAST_SHARE)


def _binned(domain: Domain, counted: histogram.Histogram, asked: Plan, least: float) -> histogram.Bins:
    if isinstance(domain, NumericDomain):
        return histogram.neighbours(counted, max(counted.total / MOST_BINS, least), asked.histogram_scale)
    if not domain.has_missing:
        return histogram.classes(counted)
    return histogram.categories(counted, asked.histogram_scale)


def _chosen(space: mbi.Domain, asked: Plan, gain: NDArray[np.float64]) -> list[Clique]:
    """The candidates of most gain, best first, that leave the model small enough."""
    chosen: list[Clique] = []
    for place in np.argsort(-gain, kind="stable"):
        candidate = asked.candidates[place]
        if mbi.junction_tree.hypothetical_model_size(space, [*asked.outcomes, *chosen, candidate]) <= MODEL_MEGABYTES:
            chosen.append(candidate)
        if len(chosen) == asked.pairs:
            break
    return chosen


def _rows(model: mbi.MarkovRandomField) -> int:
    return max(1, round(float(model.total)))
