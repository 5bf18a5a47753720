"""Pictures through the same boundary: schema, codec, decoder, teacher, generation, gate and audit."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock, patch

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

import consumer
from consumer.audit_report import _other_groups
from consumer.lineage import Run
from consumer.study import Study
from data_owner import attack_steps, authority, steps
from data_owner.attacks.reconstruction import BY_GROUP
from data_owner.learning import fitting, training
from data_owner.learning.image_encoder import ImageEncoder
from data_owner.learning.teacher import architecture_for, default_settings
from data_owner.measure import reference
from data_owner.measure_pictures import group_from_latents, hardest
from data_owner.node import Node
from data_owner.records.images import LARGEST_SIDE
from data_owner.records.ingest import MergedGroups
from data_owner.reports.image_report import _left_out
from protocol.artefacts import Artefact
from shared.architecture import ConvolutionalArchitecture
from shared.canonical import restore
from shared.card import Card
from shared.codec import encode
from shared.conform import conform
from shared.decoder import Decoder
from shared.errors import BadInput, PolicyRefusal, VerificationFailure
from shared.generation import Synthesiser
from shared.headlines import picture_section
from shared.image_classifier import ImageClassifier
from shared.image_codec import as_tensor, pixel_array, read_image
from shared.image_plots import ACROSS, group_grid, picture_grid
from shared.judge import equally_mixed, left_out
from shared.limits import LIMITS
from shared.metrics import outcome
from shared.schema import Group, Schema
from shared.scores import PictureScores
from shared.statistics import measure
from shared.student import StudentSettings
from tests.conftest import QUICK_STUDENT, Running
from tests.pictures import COLOURS, QUICK_CLASSIFIER, QUICK_IMAGES, SHAPES, SIDE, picture_settings, pictures


@pytest.fixture(scope="module", autouse=True)
def short_distillation() -> Iterator[None]:
    """A student, and a classifier, of tiny pictures need few steps."""
    with (
        patch("data_owner.steps.StudentSettings", QUICK_STUDENT),
        patch("consumer.steps.StudentSettings", QUICK_STUDENT),
        patch("shared.image_classifier.STEPS", QUICK_CLASSIFIER),
    ):
        yield


@pytest.fixture(scope="module")
def synthesiser(image_artefacts: dict[Artefact, bytes]) -> Synthesiser:
    return reference(image_artefacts, StudentSettings(steps=100))[0]


def test_pictures_come_back_to_the_pixel(image_records: fitting.Prepared) -> None:
    schema, table = image_records.schema, image_records.training
    given = restore(table, schema)
    pd.testing.assert_frame_equal(conform(schema, given), table)
    original = encode(schema, table).pixels
    assert original.shape == (len(table), 3, SIDE, SIDE)
    first = read_image(given["image"][0], "first")
    np.testing.assert_array_equal(first.transpose(2, 0, 1), original[0].numpy())


@pytest.mark.parametrize(("height", "width", "channels"), [(28, 28, 3), (64, 64, 3), (9, 13, 1), (8, 31, 3)])
def test_a_decoder_makes_pictures_of_exactly_the_schema_s_size(height: int, width: int, channels: int) -> None:
    sizes = {"height": height, "width": width, "channels": channels}
    architecture = ConvolutionalArchitecture(latent=4, groups=2, classes=3, maps=(8, 4), head=(8,), **sizes)
    model = Decoder(architecture)
    assert model(torch.zeros(5, 4), torch.zeros(5, 2)).shape == (5, channels, height, width)
    assert architecture.parameters == sum(part.numel() for part in model.parameters())
    pixels = torch.zeros(5, channels, height, width, dtype=torch.uint8)
    assert ImageEncoder(architecture, 8)(pixels, torch.zeros(5, 5)).shape == (5, 8)


@pytest.mark.parametrize(
    "change",
    [
        {"maps": (4096, 4096)},
        {"maps": (1, 4096), "height": 256, "width": 256},
        {"maps": (8,) * 9},
        {"maps": (0,)},
        {"maps": ()},
        {"height": 10**6},
        {"channels": 4},
        {"latent": 10**9},
        {"head": (4096, 4096)},
    ],
)
def test_an_architecture_beyond_the_limits_is_refused_before_anything_is_allocated(change: dict[str, object]) -> None:
    sound = {"latent": 4, "groups": 2, "classes": 3, "height": 64, "width": 64, "channels": 3, "maps": (8,)}
    ConvolutionalArchitecture.model_validate({**sound, "head": (8,)})
    with pytest.raises(ValidationError):
        ConvolutionalArchitecture.model_validate({**sound, "head": (8,), **change})


def test_a_decoder_of_another_size_than_the_schema_is_refused(image_artefacts: dict[Artefact, bytes]) -> None:
    wider = image_artefacts[Artefact.SCHEMA].replace(b'"width":12', b'"width":13')
    with pytest.raises(VerificationFailure, match="does not fit"):
        Decoder.from_bytes(image_artefacts[Artefact.DECODER], Schema.from_bytes(wider))


def test_a_release_of_pictures_stays_under_two_megabytes() -> None:
    """Sizes follow from the shapes alone: Colored-MNIST's, and faces of 64 pixels a side."""
    for side, classes in ((28, 10), (64, 2)):
        schema = Schema.from_bytes(_schema(side, classes))
        teacher = default_settings(schema)
        decoder = Decoder(ConvolutionalArchitecture.for_schema(schema, teacher.latent, teacher.maps, teacher.head))
        labels = torch.nn.functional.one_hot(torch.arange(900) % classes)
        latents = torch.randn(900, teacher.latent)
        statistics = measure(latents, torch.ones_like(latents), labels[:, :2], labels, seed=0)
        assert len(decoder.to_bytes()) + len(statistics.to_bytes()) < 1_900_000


