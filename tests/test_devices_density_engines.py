"""The two engines of qhybrid.density against dense matrices: values, gradients, segments, precision."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_devices_density_elements import random_channel, random_elements, whole_map

from qhybrid.devices.density_blocks import block_plan
from qhybrid.devices.density_elements import Channel, Element, Turn, simplified
from qhybrid.devices.density_program import Engine, engine
from qhybrid.devices.density_sectors import SectorProgram
from qhybrid.devices.density_sweep import SweepProgram
from qhybrid.devices.density_walls import Word, wall_count

N_ANGLES = 3
PLENTY = 10**9
SEEDS = st.integers(0, 2**32 - 1)
Build = Callable[[list[Element], int, list[Word]], Engine]


def sectors(elements: list[Element], n_qubits: int, words: list[Word]) -> Engine:
    return SectorProgram(elements, n_qubits, words, N_ANGLES)


def sweep(elements: list[Element], n_qubits: int, words: list[Word]) -> Engine:
    return SweepProgram(block_plan(elements, words), N_ANGLES)


def case(seed: int, n_qubits: int, n_elements: int) -> tuple[list[Element], list[Word], np.ndarray]:
    """Random elements, words and angles (4, P)."""
    generator = np.random.default_rng(seed)
    words: list[Word] = []
    for _ in range(3):
        letters = generator.choice(list("IXYZ"), size=n_qubits)
        letters[generator.integers(n_qubits)] = "Z"
        words.append(tuple((place, str(letter)) for place, letter in enumerate(letters) if letter != "I"))
    elements = random_elements(generator, n_qubits, n_elements, N_ANGLES)
    return elements, words, generator.normal(size=(4, N_ANGLES))


def dense(elements: list[Element], n_qubits: int, words: list[Word], rows: np.ndarray) -> np.ndarray:
    """(B, words) by dense matrices."""
    digits = np.array(np.unravel_index(np.arange(4**n_qubits), (4,) * n_qubits))
    ground = np.all((digits == 0) | (digits == 3), axis=0).astype(float)
    picks = [sum("IXYZ".index(letter) << 2 * (n_qubits - 1 - place) for place, letter in word) for word in words]
    return np.stack([(whole_map(elements, n_qubits, row) @ ground)[picks] for row in rows])


@pytest.mark.parametrize("build", [sectors, sweep])
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n_qubits=st.integers(2, 3), n_elements=st.integers(0, 16))
def test_values_equal_dense_matrices(build: Build, seed: int, n_qubits: int, n_elements: int) -> None:
    elements, words, rows = case(seed, n_qubits, n_elements)
    values, _ = build(elements, n_qubits, words).run(
        torch.from_numpy(rows), keep=False, dtype=torch.float64, allowed=PLENTY
    )
    np.testing.assert_allclose(values.numpy(), dense(elements, n_qubits, words, rows), atol=1e-12)


@pytest.mark.parametrize("build", [sectors, sweep])
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n_elements=st.integers(0, 20), tight=st.booleans())
def test_gradients_equal_finite_differences(build: Build, seed: int, n_elements: int, tight: bool) -> None:
    elements, words, rows = case(seed, 3, n_elements)
    program = build(elements, 3, words)
    cotangent = np.random.default_rng(seed).normal(size=(4, 3))
    allowed = 1 if tight else PLENTY
    angles = torch.from_numpy(rows)
    values, kept = program.run(angles, keep=True, dtype=torch.float64, allowed=allowed)
    got = program.pull(angles, kept, torch.from_numpy(cotangent))  # type: ignore[arg-type]
    np.testing.assert_allclose(values.numpy(), dense(elements, 3, words, rows), atol=1e-12)
    step, wanted = 1e-3, np.zeros_like(rows)
    for column in range(N_ANGLES):
        for distance, factor in ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12)):
            moved = rows.copy()
            moved[:, column] += distance * step
            wanted[:, column] += factor / step * (cotangent * dense(elements, 3, words, moved)).sum(axis=1)
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-8)


@pytest.mark.parametrize("build", [sectors, sweep])
def test_single_precision_is_close(build: Build) -> None:
    elements, words, rows = case(5, 3, 30)
    angles = torch.from_numpy(rows)
    program = build(elements, 3, words)
    values, kept = program.run(angles, keep=True, dtype=torch.float32, allowed=PLENTY)
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values.numpy(), dense(elements, 3, words, rows), atol=1e-5)
    gradient = program.pull(angles, kept, torch.ones_like(values))  # type: ignore[arg-type]
    assert gradient.dtype == torch.float64


def test_segments_bound_what_is_kept() -> None:
    elements, words, _ = case(1, 3, 400)
    program = SweepProgram(block_plan(simplified(elements), words), N_ANGLES)
    assert program.least_elements_per_row(gradient=True) < program.elements_per_row(gradient=True)
    _, kept = program.run(torch.zeros(1, N_ANGLES), keep=True, dtype=torch.float64, allowed=1)
    assert kept is not None
    assert not kept.inside
    assert len(kept.states) > 1


def test_turns_on_different_qubits_make_one_wall() -> None:
    first, second = Turn(0, 0.0, ((0, 1.0),)), Turn(1, 0.0, ((1, 1.0),))
    mixed = Channel((0, 1), random_channel(np.random.default_rng(0), 2))
    single = Channel((1,), random_channel(np.random.default_rng(1), 1))
    for elements, count in (([first, second], 1), ([first, single, second], 1), ([first, mixed, second], 2)):
        around: list[Element] = [mixed, *elements, mixed]
        assert wall_count(around) == count
        assert len(SectorProgram(around, 2, [((0, "Z"),)], N_ANGLES).walls) == count


def test_components_that_cannot_be_reached_or_seen_are_left_out() -> None:
    elements = random_elements(np.random.default_rng(0), 4, 60, N_ANGLES)
    program = SectorProgram(simplified(elements), 4, [((0, "Z"),)], N_ANGLES)
    assert max(program.walls[0], program.walls[-1]) < 128


def test_qubits_enter_late_and_leave_early() -> None:
    matrix = random_channel(np.random.default_rng(0), 2)
    chain: list[Element] = [Channel((first, first + 1), matrix) for first in range(5)]
    program = SweepProgram(block_plan(chain[::-1], [((0, "Z"),)]), 1)
    assert program.largest == 4


@pytest.mark.parametrize("n_walls", [2, 40])
def test_the_cheaper_engine_is_taken(n_walls: int) -> None:
    generator = np.random.default_rng(2)
    elements: list[Element] = []
    for _ in range(n_walls):
        elements += random_elements(generator, 3, 12, N_ANGLES)
    found = engine(elements, 3, [((0, "Z"),)], N_ANGLES)
    assert isinstance(found, SectorProgram if n_walls == 2 else SweepProgram)
