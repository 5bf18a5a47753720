"""The student E': noise to latents, distilled from the released statistics alone (DESIGN section 4).

It works in whitened coordinates, where N(0, I) is the Gaussian of the released moments. Training starts near
that and keeps the best state on frequencies it is not trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from pydantic import Field
from safetensors.torch import save
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.functional import silu

from shared.decoder import checked
from shared.frozen import Frozen
from shared.progress import Progress, quiet
from shared.sketch import Characteristic, characteristic_function, distance
from shared.statistics import LOG_VARIANCE, LatentStatistics

NOISE = 64
HIDDEN = 32
SLOPE = 3.0
"""Steep enough that noise reaches the bends of SiLU, without which clusters cannot be told apart."""

DRAWS = 8192
"""Of z' in each of the two sketches that a student is judged by."""

REPEATS = 8
"""Of that judgement, for its standard error."""

NEGLIGIBLE = 1e-5
"""A squared distance at which training stops short of a Gaussian, whatever it is shown."""

LAST_SEED = 2**64 - 3
"""Distilling takes this seed and the next two, and a generator's seed has 64 bits."""


@dataclass(frozen=True)
class StudentSettings:
    """A step draws `batch` noises in two independent halves for the sketch, another half for the divergence, and
    `frequencies` of the training ones."""

    steps: int = 800
    batch: int = 4096
    frequencies: int = 128
    held_out: float = 0.25
    learning_rate: float = 2e-2
    divergence_weight: float = 1e-7
    seed: int = 0


class Distillation(Frozen):
    """Squared sketch distances on the frequencies that `seed` holds out: of the student, with the standard error that
    its draws leave, of what it had to beat, and over its steps."""

    seed: int = Field(default=0, ge=0, le=LAST_SEED)
    distance: float
    standard_error: float = Field(default=0.0, ge=0.0)
    gaussian_distance: float
    prior_distance: float
    history: tuple[tuple[int, float], ...] = Field(min_length=1)

    @property
    def has_failed(self) -> bool:
        """Whether the Gaussian or the prior is nearer, by more than chance leaves (three standard errors) and by more
        than `NEGLIGIBLE`: where z is Gaussian no student is nearer."""
        nearest = min(self.gaussian_distance, self.prior_distance)
        return self.distance > nearest + 3.0 * self.standard_error + NEGLIGIBLE


@dataclass(frozen=True)
class Distilled:
    """A student and how far it came."""

    student: Student
    distillation: Distillation


