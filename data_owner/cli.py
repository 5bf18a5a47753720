"""fair4free-owner: the hospital's commands, each a thin shell over one function, which it imports when it runs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_owner import budget_cli, enrol_cli, ledger_cli, root_cli
from data_owner.arguments import NodePath
from data_owner.node import Node
from data_owner.release_status import SERVABLE
from shared.console import Json, Version, run, shell
from shared.errors import PolicyRefusal

if TYPE_CHECKING:
    from data_owner.attacks.battery import Battery
    from shared.card import Card

app = typer.Typer(
    help="The data owner's side: train a fair model, measure it, approve it and serve its decoder. No record leaves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    suggest_commands=False,  # click does
)
app.add_typer(ledger_cli.app, name="ledger")
app.add_typer(root_cli.app, name="root")
app.command("budget")(budget_cli.budget)
app.command("enrol")(enrol_cli.enrol)

By = Annotated[str, typer.Option("--by", help="Name of the person who decides.")]


@app.callback()
def program(version: Version = False) -> None:
    """What is asked of the program and of no command."""


@app.command()
def init(
    node: NodePath,
    data: Annotated[Path | None, typer.Option(help="CSV or Parquet file of records.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder or .zip of pictures, or .npy array of them.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV with a column `file` (none for an array), or list_attr_celeba.txt.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="SIDE", help="Crop pictures to their centre and resize to this side, 8 to 112; 64 for CelebA."
        ),
    ] = None,
    skip_bad_files: Annotated[
        bool | None, typer.Option(help="List unusable pictures in skipped.csv and go on; on for CelebA.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="A data set: support2, compas, adult, colored-mnist, colored-mnist-biased.")
    ] = None,
    sensitive: Annotated[list[str] | None, typer.Option(help="Sensitive column; repeat for several.")] = None,
    target: Annotated[str | None, typer.Option(help="Target column.")] = None,
    positive: Annotated[str | None, typer.Option(help="Positive class of the target.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the node; the folder's if not given.")] = None,
    merge_small_groups: Annotated[
        bool, typer.Option("--merge-small-groups", help="Merge sensitive groups under the minimum.")
    ] = False,
    epsilon: Annotated[float | None, typer.Option(help="Turn differential privacy on with this budget.")] = None,
    json: Json = False,
) -> None:
    """Make a node: keep the records privately and propose owner.toml for a person to edit."""
    from data_owner import steps

    with shell("init", json) as out:
        with out.progress("reading"):
            settings = steps.init(
                node,
                data=data,
                images=images,
                labels=labels,
                size=size,
                skip_bad_files=skip_bad_files,
                dataset_name=dataset,
                sensitive=tuple(sensitive or ()),
                target=target,
                positive=positive,
                name=name,
                small_groups="merge" if merge_small_groups else "refuse",
                epsilon=epsilon,
            )
        undecided = [column for column, entry in settings.columns.items() if entry.kind == "undecided"]
        place = Node(node).settings
        text = f"{node}: {len(settings.columns)} columns, positive class {settings.positive}. Read {place}."
        if undecided:
            text += f" Set the kind of: {', '.join(undecided)}."
        if settings.privacy is not None:
            command = f"fair4free-owner budget {shlex.quote(str(node))}"
            text += f" `{command}` says which columns have to declare what they can hold."
            text += " Kinds were guessed from the records and leave too: see that each is right from public knowledge."
        text += " Next: train."
        skipped = len(steps.skipped(node))
        if skipped:
            text += f" Left out {skipped:,} files or labels: {Node(node).skipped} says why."
        out.result(
            {
                "node": str(node),
                "settings": str(place),
                "columns": len(settings.columns),
                "positive": settings.positive,
                "undecided": undecided,
                "skipped": skipped,
            },
            text,
        )


@app.command()
def train(
    node: NodePath,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget the checkpoint of a training that was stopped.")
    ] = False,
    json: Json = False,
) -> None:
    """Train the fair teacher, or go on where it was stopped, and draft a release."""
    from data_owner import steps

    with shell("train", json) as out:
        with out.progress("training") as progress:
            version = steps.train(node, progress=progress, restart=restart)
        out.result({"version": version, "state": "draft"}, f"release {version} drafted. Next: gate.")


@app.command()
def gate(node: NodePath, json: Json = False) -> None:
    """Measure the newest draft on held-out records and hold it to the policy."""
    from data_owner import steps

    with shell("gate", json) as out:
        with out.progress("gate") as progress:
            found = steps.gate(node, progress=progress)
        _refuse(Node(node), found.version, found.failures, found.exceeded)
        card = found.measured.card
        out.result(
            {
                "version": found.version,
                "card": card.model_dump(mode="json"),
                "report": str(Node(node).report),
                "privacy_report": str(Node(node).privacy_report),
            },
            f"release {found.version} is within the policy. "
            f"{_measured(card)}. "
            f"Read {Node(node).report} and {Node(node).privacy_report}{_unsure(found.battery, card)}. "
            "Next: approve or deny.",
        )


@app.command()
def attack(
    node: NodePath,
    shadows: Annotated[int | None, typer.Option(help="Shadow releases to train, even; default 16.")] = None,
    json: Json = False,
) -> None:
    """Make the strongest attacks on the newest measured release: shadow releases and planted canaries.

    With a budget the whole mechanism is rehearsed on people instead; the findings never leave the node.
    """
    from data_owner import attack_steps

    with shell("attack", json) as out:
        with out.progress("attacking") as progress:
            found = attack_steps.attack(node, shadows=shadows, progress=progress)
        if not found.is_rehearsal:
            _refuse(Node(node), found.version, (), found.exceeded)
        words = {each.attack: each.finding for each in found.verdicts}
        lines = [f"release {found.version}:", *(f"{finding:12}  {name}" for name, finding in words.items())]
        if found.is_rehearsal:
            lines.append("Found on people, in a rehearsal: it stays in this house, off card and gate.")
        if found.exceeded:
            lines += [f"Against it: {reason}." for reason in found.exceeded]
            lines.append(f"So deny release {found.version}, and find out what is wrong.")
            lines.append("Analysts read the reason of a denial: put no figure of the rehearsal into it.")
        out.result(
            {
                "version": found.version,
                "attacks": words,
                "exceeded": list(found.exceeded),
                "rehearsal": found.is_rehearsal,
                "privacy_report": str(Node(node).privacy_report),
            },
            "\n".join([*lines, f"Read {Node(node).privacy_report}."]),
        )


@app.command()
def override(
    node: NodePath, by: By, reason: Annotated[str, typer.Option(help="Why it may leave.")], json: Json = False
) -> None:
    """Allow the newest release despite what attacks found. Two people must each run this."""
    from data_owner import decisions
    from data_owner.release_status import OVERRIDES

    with shell("override", json) as out:
        people = len(decisions.override(node, by=by, reason=reason))
        then = "Next: approve." if people >= OVERRIDES else "Another person must override it too."
        out.result({"people": people, "needed": OVERRIDES}, f"logged, {people} of {OVERRIDES}. {then}")


@app.command()
def privacy(
    node: NodePath,
    version: Annotated[int | None, typer.Option(help="Release; the newest if not given.")] = None,
    json: Json = False,
) -> None:
    """Write privacy.html: what may leave, the privacy statement, attacks, and what is not covered."""
    from data_owner import decisions

    with shell("privacy", json) as out:
        page = decisions.write_privacy_report(node, version=version)
        out.result(
            {"privacy_report": str(page), "figures": str(Node(node).privacy_figures)},
            f"wrote {page}: read it before anything is approved.",
        )


@app.command()
def approve(node: NodePath, by: By, json: Json = False) -> None:
    """Sign the newest measured release: from now on it may be served."""
    from data_owner import decisions

    with shell("approve", json) as out:
        manifest = decisions.approve(node, by=by)
        out.result(
            {"version": manifest.version, "expires": manifest.expires},
            f"release {manifest.version} approved by {by}. Next: serve.",
        )


@app.command()
def deny(
    node: NodePath,
    by: By,
    reason: Annotated[str, typer.Option(help="Why.")],
    version: Annotated[
        int | None, typer.Option(help="Release; the newest if not given. Needed while an older one may be served.")
    ] = None,
    json: Json = False,
) -> None:
    """Deny a release for good, even one being served, with every identical release that is out."""
    from data_owner import decisions

    with shell("deny", json) as out:
        done = decisions.deny(node, by=by, reason=reason, version=version)
        left = ", ".join(map(str, done.servable)) or "none"
        words = f"release {done.version} denied"
        if done.same:
            they = "is" if len(done.same) == 1 else "are"
            words += f", and with it {', '.join(map(str, done.same))}, which {they} the same byte for byte"
        out.result(
            {"version": done.version, "state": "denied", "servable": done.servable, "same": done.same},
            f"{words}. Releases that may still be served: {left}.",
        )


@app.command()
def serve(
    node: NodePath,
    address: Annotated[str, typer.Option(help="Release port, host:port.")] = "127.0.0.1:50443",
    enrolment_address: Annotated[str, typer.Option(help="Enrolment port, host:port.")] = "127.0.0.1:50444",
    metrics_address: Annotated[str, typer.Option(help="Loopback port for metrics and probes; none if not given.")] = "",
    host_name: Annotated[str, typer.Option(help="Name by which analysts reach this machine, if another.")] = "",
    json: Json = False,
) -> None:
    """Serve approved releases over mutual TLS until stopped."""
    from data_owner.serving import logs, server

    with shell("serve", json) as out:
        logs.configure()
        opened = Node.open(node)

        def ready(listening: server.Listening) -> None:
            if out.err.is_terminal:
                out.note(
                    f"serving releases on {listening.address} and enrolment on {listening.enrolment_address}. "
                    f"Hand {opened.invitation} to the analyst."
                )

        server.serve(opened, address, enrolment_address, metrics_address, host_name, ready)
        out.result({"state": "stopped"}, "stopped.")


@app.command()
def load(node: NodePath, json: Json = False) -> None:
    """Measure the load this node takes: 16 analysts fetching at once, with and without a flood from one key."""
    from data_owner import load as bench

    with shell("load", json) as out:
        with out.progress("load") as progress:
            found = bench.load(Node.open(node), progress)
        values = {"alone": found.alone.summary(), "beside_flood": found.beside_flood.summary()}
        out.result({**values, "flooded": found.flooded, "refused": found.refused}, bench.as_text(found))


@app.command()
def doctor(node: NodePath, json: Json = False) -> None:
    """Check a node: what is in place, what is missing, and what to do next."""
    from data_owner.doctor import diagnose
    from shared.diagnosis import as_text, as_values

    with shell("doctor", json) as out:
        diagnoses = diagnose(Node.open(node))
        out.result(as_values(diagnoses), as_text(diagnoses))


@app.command()
def benchmark(
    dataset: Annotated[str, typer.Argument(help="support2, compas or adult.")],
    sensitive: Annotated[list[str], typer.Option(help="Sensitive column; repeat for several.")],
    system: Annotated[list[str] | None, typer.Option(help="System; repeat for several. All if not given.")] = None,
    folds: Annotated[int, typer.Option(min=2, max=10, help="Folds, pooled.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of folds, training and models.")] = 3,
    sweep: Annotated[bool, typer.Option("--sweep", help="Also our system over the weight of the penalty.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="One fold, one seed, short training: a look, not a result.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of results; what is in it is not run again.")] = Path("benchmark"),
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    json: Json = False,
) -> None:
    """Compare with every system of the paper on the same folds: the tables of README and RESULTS.md."""
    from data_owner.benchmark.run import Request, run

    with shell("benchmark", json) as out_shell:
        with out_shell.progress("benchmark") as progress:
            request = Request(dataset, tuple(sensitive), tuple(system or ()), folds, seeds, sweep, quick)
            found = run(request, out, workers, progress)
        out_shell.result(
            {"comparison": found.comparison.model_dump(mode="json"), "report": str(found.report)},
            f"{found.markdown}\n\n{found.report}",
        )


def _measured(card: Card) -> str:
    """Each figure beside that of the original records."""
    found, original, fidelity, real = card.synthetic, card.original, card.fidelity, card.fidelity_ceiling
    figures = {
        "Demographic parity": (found.demographic_parity_ratio, original.demographic_parity_ratio),
        "equalized odds": (found.equalized_odds_ratio, original.equalized_odds_ratio),
        "accuracy": (found.accuracy, original.accuracy),
        "density": (fidelity.density, real.density),
        "coverage": (fidelity.coverage, real.coverage),
    }
    return ", ".join(
        f"{name} {of_rows:.2f} (original {of_records:.2f})" for name, (of_rows, of_records) in figures.items()
    )


def _unsure(made: Battery, card: Card) -> str:
    """What a person who reads the page about attacks should know of them."""
    from data_owner.attacks.attack import Attack

    inconclusive = [each.attack for each in card.attacks if each.finding == "inconclusive"]
    said = [f"inconclusive: {', '.join(inconclusive)}"] if inconclusive else []
    if Attack.MEMBERSHIP not in made.made:
        said.append("the strongest was not made: `fair4free-owner attack`")
    return f" ({'; '.join(said)})" if said else ""


def _refuse(node: Node, version: int, failures: tuple[str, ...], exceeded: tuple[str, ...]) -> None:
    """Raises `PolicyRefusal` if the gate or attacks have anything against a release."""
    if not failures and not exceeded:
        return
    from data_owner import release

    if release.status(node, version).state in SERVABLE:
        remedy = f"deny release {version}, and find out what is wrong"
    else:
        remedy = "train on fewer columns, coarser categories or more records, or change the policy"
        remedy += "" if failures else "; or let two people override it"
    pages = [str(page) for page, told in ((node.report, failures), (node.privacy_report, exceeded)) if told]
    raise PolicyRefusal(
        "; ".join((*failures, *(f"an attack blocks it: {each}" for each in exceeded))),
        field=f"release {version}",
        remedy=f"read {' and '.join(pages)}, then {remedy}",
        details={"version": version, "failures": failures, "exceeded": exceeded},
    )


def main() -> None:
    run(app, extra="owner")