def test_the_largest_side_is_the_largest_whose_decoder_is_within_the_limits() -> None:
    architecture_for(Schema.from_bytes(_schema(LARGEST_SIDE, 100)), default_settings(Schema.from_bytes(_schema(8, 2))))
    larger = Schema.from_bytes(_schema(LARGEST_SIDE + 1, 2))
    with pytest.raises(BadInput, match="decoder would be too large") as caught:
        architecture_for(larger, default_settings(larger))
    assert caught.value.field == "image"
    assert "--size" in caught.value.remedy


def test_no_more_pictures_are_held_out_of_training_than_go_through_at_once(image_records: fitting.Prepared) -> None:
    with (
        patch("data_owner.learning.training.MOST_PICTURES_VALIDATED", 7),
        patch("data_owner.learning.training._validate", wraps=training._validate) as validated,
    ):
        fitting.fit(image_records, picture_settings(pictures()).training, replace(QUICK_IMAGES, steps=5))
    assert len(validated.call_args.args[1]) == 7


def test_own_pictures_of_late_classes_alone_are_shown() -> None:
    schema = Schema.from_bytes(_schema(SIDE, 14))
    table = pd.DataFrame({"image": [bytes(3 * SIDE**2)] * 4, "s": "a", "y": ["12", "13"] * 2})
    grid = picture_grid(table, schema, "Own.")
    assert grid.svg.count("data:image/png;base64") == 4
    assert grid.alt == "Own. Rows, y: 12, 13."


def test_the_words_say_how_much_the_groups_of_one_latent_differ() -> None:
    def black_of_a_and_white_of_b(z: torch.Tensor, membership: torch.Tensor) -> torch.Tensor:
        return (40.0 * membership[:, 1] - 20.0).reshape(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE)

    painter = SimpleNamespace(
        schema=Schema.from_bytes(_schema(SIDE, 2)),
        decoder=Mock(side_effect=black_of_a_and_white_of_b, label=lambda z: z),
        latents=lambda rows, generator: torch.randn(rows, 2, generator=generator),
    )
    grid = group_grid(painter, "One latent.")  # type: ignore[arg-type]
    said = "Along a row the values of a pixel lie 255 of 255 apart on average. Rows, y: 0, 1. Columns: a, b."
    assert grid.alt == f"One latent. {said}"


def test_no_more_pictures_than_are_looked_at_are_joined() -> None:
    schema = Schema.from_bytes(_schema(SIDE, 2))
    table = pd.DataFrame({"image": [bytes(3 * SIDE**2)] * 100, "s": "a", "y": ["0", "1"] * 50})
    with patch("shared.image_plots.pixel_array", wraps=pixel_array) as shown:
        picture_grid(table, schema, "own")
    assert [len(call.args[0]) for call in shown.call_args_list] == [ACROSS, ACROSS]
    model = ImageClassifier(3, SIDE, SIDE, 2).eval()
    whole = model.features(table, schema)
    with (
        patch("shared.image_classifier.PART", 40),
        patch("shared.image_classifier.as_tensor", wraps=as_tensor) as seen,
    ):
        np.testing.assert_allclose(model.features(table, schema), whole, atol=1e-6)
    assert [len(call.args[0]) for call in seen.call_args_list] == [40, 40, 20]


