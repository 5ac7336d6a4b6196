"""Losses by hand and by their papers' equations; the weights of their terms over the epochs."""

import itertools
import math

import pytest
import torch

from fitnets.data.batch import UNLABELLED, Batch
from fitnets.losses.features import hint_loss
from fitnets.losses.logits import hard_cross_entropy, soft_cross_entropy
from fitnets.losses.objective import Context, Objective, Outputs, weighted_sum
from fitnets.losses.schedules import linear, warmup
from tests.conftest import composed

pytestmark = pytest.mark.fast

STUDENT = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]], dtype=torch.float64)
TEACHER = torch.tensor([[3.0, 1.0, 0.0], [-1.0, 2.0, 0.5]], dtype=torch.float64)
LABELS = torch.tensor([0, 2])


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(a / temperature) for a in row]
    return [p / sum(powers) for p in powers]


def loss_of(*words: str, epoch: int = 0, epochs: int = 31) -> float:
    """The whole loss of a KD objective as a command line names it."""
    context = Context((), 3, torch.arange(2), LABELS)
    objective = Objective(composed(*words)["kd_loss"], context)
    batch = Batch(torch.arange(2), torch.empty(2, 0), LABELS, torch.zeros(2))
    terms = objective(Outputs(STUDENT), Outputs(TEACHER), batch)
    return weighted_sum(terms, objective.weights(epoch, epochs)).item()


def by_hand(temperature: float, student_temperature: float | None = None) -> tuple[float, float]:
    """H(y, P_S) and H(P_T, P_S) softened, means over the batch."""
    hard = soft = 0.0
    for s, t, label in zip(STUDENT.tolist(), TEACHER.tolist(), LABELS.tolist(), strict=True):
        hard -= math.log(softmax(s, 1)[label]) / 2
        pairs = zip(softmax(t, temperature), softmax(s, student_temperature or temperature), strict=True)
        soft -= sum(p * math.log(q) for p, q in pairs) / 2
    return hard, soft


def test_soft_term_is_cross_entropy_with_both_answers_softened() -> None:
    """Paper eq. 1 and 2, by hand: both at tau, cross-entropy, no tau^2."""
    assert soft_cross_entropy(STUDENT, TEACHER, 3.0).item() == pytest.approx(by_hand(3)[1], rel=1e-12)


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


def test_the_papers_loss_weighs_labels_by_one_and_answers_by_lambda() -> None:
    hard, soft = by_hand(3)
    assert loss_of() == pytest.approx(hard + 4 * soft)
    assert loss_of(epoch=30) == pytest.approx(hard + 1 * soft)
    hard, soft = by_hand(2)
    assert loss_of("temperature=2", "lambda_schedule.start=7") == pytest.approx(hard + 7 * soft)


def test_the_codes_loss_does_not_soften_the_student() -> None:
    hard, soft = by_hand(3, student_temperature=1)
    assert loss_of("kd_loss=code") == pytest.approx(hard + 4 * soft)


def test_hintons_loss_is_convex_with_tau_squared() -> None:
    hard, soft = by_hand(4)
    words = ("kd_loss=hinton", "kd_loss.alpha=0.7", "temperature=4")
    assert loss_of(*words) == pytest.approx(0.3 * hard + 0.7 * 16 * soft) == loss_of(*words, epoch=30)


def test_lambda_runs_from_start_to_end_over_the_fraction() -> None:
    schedule = {"start": 4.0, "end": 1.0}
    values = [linear(epoch, 31, fraction=1.0, **schedule) for epoch in range(31)]
    assert values[0] == 4.0 and values[-1] == 1.0
    steps = [a - b for a, b in itertools.pairwise(values)]
    assert steps == pytest.approx([0.1] * 30)
    half = [linear(epoch, 30, fraction=0.5, **schedule) for epoch in range(30)]
    assert half[13] > 1.0 and half[14:] == [1.0] * 16
    assert linear(0, 1, fraction=1.0, **schedule) == 4.0


def test_a_weight_warms_up_from_nothing_over_its_fraction_and_stays() -> None:
    assert [warmup(epoch, 10, weight=8.0, fraction=0.4) for epoch in range(7)] == [0, 2, 4, 6, 8, 8, 8]
    assert [warmup(epoch, 10, weight=8.0, fraction=0.0) for epoch in (0, 9)] == [8, 8]


def test_hint_reductions_have_the_ratios_of_the_paper() -> None:
    """For 7x7x192 hints eq. 3 is 4,704 times MSELoss, the original code's reduction 3.5 times."""
    torch.manual_seed(0)
    predicted, hint = torch.randn(2, 5, 192, 7, 7, dtype=torch.float64)
    per_example = 0.5 * (predicted - hint).pow(2).flatten(1).sum(1).mean()
    code = (0.5 * (predicted - hint).pow(2)).sum(2).mean()  # (B, C, rows, columns): summed over image rows
    mean = torch.nn.functional.mse_loss(predicted, hint)
    assert hint_loss(predicted, hint).item() == pytest.approx(per_example.item()), "eq. 3 is what is meant by default"
    assert hint_loss(predicted, hint, "example").item() == pytest.approx(per_example.item())
    assert hint_loss(predicted, hint, "code").item() == pytest.approx(code.item())
    assert hint_loss(predicted, hint, "mean").item() == pytest.approx(mean.item())
    assert (per_example / mean).item() == pytest.approx(4704)
    assert (code / mean).item() == pytest.approx(3.5)


def test_code_reduction_is_exact_for_vectors() -> None:
    predicted, hint = torch.randn(2, 5, 8)
    torch.testing.assert_close(hint_loss(predicted, hint, "code"), hint_loss(predicted, hint, "example"))


def test_an_unknown_reduction_is_an_error_and_no_default() -> None:
    with pytest.raises(KeyError):
        hint_loss(torch.zeros(2, 3), torch.ones(2, 3), "sum")
