"""Decoupled KD, attention transfer and CRD against independent formulas; what an objective owns, and its weights."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fitnets.data.batch import UNLABELLED, Batch
from fitnets.losses.contrastive import CRD, MemoryBank, Negatives
from fitnets.losses.features import Attention, Regression
from fitnets.losses.logits import Decoupled
from fitnets.losses.objective import Context, LayerPair, Objective, ObjectiveError, Outputs, weighted_sum
from tests.conftest import composed

pytestmark = pytest.mark.fast

SEEDS = st.integers(0, 10_000)
PLAIN = {"temperature": 2.0, "alpha": 1.0, "beta": 8.0, "warmup": 0.0}


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch_of(labels: Tensor, ids: Tensor | None = None) -> Batch:
    ids = torch.arange(len(labels)) if ids is None else ids
    return Batch(ids, torch.empty(len(labels), 0), labels, torch.zeros_like(labels))


def context_of(classes: int = 5, *pairs: LayerPair, labels: Tensor | None = None) -> Context:
    labels = torch.arange(40) % classes if labels is None else labels
    return Context(tuple(pairs), classes, torch.arange(len(labels)), labels)


def vectors(student: int, teacher: int) -> LayerPair:
    return LayerPair("t", "s", (teacher,), (student,))


# ------------------------------------------------------------------------------------- decoupled KD


def decoupled_by_hand(student: Tensor, teacher: Tensor, labels: Tensor, tau: float) -> tuple[float, float]:
    """TCKD and NCKD, means over the samples, from probabilities and sums over classes (Zhao et al. 2022, eq. 5)."""
    target = others = 0.0
    for s, t, label in zip((student / tau).exp(), (teacher / tau).exp(), labels.tolist(), strict=True):
        p, q = (t / t.sum()).tolist(), (s / s.sum()).tolist()
        for p_part, q_part in ((p[label], q[label]), (1 - p[label], 1 - q[label])):
            target += p_part * torch.tensor(p_part / q_part).log().item() / len(labels)
        for i in range(len(p)):
            if i != label:
                p_hat, q_hat = p[i] / (1 - p[label]), q[i] / (1 - q[label])
                others += p_hat * torch.tensor(p_hat / q_hat).log().item() / len(labels)
    return target, others


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.floats(1, 5))
def test_decoupled_kd_is_its_papers_formula(seed: int, tau: float) -> None:
    student, teacher, labels = drawn(seed, 6, 5), drawn(seed + 1, 6, 5), torch.arange(6) % 5
    loss = Decoupled(context_of(), **PLAIN | {"temperature": tau})
    terms = loss(Outputs(student), Outputs(teacher), batch_of(labels))
    target, others = decoupled_by_hand(student, teacher, labels, tau)
    assert terms["target"].item() == pytest.approx(target, rel=1e-5, abs=1e-7)
    assert terms["others"].item() == pytest.approx(others, rel=1e-5, abs=1e-7)
    assert terms["hard"].item() == pytest.approx(F.cross_entropy(student, labels).item())


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_the_two_parts_make_up_plain_kd(seed: int) -> None:
    """KL(teacher || student) = TCKD + (1 - p_T(label)) NCKD (eq. 7), for each sample."""
    student, teacher = drawn(seed, 1, 5), drawn(seed + 1, 1, 5)
    label = torch.tensor([seed % 5])
    terms = Decoupled(context_of(), **PLAIN)(Outputs(student), Outputs(teacher), batch_of(label))
    p_label = (teacher / 2).softmax(1)[0, label]
    whole = F.kl_div((student / 2).log_softmax(1), (teacher / 2).log_softmax(1), log_target=True, reduction="sum")
    assert (terms["target"] + (1 - p_label) * terms["others"]).item() == pytest.approx(whole.item(), rel=1e-9)


def test_gradients_of_decoupled_kd() -> None:
    student, teacher = drawn(0, 4, 5).requires_grad_(), drawn(1, 4, 5)
    labels, loss = torch.tensor([0, 1, UNLABELLED, 4]), Decoupled(context_of(), **PLAIN)

    def total(logits: Tensor) -> Tensor:
        return sum(loss(Outputs(logits), Outputs(teacher), batch_of(labels)).values())  # type: ignore[return-value]

    assert torch.autograd.gradcheck(total, student)


def test_decoupled_kd_leaves_out_what_has_no_label() -> None:
    student, teacher, loss = drawn(0, 6, 5).requires_grad_(), drawn(1, 6, 5), Decoupled(context_of(), **PLAIN)
    labels = torch.tensor([0, UNLABELLED, 3, UNLABELLED, UNLABELLED, 2])
    known = labels != UNLABELLED
    terms = loss(Outputs(student), Outputs(teacher), batch_of(labels))
    alone = loss(Outputs(student[known]), Outputs(teacher[known]), batch_of(labels[known]))
    assert all(torch.isclose(terms[name], alone[name]) for name in ("hard", "target", "others"))
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert (student.grad[~known] == 0).all() and (student.grad[known] != 0).any()
    none = loss(Outputs(student), Outputs(teacher), batch_of(torch.full((6,), UNLABELLED)))
    assert [term.item() for term in none.values()] == [0, 0, 0]


def test_decoupled_kd_warms_up_and_its_parts_weigh_tau_squared() -> None:
    objective = Objective(composed("kd_loss=dkd", "temperature=4", "kd_loss.warmup=0.5")["kd_loss"], context_of())
    at = [objective.weights(epoch, 10) for epoch in (0, 2, 5, 9)]
    assert [w["target"] for w in at] == pytest.approx([0, 0.4 * 16, 16, 16])
    assert [w["others"] for w in at] == pytest.approx([0, 0.4 * 8 * 16, 8 * 16, 8 * 16])
    assert all("hard" not in w for w in at), "labels count once, from the first epoch on"
    assert set(objective.scheduled()) == {"target", "others"}


def test_decoupled_kd_needs_three_classes() -> None:
    with pytest.raises(ValueError, match="at least 3 classes"):
        Decoupled(context_of(2), **PLAIN)


# ------------------------------------------------------------------------------- attention transfer


def maps(*sizes: tuple[tuple[int, int, int], tuple[int, int, int]]) -> Attention:
    pairs = [LayerPair(f"t{i}", f"s{i}", theirs, ours) for i, (ours, theirs) in enumerate(sizes)]
    return Attention(context_of(5, *pairs), power=2)


def attention(loss: Attention, ours: list[Tensor], theirs: list[Tensor]) -> float:
    terms = loss(Outputs(None, tuple(ours)), Outputs(None, tuple(theirs)), None)
    (value,) = terms.values()
    return value.item()


def test_attention_by_hand() -> None:
    """One sample, two positions. Ours: channels 1, 7 and 7, 1 -> map 25, 25 -> (1, 1)/sqrt 2; theirs: 3, 4 -> 9, 16."""
    ours = torch.tensor([[[[1.0, 7.0]], [[7.0, -1.0]]]])
    theirs = torch.tensor([[[[3.0, -4.0]]]])
    norm = (9**2 + 16**2) ** 0.5
    expected = ((0.5**0.5 - 9 / norm) ** 2 + (0.5**0.5 - 16 / norm) ** 2) / 2
    assert attention(maps(((2, 1, 2), (1, 1, 2))), [ours], [theirs]) == pytest.approx(expected)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.floats(0.1, 100))
def test_maps_that_are_equal_up_to_scale_and_sign_are_alike(seed: int, scale: float) -> None:
    x = drawn(seed, 3, 4, 5, 5)
    loss = maps(((4, 5, 5), (4, 5, 5)))
    assert attention(loss, [x], [-scale * x.flip(1)]) == pytest.approx(0, abs=1e-12)
    assert attention(loss, [x], [x.flip(2)]) > 1e-4


@pytest.mark.parametrize("larger", ["ours", "theirs"])
def test_larger_maps_are_averaged_down_to_the_smaller(larger: str) -> None:
    small, large = drawn(0, 2, 3, 2, 2), drawn(1, 2, 4, 4, 6)
    pooled = F.adaptive_avg_pool2d(large, (2, 2))
    whole, cut = maps(((4, 4, 6), (3, 2, 2))), maps(((4, 2, 2), (3, 2, 2)))
    expected = attention(cut, [pooled], [small])
    ours, theirs = ([large], [small]) if larger == "ours" else ([small], [large])
    assert attention(whole, ours, theirs) == pytest.approx(expected) and expected > 0


def test_attention_is_summed_over_pairs_of_layers() -> None:
    ours, theirs = [drawn(0, 2, 3, 2, 2), drawn(1, 2, 3, 4, 4)], [drawn(2, 2, 3, 2, 2), drawn(3, 2, 3, 4, 4)]
    sizes = (((3, 2, 2), (3, 2, 2)), ((3, 4, 4), (3, 4, 4)))
    each = [attention(maps(size), [a], [b]) for size, a, b in zip(sizes, ours, theirs, strict=True)]
    assert attention(maps(*sizes), ours, theirs) == pytest.approx(sum(each))


def test_attention_refuses_vectors_and_says_what_to_type() -> None:
    with pytest.raises(ObjectiveError, match="type hint=middle"):
        Attention(context_of(5, vectors(4, 6)), power=2)


def test_gradients_of_attention() -> None:
    x, y = drawn(0, 2, 3, 3, 3).requires_grad_(), drawn(1, 2, 4, 3, 3)
    loss = maps(((3, 3, 3), (4, 3, 3)))
    assert torch.autograd.gradcheck(lambda x: loss(Outputs(None, (x,)), Outputs(None, (y,)), None)["attention"], x)


def test_attention_learns_nothing_of_its_own() -> None:
    assert not list(maps(((3, 2, 2), (3, 2, 2))).parameters()), "no regressor at all"


# ---------------------------------------------------------------------------------------------- CRD

LABELS = torch.tensor([0, 0, 1, 2, 1, 0, 2, UNLABELLED, UNLABELLED, 1])


def crd(**options: Any) -> CRD:
    given = {"features": 4, "negatives": 6, "temperature": 0.5, "momentum": 0.5, "same_class": False} | options
    torch.manual_seed(0)
    return CRD(context_of(3, vectors(5, 7), labels=LABELS), **given).double()


def crd_by_hand(loss: CRD, student: Tensor, teacher: Tensor, ids: Tensor, negatives: Tensor) -> float:
    """Eq. 17 and 18 sample by sample, each with its negatives; constants from this very batch."""

    def unit(x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)

    ours = unit(student @ loss.student_head.weight.T + loss.student_head.bias)
    theirs = unit(teacher @ loss.teacher_head.weight.T + loss.teacher_head.bias)
    total, samples, noise = 0.0, len(LABELS), loss.negatives / len(LABELS)
    for anchors, bank in ((ours, loss.teacher_bank.rows), (theirs, loss.student_bank.rows)):
        scores = []
        for anchor, own, others in zip(anchors, ids, negatives, strict=True):
            scores.append([(bank[i] @ anchor / loss.temperature).exp() for i in (own, *others)])
        constant = torch.stack([torch.stack(row) for row in scores]).mean() * samples
        for row in scores:
            hit, *missed = (score / constant for score in row)
            total -= (hit / (hit + noise)).log().item() / len(ids)
            total -= sum((noise / (other + noise)).log().item() for other in missed) / len(ids)
    return total


def test_crd_is_its_papers_formula() -> None:
    loss, student, teacher = crd(), drawn(0, 4, 5), drawn(1, 4, 7)
    ids = torch.tensor([3, 0, 7, 9])
    torch.manual_seed(5)
    negatives = loss.draws.draw(ids, loss.negatives, None)
    expected = crd_by_hand(loss, student, teacher, ids, negatives)
    torch.manual_seed(5)
    terms = loss(Outputs(None, (student,)), Outputs(None, (teacher,)), batch_of(LABELS[ids], ids))
    assert terms["contrast"].item() == pytest.approx(expected, rel=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=5, max_size=20), SEEDS, st.booleans())
def test_negatives_are_every_other_sample_and_none_of_the_same_class(
    classes: list[int], seed: int, same_class: bool
) -> None:
    """Class 3 stands for "no label": such a sample may have any other as its negative."""
    labels = torch.tensor([*classes, 0, 1, 2])  # three classes at least
    labels[labels == 3] = UNLABELLED
    ids = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    drawn_ids = Negatives(ids, labels, same_class).draw(ids, 400, torch.Generator().manual_seed(seed))
    for own, others in zip(ids.tolist(), drawn_ids, strict=True):
        any_class = same_class or labels[own] == UNLABELLED
        allowed = {i for i in ids.tolist() if i != own and (any_class or labels[i] != labels[own])}
        assert set(others.tolist()) == allowed, "each of them comes among 400, and no other"


def test_every_allowed_negative_is_as_likely() -> None:
    ids = torch.arange(10)
    draws = Negatives(ids, LABELS, same_class=False).draw(ids, 20_000, torch.Generator().manual_seed(0))
    for own in range(10):
        share = draws[own].bincount(minlength=10) / 20_000
        allowed = share[share > 0]
        assert torch.allclose(allowed, torch.full_like(allowed, 1 / len(allowed)), atol=0.015)


def test_the_memory_bank_moves_by_its_momentum_and_stays_of_unit_length() -> None:
    bank = MemoryBank(6, 3).double()
    before, new = bank.rows.clone(), F.normalize(drawn(0, 2, 3))
    bank.update(torch.tensor([4, 1]), new, momentum=0.25)
    for row, feature in ((4, new[0]), (1, new[1])):
        mixed = 0.25 * before[row] + 0.75 * feature
        torch.testing.assert_close(bank.rows[row], mixed / mixed.norm())
    untouched = [0, 2, 3, 5]
    assert torch.equal(bank.rows[untouched], before[untouched])


def test_training_writes_the_banks_at_its_samples_only() -> None:
    loss, ids = crd(), torch.tensor([2, 8])
    before = loss.student_bank.rows.clone(), loss.teacher_bank.rows.clone()
    loss(Outputs(None, (drawn(0, 2, 5),)), Outputs(None, (drawn(1, 2, 7),)), batch_of(LABELS[ids], ids))
    for bank, old in zip((loss.student_bank, loss.teacher_bank), before, strict=True):
        assert (bank.rows != old).any(1).nonzero().flatten().tolist() == [2, 8]


def test_validation_touches_neither_the_banks_nor_torchs_random_state() -> None:
    loss, ids = crd(), torch.tensor([2, 11])  # 11 is none of the training samples
    outputs = Outputs(None, (drawn(0, 2, 5),)), Outputs(None, (drawn(1, 2, 7),))
    loss(*outputs, batch_of(LABELS[[2, 3]], torch.tensor([2, 3])))
    state = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    loss.eval()
    random_state = torch.get_rng_state()
    values = [loss(*outputs, batch_of(torch.tensor([1, 0]), ids))["contrast"].item() for _ in range(2)]
    assert values[0] == values[1] and torch.isfinite(torch.tensor(values)).all()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loss.state_dict().items())


def test_crd_compares_one_pair() -> None:
    with pytest.raises(ObjectiveError, match="type hint=penultimate"):
        options = {"features": 4, "negatives": 6, "temperature": 0.5, "momentum": 0.5, "same_class": False}
        CRD(context_of(3, vectors(5, 7), vectors(5, 7)), **options)


# --------------------------------------------------------------------- weights, state, several layers


def twice(student: Outputs, teacher: Outputs, batch: Any, factor: float = 2.0) -> dict[str, Tensor]:
    """A loss as a function, as a user writes one."""
    assert student.logits is not None
    return {"first": factor * student.logits.mean(), "second": student.logits.square().mean()}


TWICE = {"_target_": f"{__name__}.twice"}


def test_weights_are_numbers_and_schedules_by_term() -> None:
    schedule = {"_target_": "fitnets.losses.schedules.linear", "start": 3.0, "end": 1.0}
    spec = TWICE | {"factor": 5.0, "weights": {"first": 0.5, "second": schedule}}
    objective = Objective(spec, context_of())
    logits = drawn(0, 3, 4)
    terms = objective(Outputs(logits), Outputs(None), None)
    assert terms["first"].item() == pytest.approx(5 * logits.mean().item()), "options are the function's"
    for epoch, factor in ((0, 3.0), (1, 2.0), (2, 1.0)):
        assert objective.weights(epoch, 3) == {"first": 0.5, "second": factor}
        total = weighted_sum(terms, objective.weights(epoch, 3)).item()
        assert total == pytest.approx(0.5 * terms["first"].item() + factor * terms["second"].item())
    assert objective.scheduled() == ["second"]


def test_a_weight_of_a_term_that_is_none_is_an_error_that_lists_the_terms() -> None:
    objective = Objective(TWICE | {"weights": {"thrid": 0.5}}, context_of())
    with pytest.raises(ValueError, match=r"thrid.*first, second"):
        objective(Outputs(drawn(0, 3, 4)), Outputs(None), None)


def test_a_term_without_a_weight_counts_once() -> None:
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
    assert weighted_sum(terms, {}).item() == 5 and weighted_sum(terms, {"b": 10.0}).item() == 32


def test_yaml_weights_win_over_an_objectives_own() -> None:
    spec = composed("kd_loss=hinton", "+kd_loss.weights={hard: 7.0}")["kd_loss"]
    weights = Objective(spec, context_of()).weights(0, 1)
    assert weights["hard"] == 7 and weights["soft"] == pytest.approx(0.9 * 9)


def test_what_an_objective_learns_or_remembers_is_its_state() -> None:
    """Each in a file of its own beside the student; a function has none."""
    spec = composed("hint_loss=crd", "hint_loss.features=4")["hint_loss"]
    of_crd = Objective(spec, context_of(5, vectors(5, 7))).state()
    assert set(of_crd) == {*("student_head", "teacher_head", "student_bank", "teacher_bank")}
    pair = LayerPair("t", "s", (4, 3, 3), (2, 5, 5))
    of_regression = Objective(composed()["hint_loss"], context_of(5, pair)).state()
    assert set(of_regression) == {"regressor"}
    assert Objective(TWICE, context_of()).state() == {}


class Scaled(nn.Module):
    """A loss as a module with a parameter of its own and a layer, as a user writes one."""

    def __init__(self, context: Context):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.student = nn.Linear(context.num_classes, 1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Any) -> dict[str, Tensor]:
        return {"scaled": (self.scale * self.student(student.logits)).square().mean()}


def test_a_parameter_that_is_in_no_layer_is_state_too() -> None:
    (kept,) = Objective({"_target_": f"{__name__}.Scaled"}, context_of()).state().values()
    assert set(kept.state_dict()) == {"scale", "student.weight", "student.bias"}


def test_the_hint_loss_is_summed_over_pairs_through_a_regressor_each() -> None:
    pairs = [LayerPair("t0", "s0", (4, 3, 3), (2, 5, 5)), LayerPair("t1", "s1", (6,), (3,))]
    torch.manual_seed(0)
    spec = {"regressor": composed()["regressor"], "reduction": "example"}
    loss = Regression(context_of(5, *pairs), **spec)
    ours, theirs = [torch.randn(2, 2, 5, 5), torch.randn(2, 3)], [torch.randn(2, 4, 3, 3), torch.randn(2, 6)]
    assert isinstance(loss.regressor, nn.ModuleList)
    expected = sum(
        0.5 * (regress(x) - hint).square().flatten(1).sum(1).mean()
        for regress, x, hint in zip(loss.regressor, ours, theirs, strict=True)
    )
    terms = loss(Outputs(None, tuple(ours)), Outputs(None, tuple(theirs)), None)
    assert terms["hint_loss"].item() == pytest.approx(expected.item())