def test_a_group_of_one_among_many_pictures_stops_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    group = torch.cat([torch.randint(2, (15_400,), generator=draw), torch.tensor([2])])
    z = torch.randn(len(group), 2, generator=draw)
    with pytest.warns(UserWarning, match="least populated"):  # of scikit-learn's folds
        found = group_from_latents(z, torch.zeros_like(group), group, seed=0)
    assert 0.4 < found["group_from_latent"] < 0.6


def test_a_group_that_is_never_predicted_is_shown_as_that() -> None:
    found = PictureScores(agreement=1.0, agreement_ceiling=1.0, groups=(), group_from_latent=0.0)
    assert len(picture_section(found).tables) == 2


def _schema(side: int, classes: int) -> bytes:
    labels = [str(index) for index in range(classes)]
    category = {"kind": "category", "dtype": "str", "optional": False}
    content = {
        "columns": [
            {"name": "image", "kind": "image", "height": side, "width": side, "channels": 3},
            {"name": "s", "role": "sensitive", "categories": ["a", "b"], **category},
            {"name": "y", "role": "target", "categories": labels, **category},
        ],
        "positive": "1",
        "groups": [{"values": ["a"], "share": 0.5}, {"values": ["b"], "share": 0.5}],
    }
    return json.dumps(content).encode()


def test_an_image_is_the_only_feature(image_records: fitting.Prepared) -> None:
    content = json.loads(image_records.schema.to_bytes())
    content["columns"].append({**content["columns"][0], "name": "second"})
    with pytest.raises(BadInput, match="only feature"):
        Schema.from_bytes(json.dumps(content).encode())


def test_training_is_repeatable_and_the_same_latent_differs_between_groups_in_colour_alone(
    image_records: fitting.Prepared, image_artefacts: dict[Artefact, bytes], synthesiser: Synthesiser
) -> None:
    again = fitting.artefacts(
        image_records.schema, fitting.fit(image_records, picture_settings(pictures()).training, QUICK_IMAGES)
    )
    assert again == image_artefacts
    z = synthesiser.latents(50, torch.Generator().manual_seed(0)).repeat_interleave(2, 0)
    made = torch.sigmoid(synthesiser.decoder(z, torch.eye(2).repeat(50, 1)))
    brightest = made.mean((2, 3))
    assert (brightest[0::2, 1] > brightest[0::2, 0]).float().mean() > 0.8  # green
    assert (brightest[1::2, 0] > brightest[1::2, 1]).float().mean() > 0.8  # red


