"""Integrals by few places: weights, places where something happens, and functions whose integral is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from model.explanation.quadrature import FloatArray, Quadrature, first_quadrature, refined_quadrature

Function = Callable[[FloatArray], FloatArray]


def peak(centre: float, width: float) -> Function:
    """What a logit that jumps by 5 around `centre` changes by; its integral over [0, 1] is 5, but for the tails."""
    return lambda x: 5 / (2 * width) / np.cosh((x - centre) / width) ** 2


def integral(function: Function, quadrature: Quadrature) -> float:
    return float(quadrature.weights @ function(quadrature.places))


def refined(function: Function, first: int, nodes: int) -> Quadrature:
    places = first_quadrature(first).places
    return refined_quadrature(nodes, places, function(places))


@pytest.mark.parametrize("nodes", [1, 4, 16, 64])
def test_places_rise_within_the_line_and_weights_are_its_length(nodes: int) -> None:
    for quadrature in (first_quadrature(nodes), refined(peak(0.3, 0.05), 16, nodes)):
        assert quadrature.places.shape == quadrature.weights.shape == (nodes,)
        assert (np.diff(quadrature.places) > 0).all()
        assert quadrature.places[0] > 0 and quadrature.places[-1] < 1
        assert (quadrature.weights > 0).all()
    if nodes > 1:
        assert first_quadrature(nodes).weights.sum() == pytest.approx(1, abs=1e-9)


def test_a_smooth_function_is_integrated_by_both() -> None:
    def function(x: FloatArray) -> FloatArray:
        return 3 * x**2 - np.cos(3 * x)

    known = 1 - np.sin(3) / 3
    assert integral(function, first_quadrature(32)) == pytest.approx(known, abs=2e-3)
    assert integral(function, refined(function, 16, 32)) == pytest.approx(known, abs=1e-2)


def test_the_first_places_are_densest_in_the_middle() -> None:
    gaps = np.diff(first_quadrature(16).places)
    assert gaps.argmin() == 7 and gaps[0] > 2 * gaps.min()


def test_the_first_places_are_those_of_the_formula() -> None:
    """x = t + sin(2πt) / 4π at t = 1/8, 3/8, 5/8 and 7/8, with weights (1 + cos(2πt) / 2) / 4."""
    found = first_quadrature(4)
    np.testing.assert_allclose(found.places, [0.181270, 0.431270, 0.568730, 0.818730], atol=1e-6)
    np.testing.assert_allclose(found.weights, [0.338388, 0.161612, 0.161612, 0.338388], atol=1e-6)


@pytest.mark.parametrize(("left", "right", "share"), [(0, 1, 0.1), (1, 4, 0.3667), (4, 1, 0.6333), (1, 1, 0.5)])
def test_places_go_by_the_root_of_the_change_and_a_fifth_of_them_is_even(
    left: float, right: float, share: float
) -> None:
    """The function changes by `left` on the first half of the line and by `right` on the second; of the places, `share`
    lie on the first.
    """
    places = np.linspace(0, 1, 2001)
    found = refined_quadrature(300, places, np.where(places < 0.5, left, right).astype(np.float64))
    assert (found.places < 0.5).mean() == pytest.approx(share, abs=0.005)
    assert found.weights[found.places < 0.5].sum() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("centre", [0.2, 0.45, 0.83])
def test_refined_places_go_where_the_function_changes_and_few_of_them_integrate_a_peak(centre: float) -> None:
    function = peak(centre, 0.04)
    found = refined(function, 16, 24)
    near = np.abs(found.places - centre) < 0.12
    assert near.mean() > 0.5, "half of them within the tenth of the line on either side"
    assert integral(function, found) == pytest.approx(5, abs=0.05)
    even = Quadrature((np.arange(12) + 0.5) / 12, np.full(12, 1 / 12))
    assert abs(integral(function, even) - 5) > 0.05


def test_the_sign_and_the_scale_of_what_was_seen_do_not_matter() -> None:
    places = first_quadrature(16).places
    changes = peak(0.3, 0.05)(places)
    one, other = refined_quadrature(24, places, changes), refined_quadrature(24, places, -1000 * changes)
    np.testing.assert_allclose(one.places, other.places)
    np.testing.assert_allclose(one.weights, other.weights)


@pytest.mark.parametrize("changes", [0.0, float("nan")])
def test_where_nothing_was_seen_the_places_are_even(changes: float) -> None:
    found = refined_quadrature(4, first_quadrature(16).places, np.full(16, changes))
    np.testing.assert_allclose(found.places, [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(found.weights, 0.25)
