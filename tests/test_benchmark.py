"""The comparison: the same folds for all, each cell once, and pairwise forms that agree."""

import dataclasses
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from data_owner.benchmark import cells, comparison, private, registry
from data_owner.benchmark.baselines import fairlearn_methods, repaired
from data_owner.benchmark.baselines.fair_vae import Fitted, kept_as
from data_owner.benchmark.baselines.matrix import BINS, Bins, Matrix
from data_owner.benchmark.cells import Cell, Key, Study, cell, content_key, judge, split
from data_owner.benchmark.comparison import Row, Spread
from data_owner.benchmark.comparison_report import as_report
from data_owner.benchmark.pairwise import dependence_by_blocks, dependence_by_kernel
from data_owner.benchmark.penalty import batch, exact
from data_owner.benchmark.plots import frontier
from data_owner.benchmark.portrait import importance
from data_owner.benchmark.run import Request, Written, run
from data_owner.benchmark.speed import measured
from data_owner.benchmark.systems import Fold, Rows
from data_owner.benchmark.table import cell_text
from data_owner.datasets import load
from data_owner.settings import Policy
from shared.codec import group_positions, group_sizes
from shared.errors import BadInput
from shared.metrics import Integers, design_matrix, outcome, scores
from shared.progress import quiet
from shared.schema import MERGED, Schema
from shared.sketch import draw_frequencies, plug_in_dependence, sketch

COMPAS = Study(dataset="compas", sensitive=("sex",), folds=5, effort=0.01)


def test_the_two_pairwise_forms_have_one_value() -> None:
    mean, variance, group = batch(120, 5)
    blocks = dependence_by_blocks(mean.double(), variance.double(), group, 5)
    kernel = dependence_by_kernel(mean.double(), variance.double(), one_hot(group, 5).double())
    assert float(blocks) == pytest.approx(float(kernel), rel=1e-9)
    assert float(blocks) > 0.0


def test_the_sketch_estimates_its_own_closed_form() -> None:
    mean, variance, group = batch(200, 2)
    membership = one_hot(group, 2).float()
    frequencies = draw_frequencies(60_000, mean.shape[1], generator=torch.Generator().manual_seed(0))
    estimate = plug_in_dependence(sketch(mean, membership, frequencies, variance))
    assert float(estimate) == pytest.approx(float(exact(mean, variance, membership)), rel=0.05)


def test_the_speed_of_every_step_is_measured() -> None:
    table = measured(COMPAS, (300, 900))
    step, seconds, processor, rate, memory = (list(column.cells) for column in table.columns)
    assert step == [
        "loading optimisers",
        "teacher, 4,937 records",
        "student",
        "300 rows to Parquet",
        "900 rows to Parquet",
    ]
    assert all(float(text) >= 0.0 for text in [*map(str, seconds), *map(str, processor)])
    assert rate[:3] == ["", "", ""]
    assert all(int(str(text).replace(",", "")) > 0 for text in [*rate[3:], *memory])


def test_folds_of_a_seed_hold_out_every_record_once() -> None:
    parts = [split(COMPAS, 0, fold) for fold in range(COMPAS.folds)]
    assert sum(len(held_out) for _, _, held_out in parts) == 6172
    assert all(len(training) + len(held_out) == 6172 for _, training, held_out in parts)


def test_small_groups_of_two_columns_together_are_merged() -> None:
    raw = load("support2")
    recorded = raw.groupby(["race", "income"], dropna=False).size()
    assert recorded.min() == 1
    schema, table = cells.prepared("support2", ("race", "income"))
    sizes = group_sizes(schema, table)
    assert len(table) == len(raw)
    assert len(sizes) < len(recorded)
    assert sizes.min() >= Policy().minimum_count


@pytest.mark.parametrize("name", ["fair4free", "fairdisco", "threshold-parity"])
def test_two_sensitive_columns_are_compared_as_one(name: str, tmp_path: Path) -> None:
    study = COMPAS.model_copy(update={"sensitive": ("sex", "race")})
    found = cell(Key(study=study, system=name, seed=0, fold=0), tmp_path)
    schema, _, held_out = split(study, 0, 0)
    assert found.failure is None
    assert len(found.forest) == len(held_out)
    assert len(schema.groups) == 4


