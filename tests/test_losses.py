import itertools
import math

import pytest
import torch

from fitnets.losses import (
    UNLABELLED,
    cosine,
    hard_cross_entropy,
    hint_loss,
    hinton_loss,
    kd_loss,
    linear,
    soft_cross_entropy,
)

STUDENT = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]], dtype=torch.float64)
TEACHER = torch.tensor([[3.0, 1.0, 0.0], [-1.0, 2.0, 0.5]], dtype=torch.float64)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(a / temperature) for a in row]
    return [p / sum(powers) for p in powers]


def test_soft_term_is_cross_entropy_with_both_answers_softened() -> None:
    """Paper eq. 1 and 2, by hand: both at tau, cross-entropy, no tau^2."""
    expected = 0.0
    for s, t in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True):
        expected -= sum(p * math.log(q) for p, q in zip(softmax(t, 3), softmax(s, 3), strict=True)) / 2
    assert soft_cross_entropy(STUDENT, TEACHER, 3.0).item() == pytest.approx(expected, rel=1e-12)


def test_soft_gradient_is_difference_of_softened_answers_over_tau() -> None:
    """Hinton et al. section 2: dC/dz = (q - p) / T; a tau^2 or an unsoftened student would show here."""
    student = STUDENT.clone().requires_grad_()
    soft_cross_entropy(student, TEACHER, 3.0).backward()
    expected = ((STUDENT / 3).softmax(1) - (TEACHER / 3).softmax(1)) / 3 / 2
    torch.testing.assert_close(student.grad, expected)


def test_hard_term_sees_only_labelled_samples() -> None:
    labels = torch.tensor([0, UNLABELLED])
    expected = -math.log(softmax(STUDENT[0].tolist(), 1)[0])
    assert hard_cross_entropy(STUDENT, labels).item() == pytest.approx(expected)
    assert hard_cross_entropy(STUDENT, torch.tensor([UNLABELLED, UNLABELLED])).item() == 0.0


def test_paper_loss_has_hard_weight_one() -> None:
    hard, soft = torch.tensor(0.7), torch.tensor(0.2)
    assert kd_loss(hard, soft, 4.0).item() == pytest.approx(0.7 + 4 * 0.2)


def test_hinton_loss_is_convex_with_tau_squared() -> None:
    hard, soft = torch.tensor(0.7), torch.tensor(0.2)
    assert hinton_loss(hard, soft, 3.0, 0.9).item() == pytest.approx(0.1 * 0.7 + 0.9 * 9 * 0.2)


def test_lambda_runs_from_start_to_end_over_the_fraction() -> None:
    schedule = {"start": 4.0, "end": 1.0}
    values = [linear(epoch, 31, fraction=1.0, **schedule) for epoch in range(31)]
    assert values[0] == 4.0 and values[-1] == 1.0
    steps = [a - b for a, b in itertools.pairwise(values)]
    assert steps == pytest.approx([0.1] * 30)
    half = [linear(epoch, 30, fraction=0.5, **schedule) for epoch in range(30)]
    assert half[13] > 1.0 and half[14:] == [1.0] * 16
    assert linear(0, 1, fraction=1.0, **schedule) == 4.0


def test_hint_reductions_have_the_ratios_of_the_paper() -> None:
    """For 7x7x192 hints eq. 3 is 4,704 times MSELoss, the original code's reduction 3.5 times."""
    torch.manual_seed(0)
    predicted, hint = torch.randn(2, 5, 192, 7, 7, dtype=torch.float64)
    per_example = 0.5 * (predicted - hint).pow(2).flatten(1).sum(1).mean()
    code = (0.5 * (predicted - hint).pow(2)).sum(2).mean()  # (B, C, rows, columns): summed over image rows
    mean = torch.nn.functional.mse_loss(predicted, hint)
    assert hint_loss(predicted, hint, "example").item() == pytest.approx(per_example.item())
    assert hint_loss(predicted, hint, "code").item() == pytest.approx(code.item())
    assert hint_loss(predicted, hint, "mean").item() == pytest.approx(mean.item())
    assert (per_example / mean).item() == pytest.approx(4704)
    assert (code / mean).item() == pytest.approx(3.5)


def test_code_reduction_is_exact_for_vectors() -> None:
    predicted, hint = torch.randn(2, 5, 8)
    torch.testing.assert_close(hint_loss(predicted, hint, "code"), hint_loss(predicted, hint, "example"))


def test_cosine_falls_from_one_to_zero() -> None:
    values = [cosine(step, 10) for step in range(11)]
    assert values[0] == 1 and values[-1] == pytest.approx(0) and values == sorted(values, reverse=True)
