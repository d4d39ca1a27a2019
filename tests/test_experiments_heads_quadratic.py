"""The quadratic head: the classical form that a circuit with amplitude encoding is, with free vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_head import small_head
from torch.nn import functional

from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.experiments.heads import count_parameters, quantum_head_parameters
from qhybrid.experiments.heads_classical import QuadraticHead, matched_terms


@pytest.mark.parametrize(
    ("circuit", "n_classes", "quantum", "quadratic"),
    [
        ("sda_qec", 2, 18, 4 * 18 + 2),
        ("sda_qec", 9, 53, 4 * 25 + 9),
        ("sda_qec_4q", 2, 257 * 16 + 18, 257 * 16 + 4 * 18 + 2),
        ("sda_qec_8q", 2, 26, 4 * 34 + 2),
    ],
)
def test_the_quadratic_head_has_a_term_for_every_observable(
    circuit: str, n_classes: int, quantum: int, quadratic: int
) -> None:
    assert quantum_head_parameters(256, load_circuit(circuit), n_classes) == quantum
    assert count_parameters(small_head("quadratic", circuit, n_classes=n_classes)) == quadratic


def test_the_number_of_terms_is_the_nearest() -> None:
    def size(terms: int) -> int:
        return terms * (16 + 2) + 2

    for budget in range(1, 200):
        chosen = matched_terms(16, 2, budget)
        assert abs(size(chosen) - budget) == min(abs(size(terms) - budget) for terms in range(20))


@pytest.mark.parametrize("circuit", ["sda_qec", "sda_qec_8q"])
def test_the_logits_of_the_quadratic_head_are_quadratic_forms_of_the_unit_vector(circuit: str) -> None:
    head = small_head("quadratic", circuit, n_classes=9)
    assert isinstance(head, QuadraticHead)
    features = torch.rand(4, 256)
    unit = functional.normalize(features)
    reduced = unit.reshape(4, head.dimension, -1)
    states = reduced @ reduced.mT  # the other qubits are the last ones of these circuits, and traced out
    terms = torch.einsum("ki,bij,kj->bk", head.vectors, states, head.vectors)
    torch.testing.assert_close(head(features), head.classifier(terms))
    torch.testing.assert_close(head(7.5 * features), head(features))
    form = torch.einsum("ck,ki,kj->cij", head.classifier.weight, head.vectors, head.vectors)
    whole = torch.einsum("cij,kl->cikjl", form, torch.eye(256 // head.dimension)).reshape(9, 256, 256)
    expected = torch.einsum("bi,cij,bj->bc", unit, whole, unit) + head.classifier.bias
    torch.testing.assert_close(head(features), expected)


def test_the_quadratic_head_sees_the_qubits_that_the_circuit_sees(tmp_path: Path) -> None:
    path = tmp_path / "last.toml"  # prepared on wires in another order, and only the qubits 0 and 2 are seen
    path.write_text(
        'qubits = 3\nobservables = ["Z0"]\nblocks = [{ encode = "amplitude", wires = [2, 1, 0] }, '
        '{ rotate = "Y" }, { entangle = "chain", wires = [2, 0] }]\n'
    )
    head = small_head("quadratic", str(path), feature_dim=8)
    assert isinstance(head, QuadraticHead)
    assert head.vectors.shape[1] == 4
    vector = functional.normalize(torch.rand(8), dim=0).reshape(2, 2, 2)  # axes: qubits 2, 1, 0
    seen = torch.einsum("iak,jal->ikjl", vector, vector).reshape(4, 4)
    terms = torch.einsum("ki,ij,kj->k", head.vectors, seen, head.vectors)
    torch.testing.assert_close(head(vector.reshape(1, 8)), head.classifier(terms)[None])


def test_a_zero_vector_passes_no_nan_through_the_quadratic_head() -> None:
    head = small_head("quadratic", "sda_qec")
    features = torch.zeros(2, 256, requires_grad=True)
    head(features).sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros(2, 256))
    assert torch.isfinite(head(features)).all()


def test_terms_of_random_vectors_vary_as_much_as_expectation_values() -> None:
    unit = functional.normalize(torch.randn(4000, 16), dim=1)
    signs = 1 - 2 * (torch.arange(16) // 8).double()  # Z of the first qubit
    values = (unit.square().double() * signs).sum(1)
    heads = [small_head("quadratic", "sda_qec_4q", seed=seed) for seed in range(20)]
    terms = torch.cat(
        [(unit @ head.vectors.detach().T).square() for head in heads if isinstance(head, QuadraticHead)], 1
    )
    assert float(values.std()) == pytest.approx(np.sqrt(2 / 18), rel=0.05)
    assert float(terms.std(0).square().mean().sqrt()) == pytest.approx(float(values.std()), rel=0.15)


def test_angle_encoded_circuits_have_no_quadratic_head() -> None:
    with pytest.raises(
        InputError,
        match=r"^head 'quadratic': circuit 'angle_4q' is no quadratic form .*: sda_qec, sda_qec_4q, sda_qec_8q$",
    ):
        small_head("quadratic", "angle_4q")