def test_generation_of_pictures_is_repeatable_and_divisible(
    synthesiser: Synthesiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared import generation

    monkeypatch.setattr(generation, "LIMITS", LIMITS.__class__(image_block_rows=64))
    whole = synthesiser.table(3, 150)
    parts = [part for bounds in ((0, 70), (70, 150)) for part in synthesiser.rows(3, *bounds)]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
    assert len({len(picture) for picture in whole["image"]}) == 1


def test_held_out_pictures_are_drawn_so_that_s_tells_nothing_of_y(
    image_records: fitting.Prepared,
) -> None:
    test = equally_mixed(image_records.held_out, image_records.schema, seed=0)
    mixes = pd.crosstab(test["shape"], test["colour"])
    share = image_records.held_out["shape"].value_counts(normalize=True).sort_index()
    assert np.abs(mixes - np.outer(share, mixes.sum())).max(axis=None) < 2
    assert len(test) > 0


def test_a_small_group_leaves_the_others_their_test_pictures(image_records: fitting.Prepared) -> None:
    schema, table = image_records.schema, _cells_of(100)
    red = table["colour"] == "red"
    few = pd.concat([table[~red], table[red].groupby("shape").head(2)], ignore_index=True)
    counts = pd.crosstab((test := equally_mixed(few, schema, seed=0))["shape"], test["colour"])
    assert counts["green"].tolist() == [100, 100, 100]
    assert counts["red"].tolist() == [2, 2, 2]
    biased = pd.concat([table[~red], table[red].iloc[::2], table[red & (table["shape"] == "bar")]], ignore_index=True)
    counts = pd.crosstab((test := equally_mixed(biased, schema, seed=0))["shape"], test["colour"])
    assert (counts / counts.sum()).T.round(2).drop_duplicates().shape[0] == 1
    assert counts["green"]["bar"] == 100
    without = few[(few["colour"] == "green") | (few["shape"] != "bar")].reset_index(drop=True)
    pd.testing.assert_frame_equal(equally_mixed(without, schema, seed=0), without)


def test_a_group_that_no_model_is_tested_on_is_named(image_records: fitting.Prepared) -> None:
    groups = (*image_records.schema.groups, Group(values=("blue",), share=0.1))
    schema, table = image_records.schema.model_copy(update={"groups": groups}), _cells_of(10)
    bars = table[table["shape"] == "bar"].assign(colour="blue")
    for held_out in (table, pd.concat([table, bars], ignore_index=True)):
        assert left_out(held_out, schema) == ("blue",)
        assert _left_out(held_out, schema).endswith("tested on groups that lack a class here: blue.")
    every = pd.concat([table, table[table["colour"] == "red"].assign(colour="blue")], ignore_index=True)
    assert _left_out(every, schema) == ""


def _cells_of(pictures_each: int) -> pd.DataFrame:
    """So many rows of each shape in each colour, without pictures."""
    cells = pd.MultiIndex.from_product((SHAPES, COLOURS), names=("shape", "colour")).to_frame(index=False)
    return cells.loc[cells.index.repeat(pictures_each)].reset_index(drop=True).astype("str")


def test_the_hardest_cells_are_chosen_on_one_half_and_scored_on_the_other(image_records: fitting.Prepared) -> None:
    schema, table = image_records.schema, _cells_of(4)
    truth = outcome(table, schema)
    cell = table.index[(table["shape"] == "post") & (table["colour"] == "red")]
    original, synthetic = truth.copy(), truth.copy()
    original[cell[2:]] += 1
    synthetic[cell[3:]] += 1
    assert hardest(table, synthetic, original, schema) == (0.75, 0.5)
    assert hardest(_cells_of(1), truth[::4], truth[::4], schema) is None


def test_errors_of_mere_chance_make_no_cell_hard(image_records: fitting.Prepared) -> None:
    schema, table = image_records.schema, _cells_of(60)
    truth, draw = outcome(table, schema), np.random.default_rng(0)
    found = [hardest(table, *(truth + (draw.random(len(truth)) < 0.1) for _ in range(2)), schema) for _ in range(200)]
    assert np.mean(found, axis=0) == pytest.approx([0.9, 0.9], abs=0.01)


def test_pictures_are_served_distilled_generated_and_audited(image_node: Path, tmp_path: Path) -> None:
    running = Running(Node(image_node))
    try:
        study = Study(tmp_path / "study")
        enrolled = consumer.enrol(study.folder, invitation=running.node.invitation)
        authority.decide(
            running.node, enrolled.fingerprint, authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC)
        )
        consumer.enrol(study.folder)
        fetched = consumer.fetch(study.folder)
    finally:
        running.stop()
    assert fetched.received < 2_000_000
    consumer.distill(study.folder)
    consumer.generate(study.folder, rows=300)
    table = pd.read_parquet(study.folder / "synthetic.parquet")
    assert read_image(table["image"][0], "first").shape == (SIDE, SIDE, 3)
    consumer.generate(study.folder, rows=300, shard="2/2", out=tmp_path / "half")
    labels = pd.read_csv(tmp_path / "half" / "labels.csv")
    assert labels["shape"].tolist() == table["shape"].tolist()[150:]
    assert (tmp_path / "half" / labels["file"][0]).read_bytes() == table["image"][150]
    with pytest.raises(BadInput, match="there already"):
        consumer.generate(study.folder, rows=10, out=tmp_path / "half")
    with pytest.raises(BadInput, match="pictures do not fit"):
        consumer.generate(study.folder, rows=10, out=tmp_path / "rows.csv")
    found = consumer.audit(study.folder, synthetic=tmp_path / "half", real=_real(tmp_path))
    assert found.report.verdicts[0].value == "verified"
    assert found.on_own_records is not None
    assert ("Groups", "as recorded") in found.report.facts
    assert not any("groups as recorded, which" in verdict.text for verdict in found.report.verdicts)
    titles = [section.title for section in found.report.sections]
    assert {"Pictures", "On synthetic pictures alone", "On your own pictures", "Latents"} <= set(titles)
    for title in ("On synthetic pictures alone", "On your own pictures"):
        assert len(found.report.sections[titles.index(title)].tables[0].rows) == 3, "scores, ceiling and floor"
    html = study.report.read_text("utf-8")
    assert html.count("data:image/png;base64") > 30
    assert "http://" not in html.replace("http://www.w3.org", "")
    with patch("consumer.reading.AUDITED_ROWS", 100):
        found = consumer.audit(study.folder, synthetic=tmp_path / "half", real=_real(tmp_path))
    assert ("Synthetic rows", "100 of 150, drawn at random") in found.report.facts
    assert ("Your own rows", "100 of 120, drawn at random") in found.report.facts


