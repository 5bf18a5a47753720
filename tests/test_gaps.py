"""What is measured together is missing together: a decoder links the gaps of a record."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_owner.attacks import linkability
from data_owner.attacks.search import Released, log_likelihood
from data_owner.learning.teacher import TeacherSettings
from data_owner.learning.training import train_teacher
from data_owner.records.disclosure import disclose
from data_owner.records.ingest import ingest
from shared.architecture import Architecture
from shared.codec import Encoded, Layout, encode, given_gaps, sample
from shared.decoder import Decoder
from shared.errors import VerificationFailure
from shared.generation import Synthesiser
from shared.schema import Schema
from shared.statistics import FREQUENCIES, LatentStatistics
from shared.strata import Strata
from shared.student import Student
from tests.conftest import QUICK, patients, settings_for

PANEL = ("sodium", "potassium", "urea")
Pattern = tuple[bool, ...]


@pytest.fixture(scope="module")
def with_a_panel() -> tuple[Schema, pd.DataFrame]:
    """Of each patient all three of a panel were measured and the ward written down, or nothing was, and nothing else
    tells of whom."""
    table, draw = patients(1500), np.random.default_rng(0)
    absent = draw.random(len(table)) < 0.4
    for name in PANEL:
        table[name] = np.where(absent, np.nan, draw.normal(5.0, 1.0, len(table)).round(1))
    table["ward"] = pd.Series(draw.choice(["surgery", "medicine"], len(table)), dtype="str").mask(absent)
    return disclose(ingest(table, settings_for(table)), 10)


def _chances_of_patterns(layout: Layout, outputs: torch.Tensor, links: torch.Tensor) -> dict[Pattern, float]:
    """How likely each pattern of gaps is, by outputs (1, width)."""
    patterns = torch.tensor(list(product((0.0, 1.0), repeat=len(layout.gaps))), dtype=outputs.dtype)
    told = given_gaps(layout, outputs.expand(len(patterns), -1), patterns, links)
    _, absent, levels = layout.split(told)
    optional = [level for level, column in zip(levels, layout.categorical, strict=True) if column.optional]
    chances = torch.cat([absent.sigmoid(), *(level.softmax(1)[:, -1:] for level in optional)], 1)
    likely = torch.where(patterns > 0, chances, 1.0 - chances).prod(1)
    return {tuple(map(bool, pattern)): float(each) for pattern, each in zip(patterns, likely, strict=True)}


@given(st.integers(0, 2**32), st.floats(0.0, 3.0))
def test_the_probabilities_of_all_patterns_add_up_to_one(
    with_a_panel: tuple[Schema, pd.DataFrame], seed: int, strength: float
) -> None:
    layout, draw = Layout(with_a_panel[0]), torch.Generator().manual_seed(seed)
    outputs = strength * torch.randn(1, layout.width, generator=draw, dtype=torch.float64)
    links = strength * torch.randn(5, 5, generator=draw, dtype=torch.float64).tril(-1)
    assert sum(_chances_of_patterns(layout, outputs, links).values()) == pytest.approx(1.0)


def test_gaps_of_numbers_and_of_text_are_drawn_as_often_as_their_probabilities_say(
    with_a_panel: tuple[Schema, pd.DataFrame],
) -> None:
    layout, draw = Layout(with_a_panel[0]), torch.Generator().manual_seed(0)
    assert (len(layout.gaps), len(layout.optional)) == (5, 4)
    links = 2.0 * torch.randn(5, 5, generator=draw).tril(-1)
    outputs = torch.randn(1, layout.width, generator=draw)
    drawn = sample(layout, outputs.expand(200_000, -1), links, draw)
    numeric, flags = len(layout.numeric), len(layout.optional)
    ward = layout.gaps[-1] + flags
    of_ward = drawn[:, ward : ward + 1] == len(layout.categorical[0].categories)
    missing = torch.cat([drawn[:, numeric : numeric + flags] > 0, of_ward], 1)
    for pattern, expected in _chances_of_patterns(layout, outputs, links).items():
        found = (missing == torch.tensor(pattern)).all(1).float().mean()
        assert float(found) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("linked", [True, False])
def test_a_teacher_learns_which_columns_are_missing_together(
    with_a_panel: tuple[Schema, pd.DataFrame], linked: bool
) -> None:
    schema, table = with_a_panel
    settings: TeacherSettings = replace(QUICK, latent=1, steps=400, kl_weight=20.0, linked_gaps=linked)
    encoded = encode(schema, table)
    targets = torch.nn.functional.one_hot(encoded.target, 2).float()
    trained = train_teacher(schema, encoded, targets, settings, 0)
    decoder = Decoder.from_bytes(trained.teacher.decoder.to_bytes(), schema)
    torch.manual_seed(0)
    rows = Synthesiser(schema, decoder, trained.statistics, Student(settings.latent).eval()).table(seed=0, rows=2000)
    absent = rows[[*PANEL, "ward"]].isna()
    together = float((absent.all(axis=1) | ~absent.any(axis=1)).mean())
    assert (together > 0.95) == linked
    assert float(absent["urea"].mean()) == pytest.approx(0.4, abs=0.08)


@pytest.fixture(scope="module")
def linked(with_a_panel: tuple[Schema, pd.DataFrame]) -> tuple[Released, Encoded]:
    """A decoder that says of potassium that it is missing with sodium, and of nothing else, and those whose gaps do."""
    schema, table = with_a_panel
    layout = Layout(schema)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = Decoder(Architecture.for_schema(schema, 4, (8,), (8,))).eval()
    for weights in decoder.parameters():
        weights.detach().zero_()
    first, second = (_flag(layout, name) for name in PANEL[:2])
    assert first < second
    places = torch.tril_indices(len(layout.gaps), len(layout.gaps), -1)
    assert decoder.links is not None
    decoder.links.detach()[(places[0] == second) & (places[1] == first)] = 8.0
    decoder.body[-1].bias.detach()[_absent(layout)[second]] = -4.0  # type: ignore[index, union-attr]
    strata = Strata(torch.tensor([0.5, 0.5]), torch.zeros(2, 4), torch.eye(4).repeat(2, 1, 1))
    statistics = LatentStatistics(strata, torch.zeros(FREQUENCIES, 4), *torch.zeros(2, 2, FREQUENCIES))
    return Released(schema, decoder, statistics), encode(schema, table.iloc[:600])


def _flag(layout: Layout, name: str) -> int:
    """Which of the columns with gaps this is."""
    return [layout.numeric[index].name for index in layout.optional].index(name)


def _absent(layout: Layout) -> list[int]:
    """Which outputs of the decoder say of gaps."""
    outputs = torch.arange(layout.width, dtype=torch.float).unsqueeze(0)
    return [int(place) for place in layout.split(outputs)[1][0]]


def _columns(schema: Schema, *names: str) -> torch.Tensor:
    return torch.tensor([[column.name for column in Layout(schema).numeric].index(name) for name in names])


def test_who_links_two_files_weighs_a_candidate_by_the_gaps_that_he_holds_of_the_person(
    linked: tuple[Released, Encoded],
) -> None:
    released, records = linked
    known, other = (_columns(released.schema, name) for name in PANEL[:2])
    right = linkability.link(released, records, known, other, torch.Generator().manual_seed(0))
    assert float(right.float().mean()) > 0.13  # one of ten by chance; of those with alike gaps he cannot tell


def test_no_unknown_gap_tells_of_a_known_one(linked: tuple[Released, Encoded]) -> None:
    released, records = linked
    first, second = (int(_columns(released.schema, name)) for name in PANEL[:2])
    known = torch.ones(len(records), len(released.schema.features) + 1, dtype=torch.bool)
    known[:, first] = False
    absent = records.absent.clone()
    absent[:, first] = ~absent[:, first]
    z = torch.zeros(len(records), 4)
    one, other = (
        log_likelihood(released, z, each, known)[:, second] for each in (records, replace(records, absent=absent))
    )
    assert torch.equal(one, other)
    told = log_likelihood(released, z, replace(records, absent=absent))[:, second]
    assert float((told - log_likelihood(released, z, records)[:, second]).abs().min()) > 3.0


def test_links_fit_the_schema_or_are_none(with_a_panel: tuple[Schema, pd.DataFrame]) -> None:
    schema, _ = with_a_panel
    made = Architecture.for_schema(schema, 4, (8,), (8,))
    assert made.gaps == len(Layout(schema).gaps) == 5
    for gaps, fits in ((5, True), (0, True), (4, False), (6, False)):
        decoder = Decoder(made.model_copy(update={"gaps": gaps}))
        if fits:
            assert Decoder.from_bytes(decoder.to_bytes(), schema).architecture.gaps == gaps
        else:
            with pytest.raises(VerificationFailure, match="does not fit the schema"):
                Decoder.from_bytes(decoder.to_bytes(), schema)


def test_a_decoder_without_links_is_as_programs_read_it_before_there_were_any(
    with_a_panel: tuple[Schema, pd.DataFrame],
) -> None:
    made = (
        Decoder(Architecture.for_schema(with_a_panel[0], 4, (8,), (8,), linked_gaps=linked)).to_bytes()
        for linked in (False, True)
    )
    assert [b"gaps" in each for each in made] == [False, True]
