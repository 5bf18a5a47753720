"""Colored-MNIST measured on its 10,000 unbiased test digits: `python -m data_owner.benchmark.images NODE...`

Each NODE was made by `init NODE --dataset colored-mnist` or `colored-mnist-biased` and trained. Its newest release is
distilled and judged as an analyst would get it. Prints Markdown, and writes `unbiased.json` into the node.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from data_owner import release, steps
from data_owner.datasets import colored_mnist
from data_owner.measure import reference
from data_owner.measure_pictures import picture_scores, restored_teacher, with_latents
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from shared import folder
from shared.conform import conform
from shared.errors import BadInput
from shared.judge import ImageJudge
from shared.metrics import ceiling, downstream_rows, floor, scores
from shared.scores import Judgement, PictureScores
from shared.student import StudentSettings


class Unbiased(Judgement):
    """What a judge says on the unbiased test digits, and what is measured of pictures."""

    dataset: str
    training: int
    pictures: PictureScores


def judge_node(path: Path) -> Unbiased:
    """Judge the newest release of a node of Colored-MNIST."""
    node = Node.open(path)
    settings = read_settings(node)
    name = settings.source.removeprefix("dataset:")
    if name not in colored_mnist.BIAS:
        raise BadInput("not a node of Colored-MNIST", field=str(path), remedy="make one with --dataset colored-mnist")
    prepared, seed = steps.prepare(node, settings), settings.training.seed
    drafted = release.trained_artefacts(node, release.latest(node))
    synthesiser, _ = reference(drafted, StudentSettings(seed=seed))
    schema = synthesiser.schema
    test = conform(schema, colored_mnist.load(name, "test"))
    judge = ImageJudge(schema, prepared.training, seed)
    synthetic = synthesiser.table(seed, downstream_rows(len(prepared.training)))
    predicted, from_original = (judge.predict(rows, test) for rows in (synthetic, prepared.training))
    pictures = picture_scores(judge, synthetic, test, predicted, from_original, schema)
    teacher = restored_teacher(schema, synthesiser.decoder, folder.read(node.encoder, "train again"))
    return Unbiased(
        dataset=name,
        training=len(prepared.training),
        synthetic=scores(test, predicted, schema),
        original=scores(test, from_original, schema),
        ceiling=ceiling(test, predicted, schema, seed),
        floor=floor(test, schema),
        fidelity=judge.fidelity(test, synthetic.iloc[: len(prepared.training)]),
        fidelity_ceiling=judge.fidelity(test, prepared.training),
        pictures=with_latents(pictures, teacher, prepared.held_out, schema, seed),
    )


def as_markdown(found: Unbiased) -> str:
    """Two tables: classifiers on unbiased digits, and what else is measured."""
    pictures = found.pictures
    names = [group.label for group in pictures.groups]
    lines = [
        f"{found.dataset}: {found.training:,} training digits, tested on 10,000 unbiased ones.",
        "",
        f"| trained on | accuracy | {' | '.join(names)} | hardest cells | DPR | EOR | density | coverage |",
        "|---" * (7 + len(names)) + "|",
    ]
    rows = (
        ("synthetic", found.synthetic, [group.synthetic for group in pictures.groups], pictures.hardest_synthetic,
         found.fidelity),
        ("originals", found.original, [group.original for group in pictures.groups], pictures.hardest_original,
         found.fidelity_ceiling),
        ("ceiling: colours permuted", found.ceiling, None, None, None),
        ("floor: the commonest digit", found.floor, None, None, None),
    )  # fmt: skip
    for title, each, groups, hardest, fidelity in rows:
        cells: list[float | None] = [each.accuracy]
        cells += [*(groups or len(names) * (None,)), hardest]
        cells += [each.demographic_parity_ratio, each.equalized_odds_ratio]
        cells += [fidelity.density, fidelity.coverage] if fidelity else [None, None]
        lines.append(f"| {title} | {' | '.join('' if cell is None else f'{cell:.3f}' for cell in cells)} |")
    told = (
        ("label agrees with a classifier trained on originals", pictures.agreement, pictures.agreement_ceiling),
        ("colour predicted from z and the digit", pictures.group_from_latent_in_class,
         pictures.group_commonest_in_class),
        ("colour predicted from z", pictures.group_from_latent, pictures.group_commonest),
    )  # fmt: skip
    lines += ["", "| | measured | originals, or always the commonest |", "|---|---|---|"]
    lines += [f"| {title} | {value:.3f} | {beside:.3f} |" for title, value, beside in told]
    return "\n".join(lines)


def main(nodes: list[str]) -> None:
    for node in nodes:
        found = judge_node(Path(node))
        folder.write(Path(node) / "unbiased.json", json.dumps(found.model_dump(), indent=1).encode())
        print(as_markdown(found), end="\n\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