def test_each_seed_holds_out_other_people() -> None:
    first, again, other = (split(COMPAS, seed, 0)[2] for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_cell_is_made_once_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key(study=COMPAS, system="threshold-parity", seed=0, fold=0)
    first = cell(key, tmp_path)
    assert set(first.forest) == {"0", "1"}

    def never(*arguments: object) -> Cell:
        raise AssertionError("judged again")

    monkeypatch.setattr(cells, "judge", never)
    assert cell(key, tmp_path) == first


PARITY = "demographic parity ratio"
OURS = {"fair4free", "fair4free-odds", "fair4free-unbalanced", *(system.name for system in registry.PRIVATE)}


@pytest.mark.parametrize(
    ("edited", "run_again"),
    [
        ("data_owner.benchmark.baselines.fairdisco", {"fairdisco"}),
        ("data_owner.benchmark.baselines.fairgan", {"fairgan"}),
        ("data_owner.benchmark.fair4free", OURS | {"repaired"}),
        ("data_owner.learning.teacher", OURS | {"repaired"}),
        ("shared.student", OURS | {"repaired"}),
        ("data_owner.attacks.attack", set()),
        ("data_owner.datasets.colored_mnist", set()),
    ],
)
def test_a_changed_system_alone_is_run_again(edited: str, run_again: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> dict[str, str]:
        every = registry.chosen(())
        return {each.name: content_key(Key(study=COMPAS, system=each.name, seed=0, fold=0), each) for each in every}

    before, source = keys(), cells._source
    monkeypatch.setattr(cells, "_source", lambda name: source(name) + (b"#" if name == edited else b""))
    after = keys()
    assert {name for name in before if before[name] != after[name]} == run_again


def test_a_cell_made_on_another_kind_of_device_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    key, found = Key(study=COMPAS, system="fairdisco", seed=0, fold=0), registry.chosen(("fairdisco",))[0]
    made = []
    for has_gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        made.append(content_key(key, found))
    assert made[0] != made[1]


@pytest.mark.parametrize(
    ("system", "module", "constant"),
    [
        ("decaf", "data_owner.benchmark.baselines.decaf", "PROCESS"),
        ("decaf", "data_owner.benchmark.baselines.decaf", "REQUIREMENTS"),
        ("fair4free-eps1", "data_owner.datasets", "CODEBOOK"),
    ],
)
def test_a_changed_file_that_a_system_names_makes_its_cells_anew(
    system: str, module: str, constant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, found = Key(study=COMPAS, system=system, seed=0, fold=0), registry.chosen((system,))[0]
    before = content_key(key, found)
    edited = tmp_path / "edited"
    edited.write_bytes(getattr(sys.modules[module], constant).read_bytes() + b"\n")
    monkeypatch.setattr(f"{module}.{constant}", edited)
    cells._source.cache_clear()
    after = content_key(key, found)
    cells._source.cache_clear()
    assert before != after


@pytest.mark.parametrize(
    ("module", "used"),
    [
        ("data_owner.benchmark.baselines.repaired", "data_owner.benchmark.fair4free"),
        ("data_owner.benchmark.portrait", "shared.latent_plots"),
    ],
)
def test_a_module_whose_constants_alone_are_used_counts_too(
    module: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, source = cells.sources(module), cells._source
    monkeypatch.setattr(cells, "_source", lambda name: source(name) + (b"#" if name == used else b""))
    assert cells.sources(module) != before


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.just(0.0), st.just(np.nan), st.floats(-1e6, 1e6)), min_size=20, max_size=200))
def test_a_value_drawn_from_a_bin_is_a_training_value_of_that_bin(given_values: list[float]) -> None:
    values = np.array([0.0, *given_values])
    bins = Bins.of(values)
    place = bins.positions(values)
    assert place.max() <= len(bins.edges) + 1 <= BINS
    drawn = bins.draw(place, np.random.default_rng(0).random(len(values)))
    assert (bins.positions(drawn) == place).all()
    assert np.isin(drawn[~np.isnan(drawn)], values).all()


@pytest.mark.parametrize("dataset", ["compas", "support2"])
def test_no_two_folds_share_a_fair_vae(dataset: str) -> None:
    names = set()
    for sensitive in ("sex", "race"):
        study = Study(dataset=dataset, sensitive=(sensitive,), folds=5)
        for number in range(study.folds):
            schema, training, held_out = split(study, 0, number)
            fold = Fold(dataset, schema, training, held_out, 0, 1.0, Path())
            records = Matrix(schema, training).encode(training)
            names.add(kept_as(fold, records, torch.from_numpy(group_positions(schema, training))))
    assert len(names) == 10


def test_a_fair_vae_that_is_taken_over_counts_as_it_did_when_it_was_trained(tmp_path: Path) -> None:
    schema, training, held_out = split(COMPAS, 0, 0)
    first, second = (Fold("compas", schema, training, held_out, 0, COMPAS.effort, tmp_path) for _ in range(2))
    trained, taken_over = Fitted(first).model.state_dict(), Fitted(second).model.state_dict()
    assert all(torch.equal(trained[name], taken_over[name]) for name in trained)
    assert first.reused_seconds == []
    assert len(second.reused_seconds) == 1
    assert second.reused_seconds[0] > 0.0


SAME_BUT_FOR_EPSILON = {"fair4free-eps3", "fair4free-eps8", "microdata-eps1"}
NEEDS_AN_ENVIRONMENT = {"decaf"}


@pytest.mark.parametrize(
    "name", [one.name for one in registry.SYSTEMS if one.name not in SAME_BUT_FOR_EPSILON | NEEDS_AN_ENVIRONMENT]
)
def test_every_system_truly_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that make rows make finite ones; what a model learns of them is not asked here."""

    def readable(rows: pd.DataFrame, held_out: pd.DataFrame, schema: Schema, model: object) -> Integers:
        assert np.isfinite(design_matrix(rows, schema)).all()
        return outcome(held_out, schema)

    monkeypatch.setattr(cells, "predict", readable)
    monkeypatch.setattr(cells, "synthetic_only", lambda rows, schema: None)
    found = cell(Key(study=COMPAS, system=name, seed=0, fold=0), tmp_path)
    assert found.failure is None
    assert len(found.forest) == len(found.boosting) == len(split(COMPAS, 0, 0)[2])
    made_rows = isinstance(registry.chosen((name,))[0], registry.Generator)
    assert (found.fidelity is not None) == made_rows


def test_a_system_that_cannot_run_shows_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = cell(Key(study=COMPAS, system="decaf", seed=0, fold=0), tmp_path)
    assert found.failure == "its environment is missing: make decaf"


@pytest.mark.parametrize(
    ("name", "constraint"), [("threshold-parity", "demographic_parity"), ("threshold-odds", "equalized_odds")]
)
def test_a_threshold_optimizer_is_held_to_what_its_row_says(
    name: str, constraint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fairlearn_methods, "_threshold_optimizer", lambda fold, model, constraint: constraint)
    assert registry.chosen((name,))[0].predict(None, None) == constraint  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "epsilon"),
    [("fair4free-eps8", 8.0), ("fair4free-eps3", 3.0), ("fair4free-eps1", 1.0), ("microdata-eps1", 1.0)],
)
def test_a_private_system_spends_what_its_row_says(name: str, epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(fold: Fold, epsilon: float) -> None:
        raise InterruptedError(epsilon)

    monkeypatch.setattr(private, "microdata", stop)
    with pytest.raises(InterruptedError) as stopped:
        registry.chosen((name,))[0].generate(None)  # type: ignore[union-attr]
    assert stopped.value.args == (epsilon,)


def test_private_rows_of_a_category_that_the_comparison_lacks_are_left_out() -> None:
    """Noise may leave so few of a category that the release merges it."""
    schema, training, held_out = split(COMPAS, 0, 0)
    fold = Fold("compas", schema, training, held_out, 0, 1.0, Path())
    merged = training.assign(race=training["race"].mask(training.index < 7, MERGED))
    pd.testing.assert_frame_equal(private.readable(merged, fold), training.iloc[7:].reset_index(drop=True))


def _few_for_models(fold: Fold) -> Rows:
    return Rows(fold.training.iloc[:60], fold.training)


def test_density_and_columns_are_of_rows_like_the_records_and_not_of_those_for_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "predict", lambda rows, held_out, schema, model: outcome(held_out, schema))
    monkeypatch.setattr(cells, "synthetic_only", lambda rows, schema: None)
    system = registry.Generator("few", "Few", _few_for_models)
    found = judge(system, Key(study=COMPAS, system="few", seed=0, fold=0), tmp_path)
    assert found.fidelity is not None
    assert found.fidelity.coverage > 0.9
    assert found.columns is not None
    assert max(column.distance for column in found.columns.columns) < 0.05


def test_a_mean_over_seeds_stands_with_half_of_its_range() -> None:
    assert cell_text(Spread.of([0.93, 0.95, 0.97])) == "0.950 ± 0.020"
    assert cell_text(Spread.of([0.95])) == "0.950"
    assert cell_text(Spread.of([0.996, 0.9969])) == "0.996", "half of it is no thousandth"


def test_each_downstream_model_is_scored_by_its_own_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "ceiling", lambda test, predicted, schema, seed: scores(test, predicted, schema))
    schema, _, test = split(COMPAS, 0, 0)
    one = Cell(forest="0" * len(test), boosting="1" * len(test))
    row = comparison._row(registry.chosen(("original",))[0], {0: [one]}, {0: test}, schema)
    assert row.forest is not None
    assert row.boosting is not None
    assert (row.forest.recall.mean, row.boosting.recall.mean) == (0.0, 1.0)


def _nothing(fold: Fold) -> pd.DataFrame:
    return fold.training.iloc[:0]


def _broken(fold: Fold) -> pd.DataFrame:
    raise TypeError("a package's own mistake")


def _strange(fold: Fold) -> pd.DataFrame:
    return fold.training[["sex"]]


@pytest.mark.parametrize(
    ("generate", "reason"),
    [
        (_nothing, "made no rows"),
        (_broken, "TypeError while it ran: a package's own mistake"),
        (_strange, "KeyError while it ran: "),
    ],
)
def test_a_system_that_fails_in_any_way_shows_it_and_stops_nobody_else(
    generate: Callable[[Fold], pd.DataFrame], reason: str, tmp_path: Path
) -> None:
    key = Key(study=COMPAS, system="bad", seed=0, fold=0)
    failure = judge(registry.Generator("bad", "Bad", generate), key, tmp_path).failure
    assert failure is not None
    assert failure.startswith(reason)


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, Path]:
    """A quick comparison with a sweep of one point, which is asked for by name too, and where it was written."""
    asked = ("threshold-parity", "repaired", "fair4free", "beta-0-recorded")
    request = Request("compas", ("sex",), asked, folds=5, seeds=3, sweep=True, quick=True)
    place = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            registry, "SWEEP", {"over β": registry.SWEEP["Fair4Free, recorded labels, β from 0 to 5,000"][:1]}
        )
        patch.setattr("data_owner.benchmark.run.QUICK_EFFORT", 0.005)
        return run(request, place, workers=1, progress=quiet), place


def test_a_quick_comparison_is_written_as_html_json_and_markdown(looked_at: tuple[Written, Path]) -> None:
    found, place = looked_at
    forests = {system.name: system.forest for system in found.comparison.systems}
    repaired, original = forests["repaired"], forests["original"]
    assert original is not None
    assert repaired is not None
    assert original.demographic_parity_ratio.mean < 0.75
    assert repaired.demographic_parity_ratio.mean > 0.85
    assert repaired.accuracy.mean > original.accuracy.mean - 0.02
    assert not found.comparison.is_complete
    assert "A quick look with fewer rows and steps, not a result." in found.markdown
    assert "On real people, 1 of 5 folds." in found.report.read_text("utf-8")
    assert "positive class 1" in found.markdown
    assert "DPR, s permuted" in found.markdown
    assert "| age |" in found.markdown.partition("| column | distance |")[2]
    intervals = next(row.resampled for row in found.comparison.systems if row.name == "repaired")
    assert intervals is not None
    assert intervals.accuracy.low < repaired.accuracy.mean < intervals.accuracy.high
    assert f"{intervals.accuracy.low:.3f} to {intervals.accuracy.high:.3f}" in found.markdown
    assert f"{intervals.accuracy.low:.3f} to {intervals.accuracy.high:.3f}" in found.report.read_text("utf-8")
    assert [
        line.split(" |")[0] for line in found.markdown.splitlines() if ": ceiling" in line or ": floor" in line
    ] == [
        "| original data: ceiling of density and coverage",
        "| constant classifier: floor",
    ]
    assert {path.suffix for path in place.iterdir() if path.is_file()} == {".html", ".json", ".md", ".svg"}
    assert ElementTree.parse(found.report.with_suffix(".svg")).getroot().tag.endswith("svg")
    assert "http" not in found.report.read_text(encoding="utf-8").replace("http://www.w3.org", "")


def _points(text: str, header: str) -> dict[str, tuple[float, float]]:
    """Accuracy and DPR of each row of the table under this header."""
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    lines = text.partition(f"{header}\n")[2].partition("\n\n")[0].splitlines()[1:]
    rows = [dict(zip(columns, (cell.strip() for cell in line.strip("|").split("|")), strict=True)) for line in lines]
    return {row["trained on"]: (float(row["accuracy"]), float(row["DPR"])) for row in rows}


def test_the_pictures_of_readme_and_results_show_their_tables() -> None:
    root = Path(__file__).parent.parent
    results = root / "data_owner/benchmark/RESULTS.md"
    systems = _points(
        (root / "README.md").read_text("utf-8"), "| trained on | DPR | EOR | accuracy | density | coverage |"
    )
    swept = _points(results.read_text("utf-8"), "| trained on | DPR | EOR | accuracy | F1 | density | coverage |")
    lines = {
        labels: [place for name, place in swept.items() if name.endswith(labels)]
        for labels in ("recorded labels", "repaired labels")
    }
    assert (len(systems), [len(line) for line in lines.values()]) == (14, [4, 4])
    for name, drawn in (
        ("compas-sex", frontier({}, systems, PARITY, "")),
        ("frontier", frontier(lines, systems, PARITY, "")),
    ):
        assert drawn.svg == (results.parent / f"{name}.svg").read_text("utf-8")


def test_the_page_says_why_a_system_failed_wherever_its_row_stands(looked_at: tuple[Written, Path]) -> None:
    comparison = looked_at[0].comparison
    first, second, *others = comparison.systems
    failed = comparison.model_copy(
        update={"systems": (first, Row(name="x", title=second.title, failure="it knows two groups only"), *others)}
    )
    assert "it knows two groups only" in as_report(failed).to_html()


def test_repaired_records_are_as_many_and_as_balanced_as_our_rows(tmp_path: Path) -> None:
    study = COMPAS.model_copy(update={"sensitive": ("race",)})
    schema, training, held_out = split(study, 0, 0)
    fold = Fold("compas", schema, training, held_out, 0, 0.25, tmp_path)
    rows = repaired.generate(fold)
    shares = group_sizes(schema, training) / len(training)
    assert (len(rows.for_models), len(rows.like_training)) == (fold.rows, len(training))
    assert group_sizes(schema, rows.for_models) / fold.rows == pytest.approx((shares + 0.5) / 2.0, abs=0.01)
    assert group_sizes(schema, rows.like_training).tolist() == group_sizes(schema, training).tolist()


@pytest.mark.parametrize(("asked", "budgets"), [((), False), (("fair4free-eps1",), True)])
def test_a_quick_look_draws_under_no_budget_unless_it_is_asked_to(
    asked: tuple[str, ...], budgets: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        pass

    def refuse(study: Study, systems: tuple[registry.System, ...], *of: object, **others: object) -> None:
        assert any(system in registry.PRIVATE for system in systems) == budgets
        raise Asked

    monkeypatch.setattr("data_owner.benchmark.run.compare", refuse)
    with pytest.raises(Asked):
        run(Request("compas", ("sex",), asked, 5, 1, sweep=False, quick=True), tmp_path, workers=1, progress=quiet)


def test_a_look_at_a_few_systems_does_not_take_the_place_of_the_whole() -> None:
    whole = Request("compas", ("sex",), (), folds=5, seeds=1, sweep=False, quick=False)
    others = [
        *({"quick": True}, {"systems": ("original",)}, {"systems": ("fairgan",)}),
        *({"seeds": 3}, {"folds": 2}, {"sweep": True}),
    ]
    names = [whole.name, *(dataclasses.replace(whole, **change).name for change in others)]  # type: ignore[arg-type]
    assert names[0] == "compas-sex-folds5-seeds1"
    assert len(set(names)) == 7
    some, again = (dataclasses.replace(whole, systems=names) for names in (("a", "b"), ("b", "a")))
    assert some.name == again.name


def test_every_system_of_a_frontier_has_a_look_of_its_own() -> None:
    points = {system.title: (0.6, 0.9) for system in registry.SYSTEMS}
    svg = frontier({}, points, "parity", "Parity.").svg
    legend = svg[svg.index("<!-- parity -->") :]
    looks = re.findall(r'<use [^>]*xlink:href="(#[^"]+)"[^>]*style="fill: (#[0-9a-f]+)', legend)
    assert len(looks) == len(set(looks)) == len(points)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [({"systems": ("magic",)}, "choose from"), ({"sensitive": ("age",)}, "choose from"), ({"dataset": "x"}, "choose")],
)
def test_an_unknown_name_is_refused_with_the_known_ones(change: dict[str, object], remedy: str, tmp_path: Path) -> None:
    request = Request("compas", ("sex",), (), folds=5, seeds=1, sweep=False, quick=True)
    with pytest.raises(BadInput) as refused:
        run(dataclasses.replace(request, **change), tmp_path, workers=1, progress=quiet)  # type: ignore[arg-type]
    assert remedy in refused.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_killed_comparison_leaves_no_process_and_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from data_owner.cli import main; main()"]
    command += ["benchmark", "compas", "--sensitive", "sex", "--system", "original", "--folds", "2"]
    command += ["--workers", "1", "--seeds", "1", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    kept = tmp_path / "cells"
    while not list(kept.glob("*.json")):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.communicate(timeout=60)  # the pipe ends when the last process that could write to it is gone
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    found = run(Request("compas", ("sex",), ("original",), 2, 1, False, False), tmp_path, 1, quiet)
    assert found.comparison.is_complete
    assert len(list(kept.glob("*.json"))) == 2 * len(registry.REFERENCES)
    assert all(path.stat().st_mtime_ns == made for path, made in before.items())


def test_the_sweep_and_the_portrait_are_in_the_report(looked_at: tuple[Written, Path]) -> None:
    found, _ = looked_at
    drawn = found.comparison.portrait
    assert drawn is not None
    assert len(drawn.teacher) == len(drawn.student)
    assert set(drawn.original) == {column.name for column in split(COMPAS, 0, 0)[0].columns} - {"two_year_recid"}
    html = found.report.read_text(encoding="utf-8")
    assert "over β" in html
    assert "Latents of teacher and student" in html
    assert "β 0, recorded labels" in found.markdown
    assert "repeated values kept" in found.markdown


def test_importance_finds_the_column_that_matters() -> None:
    schema, training, held_out = split(COMPAS, 0, 0)
    telling = [table.assign(sex=np.where(outcome(table, schema), "Male", "Female")) for table in (training, held_out)]
    found = importance(*telling, schema, 0)
    assert max(found, key=lambda name: found[name]) == "sex"
    assert found["sex"] > 0.3