def test_fairness_that_was_measured_on_pictures_with_groups_as_recorded_is_not_said_of_balanced_ones(
    image_artefacts: dict[Artefact, bytes],
) -> None:
    schema = Schema.from_bytes(image_artefacts[Artefact.SCHEMA])
    recorded, balanced = (_other_groups(Run(0, 0, 100, balanced=each), schema) for each in (False, True))
    assert recorded == []
    assert balanced == ["The owner's model learned from rows with groups as recorded, which these are not."]


def test_a_column_named_as_the_pictures_files_are_is_refused_at_once(tmp_path: Path) -> None:
    table = pictures(120).rename(columns={"colour": "file"})
    with pytest.raises(BadInput, match='no other column can be named "file"'):
        steps.init(tmp_path / "hospital", data=table, target="shape", sensitive=("file",))
    own = pictures(300).rename(columns={"image": "file"})
    steps.init(tmp_path / "clinic", data=own, target="shape", sensitive=("colour",))


def _real(place: Path) -> Path:
    pictures(120, seed=5).to_parquet(place / "own.parquet")
    return place / "own.parquet"


def test_the_gate_of_pictures_measures_labels_groups_and_latents(tmp_path: Path) -> None:
    path = tmp_path / "hospital"
    table = pictures()
    steps.init(path, data=table, target="shape", sensitive=("colour",))
    owner_toml = path / "owner.toml"
    settings = owner_toml.read_text("utf-8")
    # what so short a training reaches, whatever order a processor adds in
    for floor, lower in (("density_of_real = 0.6", "density_of_real = 0.4"), ("original = 0.9", "original = 0.7")):
        assert floor in settings
        settings = settings.replace(floor, lower)
    owner_toml.write_text(settings, "utf-8")
    merged, prepare = MergedGroups(1, 0.0125, ("red",)), steps.prepare
    with patch("data_owner.steps.prepare", lambda *of: replace(prepare(*of), merged=merged)):
        gated = _trained_and_gated(path)
    measured, found = gated.measured, gated.measured.pictures
    assert found is not None
    assert found.group_from_latent_in_class is not None
    assert found.group_commonest_in_class == pytest.approx(0.8, abs=0.08)
    assert {group.label for group in found.groups} == {"green", "red"}
    assert found.agreement_ceiling > 0.8
    assert measured.card.pictures is not None
    assert measured.card.pictures.groups == (), "fewer pictures than may be spoken of"
    assert round(found.agreement, 2) == measured.card.pictures.agreement
    assert Node(path).report.read_text("utf-8").count("data:image/png;base64") > 60
    titled = {section["title"]: section for section in json.loads(Node(path).figures.read_text("utf-8"))["sections"]}
    assert titled["Classes and groups"]["tables"][-1]["rows"][0][::2] == [1, 0.0125]
    card = Card.from_bytes((path / "releases" / "1" / "card.json").read_bytes())
    assert [verdict.attack for verdict in card.attacks] == ["reconstruction", "density ratio"]
    assert any(result.aim.startswith(BY_GROUP) for result in gated.battery.results)
    assert not gated.failures
    with pytest.raises(PolicyRefusal, match="tables alone"):
        attack_steps.attack(path, shadows=2)


def _trained_and_gated(path: Path) -> steps.Gated:
    """As `train` and `gate` do it, with a short training."""
    with (
        patch("data_owner.learning.fitting.default_settings", lambda schema: QUICK_IMAGES),
        patch("data_owner.measure_pictures.default_settings", lambda schema: QUICK_IMAGES),
    ):
        steps.train(path)
        return steps.gate(path)
