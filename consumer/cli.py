"""fair4free: the analyst's commands. Each is a thin shell over a step of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared.console import Json, Version, run, shell

app = typer.Typer(
    help="The analyst's side: fetch a verified release, distil a student, generate synthetic rows and audit them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    suggest_commands=False,  # click does
)

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder that holds everything of the consumer.")]


@app.callback()
def program(version: Version = False) -> None:
    """What is asked of the program and of no command."""


@app.command()
def enrol(
    study: StudyPath,
    invitation: Annotated[Path | None, typer.Option(help="The owner's invitation.json, the first time.")] = None,
    name: Annotated[str, typer.Option(help="How the owner should know you; the folder's name if not given.")] = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait for the owner's decision.")] = 0.0,
    json: Json = False,
) -> None:
    """Ask the owner to be let in, or collect the certificate. The key is made here and stays here."""
    from consumer import receiving_steps

    with shell("enrol", json) as out:
        with out.progress("asking the owner"):
            found = receiving_steps.enrol(study, invitation=invitation, name=name, wait_seconds=wait)
        advice = (
            "certificate received. Next: fetch."
            if found.state == "approved"
            else "tell the owner this fingerprint, by telephone; then run enrol again."
        )
        out.result(vars(found), f"{found.state}. Your fingerprint: {found.fingerprint}\n{advice}")


@app.command()
def fetch(
    study: StudyPath,
    version: Annotated[int | None, typer.Option(help="Release; the newest if not given.")] = None,
    json: Json = False,
) -> None:
    """Fetch a release and verify every byte of it."""
    from consumer import receiving_steps
    from protocol.artefacts import Artefact

    with shell("fetch", json) as out:
        with out.progress("fetching") as progress:
            found = receiving_steps.fetch(study, version=version, progress=progress)
        manifest = found.release.manifest
        step = "distill" if Artefact.DECODER in found.release.artefacts else "verify: an auditor holds no decoder"
        out.result(
            {"version": manifest.version, "bytes": found.received, "expires": manifest.expires},
            f"release {manifest.version} of {manifest.node}: {found.received:,} bytes, signature and digests verified. "
            f"Next: {step}.",
        )


@app.command()
def verify(
    study: StudyPath,
    ledger: Annotated[Path | None, typer.Option(help="A ledger the owner exported, to hold it to what we saw.")] = None,
    json: Json = False,
) -> None:
    """Verify the fetched release and its approval in the egress log again, without a network."""
    from consumer import receiving_steps
    from consumer.study import Study

    with shell("verify", json) as out:
        found = receiving_steps.verify(study)
        manifest, approval = found.release.manifest, found.approval
        result = {
            "manifest": manifest.model_dump(mode="json"),
            "approval": approval.model_dump(mode="json"),
            "ledger": None,
        }
        text = (
            f"release {manifest.version} of {manifest.node} is verified, and its approval by {approval.by} is logged."
        )
        if ledger is not None:
            log = receiving_steps.verify_ledger(study, ledger)
            denial = log.standing.denied.get(manifest.version)
            party = Study(study).party()
            served, unlogged = log.bytes_served(manifest.version, party), log.unlogged(found.release, party)
            result["ledger"] = {
                "entries": log.checkpoint.size,
                "denial": denial.model_dump(mode="json") if denial else None,
                "bytes_served": served,
                "unlogged": unlogged,
            }
            text += f"\nthe ledger of {log.checkpoint.size:,} entries continues the one this study has seen."
            if denial:
                text += f"\nDENIED since: release {manifest.version}, by {denial.by}: {denial.reason}"
            text += f"\n{served:,} bytes of release {manifest.version} are logged as sent to this study."
            if unlogged:
                text += (
                    f"\nNOT LOGGED, or not whole, as sent to this study's key: {', '.join(unlogged)}. If this was "
                    "fetched with this key, entries were left out: keep the study and the ledger as evidence."
                )
        out.result(result, text)


@app.command()
def distill(
    study: StudyPath,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the student.")] = 0,
    json: Json = False,
) -> None:
    """Distil the student from noise and the released statistics."""
    from consumer import steps

    with shell("distill", json) as out:
        with out.progress("distilling") as progress:
            found = steps.distill(study, seed=seed, progress=progress)
        step = "distill with another --seed: a Gaussian is nearer" if found.has_failed else "generate"
        out.result(
            {
                "has_failed": found.has_failed,
                "distance": found.distance,
                "gaussian_distance": found.gaussian_distance,
                "prior_distance": found.prior_distance,
            },
            f"the student is {found.distance:.1e} from the released statistics (a Gaussian "
            f"{found.gaussian_distance:.1e}, the prior {found.prior_distance:.1e}; less is better). Next: {step}.",
        )


@app.command()
def generate(
    study: StudyPath,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the whole run.")],
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="New .csv, .parquet or folder for pictures; else replaces STUDY/synthetic.parquet."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed: the same seed gives the same rows.")] = 0,
    shard: Annotated[str, typer.Option(help="i/n: only the i-th of n parts of the run.")] = "1/1",
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Rows to train models on: group shares halfway to equal.")
    ] = False,
    json: Json = False,
) -> None:
    """Stream synthetic rows to a file."""
    from consumer import steps

    with shell("generate", json) as out:
        with out.progress("generating") as progress:
            found = steps.generate(
                study, rows=rows, out=out_file, seed=seed, shard=shard, balanced=balanced, progress=progress
            )
        out.result(
            {"path": str(found.path), "start": found.start, "stop": found.stop},
            f"{found.stop - found.start:,} rows in {found.path}. Labels are independent of the group in them, and more "
            "rows make no finding surer. Next: audit.",
        )


@app.command()
def audit(
    study: StudyPath,
    synthetic: Annotated[
        Path | None, typer.Option(help="File or folder to audit; STUDY/synthetic.parquet if not given.")
    ] = None,
    real: Annotated[Path | None, typer.Option(help="A real file of your own to compare with.")] = None,
    json: Json = False,
) -> None:
    """Audit synthetic rows and write the report."""
    from consumer import audit_steps
    from consumer.study import Study

    with shell("audit", json) as out:
        with out.progress("auditing") as progress:
            found = audit_steps.audit(study, synthetic=synthetic, real=real, progress=progress)
        report = Study(study).report
        lines = [verdict.as_line() for verdict in found.report.verdicts]
        if (own := found.on_own_records) is not None:
            lines.append(
                f"On your own rows: a model of the synthetic ones has demographic parity "
                f"{own.demographic_parity_ratio:.2f}, equalized odds {own.equalized_odds_ratio:.2f}, "
                f"accuracy {own.accuracy:.2f}."
            )
        out.result(
            {
                "synthetic_only": found.synthetic_only.model_dump(),
                "on_own_records": found.on_own_records.model_dump() if found.on_own_records else None,
                "verdicts": [vars(verdict) for verdict in found.report.verdicts],
                "report": str(report),
            },
            "\n".join([*lines, f"report: {report}"]),
        )


@app.command()
def doctor(study: StudyPath, json: Json = False) -> None:
    """Check a study: what is in place, what is missing, and what to do next."""
    from consumer.doctor import diagnose
    from consumer.study import Study
    from shared.diagnosis import as_text, as_values

    with shell("doctor", json) as out:
        diagnoses = diagnose(Study(study))
        out.result(as_values(diagnoses), as_text(diagnoses))


def main() -> None:
    run(app, extra="consumer")
