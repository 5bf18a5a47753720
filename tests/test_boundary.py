"""The boundary itself: what the contract can say, and every byte that a real owner process sends."""

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from google.protobuf.descriptor import FieldDescriptor

import consumer
from consumer.fetching import Fetched
from consumer.study import Study
from data_owner import authority, steps
from data_owner.learning import fitting
from data_owner.learning.teacher import TeacherSettings
from data_owner.ledger import Ledger
from data_owner.node import Node
from protocol.artefacts import Artefact
from protocol.entry import Served, parse_entry
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.invitation import Invitation
from shared import folder
from shared.image_codec import as_png, read_image
from tests.conftest import QUICK, approve, patients
from tests.owner_process import ROOT, owner_process
from tests.pictures import QUICK_IMAGES, SIDE, pictures, write_folder


def test_no_message_has_a_field_in_which_a_record_could_travel() -> None:
    """The whole contract, field by field: adding one is a decision, made here."""
    integer, raw, enum = FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_ENUM
    long = FieldDescriptor.TYPE_UINT64
    found = {
        name: {field.name: field.type for field in message.fields}
        for name, message in wire.DESCRIPTOR.message_types_by_name.items()
    }
    assert found == {
        "GetRootRequest": {"version": integer},
        "GetRootResponse": {"root": raw, "signatures": raw},
        "GetFreshnessRequest": {},
        "GetFreshnessResponse": {"freshness": raw, "signatures": raw},
        "GetLogProofRequest": {"last_size": long, "version": integer},
        "GetLogProofResponse": {
            "checkpoint": raw,
            "consistency": raw,
            "approval": raw,
            "index": long,
            "inclusion": raw,
        },
        "CountersignRequest": {"checkpoint": raw, "key": raw},
        "CountersignResponse": {},
        "GetManifestRequest": {"version": integer},
        "GetManifestResponse": {"manifest": raw, "signatures": raw},
        "StreamArtefactRequest": {"version": integer, "kind": enum, "offset": long},
        "Chunk": {"data": raw},
        "EnrolRequest": {"certificate_request": raw},
        "EnrolResponse": {"state": enum, "certificate": raw},
    }
    methods = {
        f"{service.name}.{method.name}"
        for service in wire.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == {
        "ReleaseService.GetRoot",
        "ReleaseService.GetFreshness",
        "ReleaseService.GetLogProof",
        "ReleaseService.Countersign",
        "ReleaseService.GetManifest",
        "ReleaseService.StreamArtefact",
        "EnrolmentService.Enrol",
    }
    assert {kind.value for kind in Artefact} == {"manifest", "decoder", "statistics", "schema", "card"}


def test_the_committed_stubs_are_those_of_the_contract(tmp_path: Path) -> None:
    place = Path("protocol/fair4free/v1")
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "-I."),
            *(f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")),
            str(place / "release.proto"),
        ],
        cwd=ROOT,
        check=True,
    )
    for name in ("release_pb2.py", "release_pb2.pyi", "release_pb2_grpc.py"):
        assert (tmp_path / place / name).read_text() == (ROOT / place / name).read_text(), "run `make stubs`"


def planted(rows: int = 600) -> tuple[pd.DataFrame, list[bytes]]:
    """Patients with one canary, a value found nowhere else, in every column; and the canaries as bytes."""
    table = patients(rows)
    canaries = {
        "age": 1009,
        "days in ward": 731.57,
        "lactate": 418.7,
        "ward": "ward-canary-Zq81",
        "admitted": pd.Timestamp("2033-07-19"),
        "région": "group-canary-Kx44",
    }
    for row, (name, value) in enumerate(canaries.items()):
        table[name] = table[name].astype("int64" if name == "age" else table[name].dtype)
        table.loc[10 + row, name] = value
    days = int((pd.Timestamp("2033-07-19") - pd.Timestamp("1970-01-01")).days)
    as_bytes = [b"731.57", b"418.7", b"ward-canary-Zq81", b"group-canary-Kx44", b"2033-07-19"]
    as_bytes += [number.encode() for number in (f":{days},", f",{days}.0", ",1009.0", ",1009,", "1009]")]
    for value in (1009.0, 731.57, 418.7, float(days)):
        as_bytes += [np.float64(value).tobytes(), np.float32(value).tobytes()]
    return table, as_bytes


def planted_pictures() -> tuple[pd.DataFrame, list[bytes]]:
    """Pictures, one of noise found nowhere else, with a group of one and a note; and these canaries as bytes."""
    table = pictures(600)
    noise = np.random.default_rng(7).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    table.loc[10, "image"] = as_png(noise)
    table.loc[11, "colour"] = "group-canary-Kx44"
    table["note"] = "plain"
    table.loc[12, "note"] = "note-canary-Zq81"
    as_bytes = [b"note-canary-Zq81", b"group-canary-Kx44", as_png(noise)[50:100]]
    planes = noise.transpose(2, 0, 1)
    for row in (*noise.reshape(SIDE, -1)[:4], *planes[:, 0], *planes[:, 5]):
        for number in (row, row / np.float16(255), (row / 255).astype(np.float32), row.astype(np.float32)):
            as_bytes.append(number.tobytes())
    return table, as_bytes


