"""Accountants against published values, and what a budget affords by them."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis import rdp as opacus

from data_owner.privacy.accounting import ORDERS, Query, affordable, guarantee
from shared.errors import BadInput

PUBLISHED = 7.32911117143
"""ε of σ = 1.5, q = 0.04, δ = 1e-5 after 2,250 steps, by Rényi accounting as in Opacus."""
STEPS = Query(what="gradients", noise_multiplier=1.5, count=2250, sampling=0.04)


def test_the_accountants_agree_with_the_published_value() -> None:
    orders = [order for order in ORDERS if order < 64]
    found = opacus.compute_rdp(q=0.04, noise_multiplier=1.5, steps=2250, orders=orders)
    by_opacus, _ = opacus.get_privacy_spent(orders=orders, rdp=found, delta=1e-5)
    assert by_opacus == pytest.approx(PUBLISHED, abs=1e-9)
    ours = guarantee([STEPS], 1e-5)
    # dp_accounting bounds fractional orders from above
    assert PUBLISHED <= ours.rdp <= PUBLISHED + 5e-4
    assert 0.85 * ours.rdp < ours.pld <= ours.rdp


@pytest.mark.parametrize(("noise_multiplier", "published"), [(1.0, 4.3772), (2.0, 1.9931), (4.0, 0.9263)])
def test_one_gaussian_query_costs_what_the_analytic_mechanism_says(noise_multiplier: float, published: float) -> None:
    """Balle and Wang (arXiv 1805.06530), theorem 8 solved for ε at δ = 1e-5."""
    found = guarantee([Query(what="one", noise_multiplier=noise_multiplier)], 1e-5)
    assert found.pld == pytest.approx(published, abs=2e-3)
    assert found.rdp >= found.pld


def test_nothing_asked_costs_nothing() -> None:
    assert guarantee([], 1e-5).epsilon == 0.0


@settings(max_examples=6, deadline=None)
@given(st.floats(0.2, 3.0), st.integers(1, 4), st.integers(1, 20))
def test_what_is_affordable_is_spent_and_never_passed(epsilon: float, draws: int, count: int) -> None:
    rho = affordable(epsilon, 1e-5, draws)
    query = Query(what="each", noise_multiplier=(count / (2.0 * rho)) ** 0.5, count=count)
    together = guarantee([query] * draws, 1e-5)
    assert 0.99 * epsilon <= together.epsilon <= epsilon


def test_queries_are_values_and_cannot_be_edited_after_they_were_charged() -> None:
    with pytest.raises((dataclasses.FrozenInstanceError, ValueError)):
        STEPS.noise_multiplier = 3.0  # type: ignore[misc]


def test_an_epsilon_that_no_noise_reaches_is_refused() -> None:
    with pytest.raises(BadInput) as refused:
        affordable(1e-4, 1e-9, draws=1000)
    assert refused.value.field == "privacy.epsilon"
