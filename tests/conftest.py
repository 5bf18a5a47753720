"""A small hospital: 600 invented patients with every kind of column, and a node trained on them once."""

from __future__ import annotations

import os

# several processes share the cores here
os.environ.setdefault("OMP_NUM_THREADS", "1")
# what is printed is folded at the terminal's width
os.environ["COLUMNS"] = "80"

import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consumer import channel
from data_owner import authority, decisions, digests, release, steps
from data_owner.attacks.battery import Battery
from data_owner.learning import fitting
from data_owner.learning.teacher import TeacherSettings
from data_owner.measure import measure, reference
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.records.differencing import Rows, view_of
from data_owner.records.disclosure import disclose
from data_owner.records.infer import infer
from data_owner.records.ingest import Records, ingest
from data_owner.release_status import Status
from data_owner.serving import server
from data_owner.serving.server_certificate import ServerCertificate
from data_owner.settings import OwnerSettings
from protocol.artefacts import Artefact
from shared import folder, latent_plots, sealed_key
from shared.clock import now
from shared.limits import LIMITS
from shared.schema import Schema
from shared.student import StudentSettings
from shared.table import read_table
from tests.pictures import QUICK_CLASSIFIER, QUICK_IMAGES, picture_settings, pictures

QUICK = TeacherSettings(steps=120, batch=128, encoder_hidden=(48,), hidden=(32,), head=(16,), latent=6)
QUICK_STUDENT = partial(StudentSettings, steps=100)


def patients(rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """Numbers with zeros, whole numbers, a date, categories, a flag and gaps; the outcome leans on group and age."""
    draw = np.random.default_rng(seed)
    group = draw.choice(["north", "south", "east"], rows, p=[0.5, 0.3, 0.2])
    age = draw.integers(18, 90, rows)
    stay = np.where(draw.random(rows) < 0.4, 0.0, np.round(draw.gamma(2.0, 3.0, rows), 2))
    lactate = np.round(draw.normal(2.0, 0.7, rows), 1)
    lactate[draw.random(rows) < 0.3] = np.nan
    ward = pd.Series(draw.choice(["surgery", "medicine", "intensive care"], rows), dtype="str")
    ward[draw.random(rows) < 0.1] = None
    days = draw.integers(0, 900, rows)
    risk = 0.03 * (age - 55) + 0.6 * (group == "south") + 0.2 * np.nan_to_num(lactate)
    return pd.DataFrame(
        {
            "age": age,
            "days in ward": stay,
            "lactate": lactate,
            "ward": ward,
            "admitted": pd.Timestamp("2021-01-01") + pd.to_timedelta(days, unit="D").astype("timedelta64[s]"),
            "ventilated": draw.random(rows) < 0.3,
            "région": pd.Series(group, dtype="str"),
            "died": (draw.random(rows) < 1 / (1 + np.exp(-risk))).astype(int),
        }
    )


def with_merged_groups() -> tuple[pd.DataFrame, Schema, pd.DataFrame]:
    """A table in which two of the groups of two columns are too small, its schema, and it in canonical form."""
    table = patients()
    table["sex"] = pd.Series(np.where(np.arange(600) % 2, "f", "m"), dtype="str")
    east = table.index[table["région"] == "east"]
    table.loc[east, "sex"] = ["f"] * 6 + ["x"] * 6 + ["m"] * (len(east) - 12)
    settings = infer(table, name="small", source="frame", target="died", sensitive=("région", "sex"), positive="1")
    settings = settings.model_copy(update={"policy": settings.policy.model_copy(update={"small_groups": "merge"})})
    return table, *disclose(ingest(table, settings), 10)


def settings_for(table: pd.DataFrame, **policy: object) -> OwnerSettings:
    found = infer(table, name="small", source="frame", target="died", sensitive=("région",), positive="1")
    return found.model_copy(update={"policy": found.policy.model_copy(update=policy)})


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> None:
    """Also where the tests run in the background or under nohup, which have programs ignore some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def once_and_few() -> Iterator[None]:
    """In this process a passphrase is stretched once for each salt, of latents few are drawn flat, and who is cut off
    soon tries again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_key, "_cipher", cache(sealed_key._cipher))
        patch.setattr(latent_plots, "POINTS", 40)
        patch.setattr(channel, "LIMITS", replace(LIMITS, first_wait_seconds=0.01))
        yield


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    return patients()


@pytest.fixture(scope="session")
def records(table: pd.DataFrame) -> Records:
    return ingest(table, settings_for(table))


@pytest.fixture(scope="session")
def disclosed(records: Records) -> tuple[Schema, pd.DataFrame]:
    """The schema that may leave and the canonical table in its categories."""
    return disclose(records, 10)


@pytest.fixture(scope="session")
def artefacts(table: pd.DataFrame) -> dict[Artefact, bytes]:
    """Decoder, statistics and schema of a quickly trained teacher."""
    prepared = fitting.split(table, settings_for(table))
    return fitting.artefacts(prepared.schema, fitting.fit(prepared, settings_for(table).training, QUICK))