@dataclass(frozen=True)
class Case:
    """Records to plant values in, how the node of them is made, and how its teacher is trained."""

    planted: Callable[[], tuple[pd.DataFrame, list[bytes]]]
    source: Callable[[pd.DataFrame, Path], dict[str, Path]]
    roles: dict[str, object]
    teacher: TeacherSettings


def as_csv(table: pd.DataFrame, place: Path) -> dict[str, Path]:
    (place / "records.csv").write_text(table.to_csv(index=False), encoding="utf-8")
    return {"data": place / "records.csv"}


def as_folder(table: pd.DataFrame, place: Path) -> dict[str, Path]:
    images, labels = write_folder(table, place)
    return {"images": images, "labels": labels}


CASES = {
    "table": Case(planted, as_csv, {"target": "died", "sensitive": ("région",)}, QUICK),
    "pictures": Case(planted_pictures, as_folder, {"target": "shape", "sensitive": ("colour",)}, QUICK_IMAGES),
}


class Recorder:
    """Stands between consumer and owner with both their keys, and keeps every byte the owner sends, in the clear.

    Before the enrolment port without a study: nobody has a certificate there.
    One thread for both directions: before Python 3.13 two must not read and write a TLS connection at once.
    """

    def __init__(self, node: Node, target: str, study: Study | None = None) -> None:
        self.sent = bytearray()
        self._target = target.rpartition(":")
        self._near = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._near.load_cert_chain(node.keys / authority.SERVER, node.keys / authority.SERVER_KEY)
        self._far = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._far.check_hostname = False
        self._far.load_verify_locations(node.keys / authority.AUTHORITY)
        if study is not None:
            self._far.load_cert_chain(study.certificate, study.key)
        for context in (self._near, self._far):
            context.set_alpn_protocols(["h2"])
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        listening = asyncio.start_server(self._between, "127.0.0.1", 0, ssl=self._near)
        self._server = asyncio.run_coroutine_threadsafe(listening, loop).result(30)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _between(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection(self._target[0], int(self._target[2]), ssl=self._far)
        await asyncio.gather(self._pump(near, to_far, record=False), self._pump(far, to_near, record=True))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, record: bool) -> None:
        try:
            while data := await source.read(65_536):
                if record:
                    self.sent += data
                sink.write(data)
                await sink.drain()
        except OSError:
            return
        finally:
            sink.close()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def planted_node(tmp_path_factory: pytest.TempPathFactory, case: Case) -> Path:
    """A node with a release trained on planted records."""
    place, (table, _) = tmp_path_factory.mktemp("owner"), case.planted()
    path, source = place / "hospital", case.source(table, place)
    with pytest.raises(Exception, match="merge-small-groups"):
        steps.init(path, **source, **case.roles)
    settings = steps.init(path, **source, **case.roles, small_groups="merge")
    prepared = steps.prepare(Node(path), settings)
    approve(path, fitting.artefacts(prepared.schema, fitting.fit(prepared, settings.training, case.teacher)))
    return path


@pytest.fixture
def served(tmp_path: Path, planted_node: Path) -> Iterator[Node]:
    """The node of a real owner process that serves that release."""
    shutil.copytree(planted_node, tmp_path / "hospital")
    with owner_process(Node(tmp_path / "hospital"), tmp_path / "log") as owner:
        yield owner.node
        assert owner.stop() == 0