class Student(nn.Module):
    """Noise (n, 64) to the mean and log-variance of whitened z', each (n, latent)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(NOISE, HIDDEN)
        self.mean = nn.Linear(HIDDEN, latent)
        self.log_variance = nn.Linear(HIDDEN, latent)
        # half of the unit variance in the mean, half in the noise around it: near the Gaussian to start with
        nn.init.normal_(self.mean.weight, std=0.25)
        nn.init.zeros_(self.mean.bias)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, math.log(0.5))

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        hidden = silu(SLOPE * self.hidden(noise))
        return self.mean(hidden), self.log_variance(hidden).clamp(*LOG_VARIANCE)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` whitened latents, (count, latent)."""
        mean, log_variance = self(torch.randn(count, NOISE, generator=generator))
        return mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)

    def to_bytes(self, lineage: dict[str, str]) -> bytes:
        """safetensors; `lineage` goes into the metadata."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        return save(tensors, metadata=lineage)

    @classmethod
    def from_bytes(cls, data: bytes, latent: int) -> Self:
        """Raises `VerificationFailure` unless the tensors are a student of this latent size."""
        with torch.device("meta"):  # draws no weights from the caller's generator
            model = cls(latent)
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        tensors = checked(data, shapes)
        model = model.to_empty(device="cpu")
        model.load_state_dict(tensors)
        return model.eval()


def distil(
    statistics: LatentStatistics,
    shares: Tensor,
    settings: StudentSettings,
    progress: Progress = quiet,
) -> Distilled:
    """Distil a student from noise. shares: group shares, (groups,)."""
    generator = torch.Generator().manual_seed(settings.seed)
    latent = statistics.latent
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        student = Student(latent)
    real, imaginary = statistics.pooled(shares)
    held, train = _split(len(real), settings, generator)
    frequencies, target = statistics.frequencies[held], (real[held], imaginary[held])
    best, best_state = math.inf, student.state_dict()
    optimiser = torch.optim.Adam(student.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    history = []
    # small matrices: more would wait for each other longer than they work
    with threadpool_limits(1, user_api="openmp"):
        for step in range(1, settings.steps + 1):
            chosen = train[torch.randint(len(train), (settings.frequencies,), generator=generator)]
            first, second = (
                _drawn(student, settings.batch // 2, statistics.frequencies[chosen], generator) for _ in range(2)
            )
            loss = distance(first, second, (real[chosen], imaginary[chosen]))
            mean, log_variance = student(torch.randn(settings.batch // 2, NOISE, generator=generator))
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1).mean()
            optimiser.zero_grad()
            (loss + settings.divergence_weight * divergence).backward()
            optimiser.step()
            schedule.step()
            if step % 50 == 0 or step == settings.steps:
                score = _held_out(student, frequencies, target, torch.Generator().manual_seed(settings.seed + 1))
                history.append((step, score))
                if score < best:
                    best = score
                    best_state = {name: value.clone() for name, value in student.state_dict().items()}
                progress(step, settings.steps, f"held-out sketch distance {score:.2e}")
    student.load_state_dict(best_state)
    return Distilled(student.eval(), measure_student(student, statistics, shares, settings, tuple(history)))


def measure_student(
    student: Student,
    statistics: LatentStatistics,
    shares: Tensor,
    settings: StudentSettings,
    history: tuple[tuple[int, float], ...],
) -> Distillation:
    """How far from the released sketch a student is that was distilled with these settings, measured anew.

    history: over its steps. Raises pydantic's `ValidationError` where a distance is not finite.
    """
    real, imaginary = statistics.pooled(shares)
    held, _ = _split(len(real), settings, torch.Generator().manual_seed(settings.seed))
    frequencies, target = statistics.frequencies[held], (real[held], imaginary[held])
    noise = torch.Generator().manual_seed(settings.seed + 2)  # not + 1: the best of many looks is too good
    with threadpool_limits(1, user_api="openmp"):  # more add up in another order, and the last digits stay in a file
        found = [_held_out(student, frequencies, target, noise) for _ in range(REPEATS)]
    return Distillation(
        seed=settings.seed,
        distance=found[0],
        standard_error=float(torch.tensor(found).std()),
        gaussian_distance=_difference(_gaussian(frequencies), torch.zeros(len(held)), *target),
        prior_distance=_difference(*_prior(frequencies, statistics), *target),
        history=history,
    )


def _split(count: int, settings: StudentSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions of the frequencies that are held out and of those trained on, the first draw of a distillation."""
    order = torch.randperm(count, generator=generator)
    split = int(count * settings.held_out)
    return order[:split], order[split:]


def _held_out(student: Student, frequencies: Tensor, target: Characteristic, noise: torch.Generator) -> float:
    with torch.no_grad():
        first, second = (_drawn(student, DRAWS, frequencies, noise) for _ in range(2))
    return float(distance(first, second, target))


def _drawn(student: Student, count: int, frequencies: Tensor, generator: torch.Generator) -> Characteristic:
    """Of z' from so many noises."""
    mean, log_variance = student(torch.randn(count, NOISE, generator=generator))
    return characteristic_function(mean, log_variance.exp(), frequencies)


def _prior(frequencies: Tensor, statistics: LatentStatistics) -> tuple[Tensor, Tensor]:
    """The characteristic function of z ~ N(mean, I) in each class in whitened coordinates, there N(0, L⁻¹ L⁻ᵀ)."""
    strata = statistics.strata
    return strata.shares @ _gaussian(strata.raw(frequencies)), torch.zeros(len(frequencies))


def _gaussian(frequencies: Tensor) -> Tensor:
    """The characteristic function exp(-½|t|²) of N(0, I), which is real, over the last dimension of frequencies."""
    return torch.exp(-0.5 * frequencies.square().sum(-1))


def _difference(first_real: Tensor, first_imaginary: Tensor, real: Tensor, imaginary: Tensor) -> float:
    """Mean squared distance of two characteristic functions."""
    return float(torch.complex(first_real - real, first_imaginary - imaginary).abs().square().mean())
