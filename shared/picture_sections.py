"""What a card says of pictures, in words that both sides' reports share."""

from __future__ import annotations

from shared.report import Cell, Section, Table
from shared.scores import PictureScores


def picture_section(found: PictureScores) -> Section:
    """Labels, groups and latents beside what originals reach and what chance would."""
    latents: tuple[tuple[Cell, ...], ...] = (
        ("group from z and the class", found.group_from_latent_in_class, found.group_commonest_in_class),
        ("group from z alone", found.group_from_latent, found.group_commonest),
    )
    return Section(
        "Pictures",
        "How often a classifier trained on the originals gives a synthetic picture the label it came with; accuracy on "
        "real held-out pictures of each group, which should be alike; and in the tenth of all pairs of class and group "
        "on which a classifier trained on the originals is worst. Last, how often the group is predicted from the "
        "latent z of a held-out picture, beside always naming the commonest group: no better than that is the goal.",
        (
            Table(
                ("what", "synthetic", "original"),
                (
                    ("label agrees with a classifier trained on originals", found.agreement, found.agreement_ceiling),
                    *((f"accuracy on {group.label}", group.synthetic, group.original) for group in found.groups),
                    *(
                        [("accuracy in the hardest cells", found.hardest_synthetic, found.hardest_original)]
                        if found.hardest_synthetic is not None
                        else []
                    ),
                ),
            ),
            *(
                [Table(("predicted", "accuracy", "commonest group"), latents)]
                if found.group_from_latent is not None
                else []
            ),
        ),
    )
