"""What the fairness penalty costs: `python -m data_owner.benchmark.penalty` prints time and value of V² in its forms.

The best of up to three runs, one thread, forward and backward, in processor time. *Blocks* is the pairwise closed form
in the structure of FairDisco's reference implementation, *one kernel* the same value from a single kernel matrix,
*sketch* the plug-in estimator; training, which also draws frequencies and subtracts what each record contributes
against itself, takes a fifth to a third longer. The first two carry the Lebesgue weight of the paper's equation 1,
whose value in d dimensions is not that of the sketch's weight; so the sketch's own closed form stands beside it as
*exact*.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.live import Live
from rich.table import Table
from torch import Tensor
from torch.nn.functional import one_hot

from data_owner.benchmark.pairwise import dependence_by_blocks, dependence_by_kernel, quadratic_form
from shared.sketch import draw_frequencies, kernel, plug_in_dependence, sketch

BATCHES = (256, 1024, 2048, 4096, 16_384)
GROUPS = (2, 5, 20)
DIMENSIONS = 8
FREQUENCIES = 128
NAMES = ("blocks", "one kernel", "exact", "sketch")
MOST_ROWS = {"blocks": 4096, "one kernel": 4096, "exact": 1024, "sketch": 16_384}
"""The pairwise forms hold several values for each pair and dimension, dozens of gigabytes at the largest batch."""


def batch(rows: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Posteriors N(mean, diag variance), (rows, DIMENSIONS) each, and groups (rows,) that they depend on."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(rows) % groups
    mean = torch.randn(rows, DIMENSIONS, generator=generator) + 0.5 * (group / groups).unsqueeze(1)
    return mean, 0.1 + 0.2 * torch.rand(rows, DIMENSIONS, generator=generator), group


def exact(mean: Tensor, variance: Tensor, membership: Tensor) -> Tensor:
    """What the sketch's plug-in form estimates, from one kernel under its own weight."""
    return quadratic_form(kernel(mean.unsqueeze(1) - mean, variance.unsqueeze(1) + variance), membership)


def timed(form: Callable[[Tensor, Tensor], Tensor], mean: Tensor, variance: Tensor) -> tuple[float, float]:
    """Best seconds of forward and backward out of several runs, and the value."""
    best, value = float("inf"), 0.0
    for _ in range(3):
        inputs = mean.clone().requires_grad_(), variance.clone().requires_grad_()
        start = time.process_time()
        found = form(*inputs)
        found.backward()  # type: ignore[no-untyped-call]
        best, value = min(best, time.process_time() - start), float(found.detach())
        if best > 1.0:
            break
    return best, value


def forms(group: Tensor, groups: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Each form as a function of means and variances."""
    membership = one_hot(group, groups).float()
    frequencies = draw_frequencies(FREQUENCIES, DIMENSIONS, generator=torch.Generator().manual_seed(1))
    return {
        "blocks": lambda mean, variance: dependence_by_blocks(mean, variance, group, groups),
        "one kernel": lambda mean, variance: dependence_by_kernel(mean, variance, membership),
        "exact": lambda mean, variance: exact(mean, variance, membership),
        "sketch": lambda mean, variance: plug_in_dependence(sketch(mean, membership, frequencies, variance)),
    }


def main() -> None:
    torch.set_num_threads(1)
    table = Table("batch", "groups", *(f"{name}: ms, V²" for name in NAMES), "blocks / sketch")
    console = Console(width=140)
    with Live(table, console=console):
        for groups in GROUPS:
            for rows in BATCHES:
                table.add_row(f"{rows:,}", str(groups), *_line(rows, groups))
    console.print(
        f"V² in {DIMENSIONS} dimensions, {FREQUENCIES} frequencies; larger batches of the pairwise forms left out"
    )


def _line(rows: int, groups: int) -> list[str]:
    """Time and value of each form that takes so many rows, then how many times longer the blocks take."""
    mean, variance, group = batch(rows, groups)
    found = {
        name: timed(form, mean, variance) for name, form in forms(group, groups).items() if rows <= MOST_ROWS[name]
    }
    cells = [f"{1e3 * found[name][0]:,.1f}, {found[name][1]:.2e}" if name in found else "" for name in NAMES]
    ratio = f"{found['blocks'][0] / found['sketch'][0]:,.0f}" if "blocks" in found else ""
    return [*cells, ratio]


if __name__ == "__main__":
    main()
