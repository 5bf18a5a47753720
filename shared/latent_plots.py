"""Pictures of latents, which take scikit-learn to be drawn flat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure as Canvas
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from shared.generation import Synthesiser
from shared.plots import COLOURS, Floats, as_svg, plain
from shared.report import Figure

POINTS = 400
"""Drawn of each cloud."""
MARKERS = ".+^x"
"""Beside `COLOURS`, which not everyone tells apart."""


def student_overlay(synthesiser: Synthesiser) -> Figure:
    """The student's latents over draws from the Gaussian of the released moments."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        student = synthesiser.latents(POINTS, generator)
    released = synthesiser.statistics.strata.unwhiten(torch.randn(student.shape, generator=generator), generator)
    return overlay(
        {"Gaussian of the released moments": released.numpy(), "student": student.numpy()},
        "Latents of the student over draws from the Gaussian of the released moments, drawn flat by PCA and t-SNE. "
        "They should lie alike, but for what is no Gaussian in the released sketch.",
    )


def overlay(named: Mapping[str, Floats], alt: str) -> Figure:
    """PCA and t-SNE of several clouds of latents (n, d), fitted together; in words how often a point's nearest
    neighbour is of its own cloud (Schilling 1986)."""
    drawn = {name: points[:POINTS] for name, points in named.items()}
    together = np.concatenate(list(drawn.values()))
    linear = PCA(2, random_state=0).fit_transform(together)
    bent = TSNE(2, init="pca", perplexity=30, max_iter=500, random_state=0).fit_transform(together)
    canvas = Canvas(figsize=(9.2, 3.9))
    for axes, title, places in zip(canvas.subplots(1, 2), ("PCA", "t-SNE"), (linear, bent), strict=True):
        start = 0
        for index, (name, points) in enumerate(drawn.items()):
            part = places[start : start + len(points)]
            axes.scatter(*part.T, s=9, marker=MARKERS[index], linewidths=0.6, color=COLOURS[index], label=name)
            start += len(points)
        axes.set_title(title, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        plain(axes)
    canvas.legend(
        *axes.get_legend_handles_labels(),
        frameon=False,
        fontsize=8,
        ncols=4,
        loc="lower center",
        markerscale=2,
    )
    cloud = np.repeat(np.arange(len(drawn)), [len(points) for points in drawn.values()])
    nearest = NearestNeighbors(n_neighbors=1).fit(together).kneighbors(return_distance=False)[:, 0]
    own = np.mean(cloud == cloud[nearest])
    by_chance = np.mean([(np.sum(cloud == each) - 1) / (len(cloud) - 1) for each in cloud])
    return as_svg(
        canvas,
        f"{alt} {100 * own:.0f} % of the points have their nearest neighbour in their own cloud; by chance "
        f"{100 * by_chance:.0f} % would if the clouds lay alike, all if they were far apart.",
    )
