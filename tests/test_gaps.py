"""What is measured together is missing together: a decoder links the gaps of a record."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from data_owner.attacks import linkability
from data_owner.attacks.search import Released, log_likelihood
from data_owner.learning.teacher import TeacherSettings
from data_owner.learning.training import train_teacher
from data_owner.records.disclosure import disclose
from data_owner.records.ingest import ingest
from protocol.artefacts import Artefact
from shared.architecture import Architecture
from shared.codec import Encoded, Layout, encode, gap_logits, sample
from shared.decoder import Decoder
from shared.errors import VerificationFailure
from shared.generation import Synthesiser
from shared.schema import Schema
from shared.statistics import FREQUENCIES, LatentStatistics
from shared.strata import Strata
from shared.student import Student
from tests.conftest import QUICK, patients, settings_for

PANEL = ("sodium", "potassium", "urea")


@pytest.fixture(scope="module")
def with_a_panel() -> tuple[Schema, pd.DataFrame]:
    """Of each patient all three of a panel were measured or none was, and nothing else tells of whom."""
    table, draw = patients(1500), np.random.default_rng(0)
    absent = draw.random(len(table)) < 0.4
    for name in PANEL:
        table[name] = np.where(absent, np.nan, draw.normal(5.0, 1.0, len(table)).round(1))
    return disclose(ingest(table, settings_for(table)), 10)


@given(
    st.lists(st.floats(-5.0, 5.0), min_size=3, max_size=3),
    st.lists(st.lists(st.floats(-5.0, 5.0), min_size=3, max_size=3), min_size=3, max_size=3),
)
def test_the_probabilities_of_all_patterns_add_up_to_one(absent: list[float], links: list[list[float]]) -> None:
    patterns = torch.tensor(list(product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    logits = gap_logits(
        torch.tensor(absent, dtype=torch.float64).expand(8, 3), patterns, torch.tensor(links).double().tril(-1)
    )
    assert float(logsigmoid((2.0 * patterns - 1.0) * logits).sum(1).exp().sum()) == pytest.approx(1.0)


def test_gaps_are_drawn_as_often_as_their_probabilities_say(with_a_panel: tuple[Schema, pd.DataFrame]) -> None:
    layout = Layout(with_a_panel[0])
    count = len(layout.optional)
    draw = torch.Generator().manual_seed(0)
    links = torch.randn(count, count, generator=draw).tril(-1) * 2.0
    outputs = torch.zeros(200_000, layout.width)
    numeric = len(layout.numeric)
    flags = sample(layout, outputs, links, draw)[:, numeric : numeric + count]
    for pattern in torch.tensor(list(product((0.0, 1.0), repeat=count))):
        logits = gap_logits(torch.zeros(1, count), pattern.unsqueeze(0), links)
        expected = float(logsigmoid((2.0 * pattern - 1.0) * logits).sum().exp())
        assert float((flags == pattern).all(1).float().mean()) == pytest.approx(expected, abs=0.005)


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
    absent = rows[list(PANEL)].isna()
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
    places = torch.tril_indices(len(layout.optional), len(layout.optional), -1)
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
    assert made.gaps == len(Layout(schema).optional) == 4
    for gaps, fits in ((4, True), (0, True), (3, False), (5, False)):
        decoder = Decoder(made.model_copy(update={"gaps": gaps}))
        if fits:
            assert Decoder.from_bytes(decoder.to_bytes(), schema).architecture.gaps == gaps
        else:
            with pytest.raises(VerificationFailure, match="does not fit the schema"):
                Decoder.from_bytes(decoder.to_bytes(), schema)


def test_a_decoder_without_links_is_as_programs_read_it_before_there_were_any(
    artefacts: dict[Artefact, bytes], with_a_panel: tuple[Schema, pd.DataFrame]
) -> None:
    linked = Decoder(Architecture.for_schema(with_a_panel[0], 4, (8,), (8,))).to_bytes()
    assert (b"gaps" in artefacts[Artefact.DECODER], b"gaps" in linked) == (False, True)