def made_once(places: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The node `name` as `make` leaves it, made by whichever of pytest's workers needs it first."""
    own = places.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with folder.locked(common / f"{name}.lock"):
        if not (common / name).exists():
            fresh = places.mktemp(name)
            make(fresh / "hospital")
            fresh.rename(common / name)
    return common / name / "hospital"


@pytest.fixture(scope="session")
def approved_node(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A node with one approved release; its gate had nothing against it."""

    def make(path: Path) -> None:
        steps.init(path, data=patients(), target="died", sensitive=("région",), positive="1")
        approve(path, request.getfixturevalue("artefacts"))

    return made_once(tmp_path_factory, "approved", make)


@pytest.fixture(scope="session")
def image_records() -> fitting.Prepared:
    """Small pictures of three shapes in two colours."""
    return fitting.split(pictures(), picture_settings(pictures()))


@pytest.fixture(scope="session")
def image_artefacts(image_records: fitting.Prepared) -> dict[Artefact, bytes]:
    """Decoder, statistics and schema of a teacher of pictures."""
    trained = fitting.fit(image_records, picture_settings(pictures()).training, QUICK_IMAGES)
    return fitting.artefacts(image_records.schema, trained)


@pytest.fixture(scope="session")
def image_node(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A node with one approved release of pictures."""

    def make(path: Path) -> None:
        steps.init(path, data=pictures(), target="shape", sensitive=("colour",))
        approve(path, request.getfixturevalue("image_artefacts"))

    return made_once(tmp_path_factory, "image", make)


@pytest.fixture
def node(approved_node: Path, tmp_path: Path) -> Node:
    """A fresh copy of the approved node, to do anything to."""
    shutil.copytree(approved_node, tmp_path / "hospital")
    return Node(tmp_path / "hospital")


def approve(path: Path, artefacts: dict[Artefact, bytes]) -> int:
    """Add a release of these artefacts with a real card, and approve it. Returns its version."""
    node = Node(path)
    settings = read_settings(node)
    prepared = steps.prepare(node, settings)
    synthesiser, distillation = reference(artefacts, QUICK_STUDENT())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.image_classifier.STEPS", QUICK_CLASSIFIER)
        measured = measure(synthesiser, distillation, prepared.training, prepared.held_out, settings)
    version = write_draft(node, artefacts)
    record_measured(node, version, measured.card.to_bytes(), measured.card.records)
    decisions.approve(path, by="Dr. Test")
    return version


def rows_of(node: Node) -> bytes:
    """What training keeps of the records as they are."""
    return Rows.of(read_table(node.records), view_of(read_settings(node))).to_bytes()


def write_draft(node: Node, artefacts: Mapping[Artefact, bytes]) -> int:
    """As training does that made them of the node's records and settings as they are, without a budget."""
    for path in (node.encoder, node.history):
        if not path.is_file():
            folder.write(path, b"[]", folder.PRIVATE)
    run, teacher = digests.settings_digest(node, read_settings(node)), digests.teacher_digest(node)
    return release.write_draft(node, artefacts, run, now(), teacher_sha256=teacher, rows=rows_of(node), charges=0)


def record_measured(
    node: Node, version: int, card: bytes, records: int = 600, exceeded: tuple[str, ...] = ()
) -> Status:
    """As a gate does that made no attack, under the node's policy as it is now."""
    settings = read_settings(node)
    policy = digests.policy_id(settings)
    found = Battery(release=release.status(node, version).made_sha256, results=()).to_bytes()
    folder.write(node.attacks(version), found, folder.PRIVATE)
    return release.record_measured(
        node,
        version,
        card,
        records,
        (),
        policy,
        now(),
        exceeded=exceeded,
        findings=release.findings_digest(found, policy),
        limits=settings.policy.attacks,
    )


@contextmanager
def short_training() -> Iterator[pytest.MonkeyPatch]:
    """An owner's steps with a small teacher and a short reference student, for where the path is what matters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "default_settings", lambda schema: QUICK)
        patch.setattr(steps, "StudentSettings", QUICK_STUDENT)
        yield patch


class Running:
    """Both listeners of a node in this process, on free loopback ports."""

    def __init__(self, node: Node) -> None:
        self.node = node
        oversight = server.Oversight(lambda: True)
        self.releases, self.enrolment = server.release_server(node, oversight), server.enrolment_server(node, oversight)
        self.address, self.enrolment_address = (
            server._bind(listener, "127.0.0.1:0", ServerCertificate(node, mutual=mutual).credentials())
            for listener, mutual in ((self.releases, True), (self.enrolment, False))
        )
        self.invite(self.address)
        self.releases.start()
        self.enrolment.start()

    def invite(self, address: str) -> Path:
        """Write the invitation with this release address."""
        authority.write_invitation(self.node, address, self.enrolment_address)
        return self.node.invitation

    def stop(self) -> None:
        for stopped in [each.stop(0) for each in (self.releases, self.enrolment)]:
            stopped.wait()


@pytest.fixture
def running(node: Node) -> Iterator[Running]:
    found = Running(node)
    yield found
    found.stop()