def test_no_planted_value_is_among_the_bytes_a_real_owner_process_sends(
    served: Node, tmp_path: Path, case: Case
) -> None:
    _, canaries = case.planted()
    study = Study(tmp_path / "study")
    offered = Invitation.from_bytes(served.invitation.read_bytes())
    enrolment = Recorder(served, offered.enrolment_address)
    invitation = tmp_path / "invitation.json"
    invitation.write_bytes(offered.model_copy(update={"enrolment_address": enrolment.address}).to_bytes())
    enrolled = consumer.enrol(study.folder, invitation=invitation)
    subprocess.run(
        [
            *(sys.executable, "-c", "from data_owner.cli import main; main()", "enrol", str(served.folder)),
            *("--approve", enrolled.fingerprint, "--by", "Dr. Test"),
        ],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    assert consumer.enrol(study.folder).state == "approved"
    recorder = Recorder(served, study.invitation().address, study)
    folder.write(study.invitation_file, study.invitation().model_copy(update={"address": recorder.address}).to_bytes())
    fetched = consumer.fetch(study.folder)
    records = served.records.read_bytes() + pd.read_parquet(served.records).to_csv().encode()
    sent = bytes(recorder.sent)
    # the recorder sees in the clear: every artefact is among the bytes, up to the frame headers between chunks
    assert len(sent) > fetched.received
    for data in fetched.release.artefacts.values():
        assert data[:200] in sent
        assert data[-200:] in sent
    check_logged_to_the_byte(sent, served, fetched)
    assert b"canary-Zq81" in records
    assert study.certificate.read_bytes() in enrolment.sent
    assert [canary for canary in canaries if canary in sent + enrolment.sent] == []
    everything = b"".join(fetched.release.artefacts.values()) + fetched.release.manifest.to_bytes()
    assert [canary for canary in canaries if canary in everything] == []
    log = (tmp_path / "log").read_bytes()
    assert {"serving", "artefact served", "call"} <= {json.loads(line)["event"] for line in log.splitlines()}
    assert [canary for canary in canaries if canary in log] == []


def messages(sent: bytes) -> list[bytes]:
    """The gRPC messages among HTTP/2 frames (RFC 9113 section 4.1: 9 bytes of header, DATA is type 0)."""
    streams: dict[int, bytearray] = {}
    place = 0
    while place < len(sent):
        length, kind = int.from_bytes(sent[place : place + 3]), sent[place + 3]
        stream = int.from_bytes(sent[place + 5 : place + 9])
        if kind == 0:
            streams.setdefault(stream, bytearray()).extend(sent[place + 9 : place + 9 + length])
        place += 9 + length
    found = []
    for data in map(bytes, streams.values()):
        place = 0
        while place < len(data):
            length = int.from_bytes(data[place + 1 : place + 5])
            found.append(data[place + 5 : place + 5 + length])
            place += 5 + length
    return found


def check_logged_to_the_byte(sent: bytes, node: Node, fetched: Fetched) -> None:
    """Every byte of payload in the recorded session is in the egress log, and the log holds no byte more."""
    manifest, artefacts = fetched.release.manifest.to_bytes(), fetched.release.artefacts
    payload = 0
    for message in messages(sent):
        chunk = wire.Chunk.FromString(message).data
        if any(chunk and chunk in data for data in artefacts.values()):
            payload += len(chunk)
        elif wire.GetManifestResponse.FromString(message).manifest == manifest:
            payload += len(manifest)
        else:  # trust metadata: no part of an artefact is hidden in it
            places = [(data, place) for data in artefacts.values() for place in (0, 99, len(data) // 2)]
            assert not any(data[place : place + 24] in message for data, place in places)
    with Ledger(node.ledger) as log:
        logged = sum(entry.length for entry in map(parse_entry, log.entries()) if isinstance(entry, Served))
    assert payload == logged == fetched.received


def test_the_recorder_would_find_a_canary(planted_node: Path, case: Case) -> None:
    """The test above can fail: the canaries are in what the owner holds, in the very form that is looked for."""
    _, canaries = case.planted()
    held = pd.read_parquet(Node(planted_node).records)
    if "image" in held:
        pixels = read_image(held["image"][10], "planted")
        text = held.drop(columns="image").to_csv().encode() + held["image"][10]
        for layout in (pixels, pixels.transpose(2, 0, 1)):
            for kind in (layout, layout / np.float16(255), (layout / 255).astype(np.float32), np.float32(layout)):
                text += kind.tobytes()
        assert all(canary in text for canary in canaries)
        return
    held["admitted"] = (pd.to_datetime(held["admitted"]) - pd.Timestamp("1970-01-01")).dt.days.astype(float)
    text = held.astype({"age": "float64"}).to_csv(index=False).encode()
    binary = b"".join(held[name].to_numpy(float).tobytes() for name in ("age", "days in ward", "lactate", "admitted"))
    assert sum(canary in text + binary for canary in canaries) >= 9


in_a_clone = pytest.mark.skipif(
    not (shutil.which("git") and (ROOT / ".git").exists()), reason="the list of files comes from git, for a clone"
)


def test_what_decides_takes_the_time_as_a_value() -> None:
    """It is read in one place alone."""
    sources = [
        path for part in ("consumer", "data_owner", "protocol", "shared") for path in (ROOT / part).rglob("*.py")
    ]
    reading = [path for path in sources if re.search(r"datetime\.now\(|\btime\.time\(", path.read_text("utf-8"))]
    assert reading == [ROOT / "shared" / "clock.py"]


@in_a_clone
def test_the_project_speaks_of_no_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    for name in listed:
        if name.endswith((".py", ".md", ".toml", ".sh", ".txt", "Makefile", ".proto")) and Path(ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8")
            assert "/wo" + "rk/" not in text, name
            assert os.sep + "tmp" + os.sep not in text, name


@in_a_clone
def test_no_file_of_the_project_is_a_link() -> None:
    """Whoever pulls one gets it in place of a folder of theirs."""
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert [line for line in listed.splitlines() if line.startswith("120000")] == []
