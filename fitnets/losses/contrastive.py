"""Contrastive representation distillation (Tian et al. 2020). Plain torch."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fitnets.data.batch import UNLABELLED
from fitnets.losses.objective import Context, ObjectiveError, Outputs


class MemoryBank(nn.Module):
    """A feature of unit length for each sample id, (N, D): what a network last gave for it, averaged over time.

    `constant` normalises the scores of what is compared with it; the first batch sets it (0 before).
    """

    rows: Tensor
    constant: Tensor

    def __init__(self, samples: int, features: int):
        super().__init__()
        bound = (3 / features) ** 0.5
        self.register_buffer("rows", torch.empty(samples, features).uniform_(-bound, bound))
        self.register_buffer("constant", torch.zeros(()))

    @torch.no_grad()
    def update(self, ids: Tensor, features: Tensor, momentum: float) -> None:
        mixed = momentum * self.rows[ids] + (1 - momentum) * features.to(self.rows.dtype)
        self.rows[ids] = F.normalize(mixed)


class Negatives(nn.Module):
    """Draws ids of other samples: of other classes where labels are known, unless `same_class`.

    Ids are kept in the order of their classes, so that those which may not be drawn for a sample are one block of it,
    and every other one is as likely.
    """

    order: Tensor
    first: Tensor
    size: Tensor

    def __init__(self, ids: Tensor, labels: Tensor, same_class: bool):
        super().__init__()
        classes = labels[ids]
        order = ids[classes.argsort(stable=True)]
        classes = classes.sort(stable=True).values
        place = torch.arange(len(order), device=ids.device)
        alone = torch.full_like(classes, same_class, dtype=torch.bool) | (classes == UNLABELLED)
        first = torch.where(alone, place, torch.searchsorted(classes, classes))
        last = torch.where(alone, place + 1, torch.searchsorted(classes, classes, right=True))
        by_id = torch.zeros(int(ids.max()) + 1, 2, dtype=torch.long, device=ids.device)
        by_id[order] = torch.stack([first, last - first], 1)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("first", by_id[:, 0].clone(), persistent=False)
        self.register_buffer("size", by_id[:, 1].clone(), persistent=False)

    def draw(self, ids: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
        """(B, count) ids; `generator` None: torch's own state on the host."""
        known = ids < len(self.first)  # a validation sample has no block of its own
        block = ids.clamp(max=len(self.first) - 1)
        first = torch.where(known, self.first[block], 0)[:, None]
        size = torch.where(known, self.size[block], 0)[:, None]
        uniform = torch.rand(len(ids), count, generator=generator).to(ids.device)
        place = (uniform * (len(self.order) - size)).long()
        return self.order[torch.where(place >= first, place + size, place)]


class CRD(nn.Module):
    """Tian et al. 2020, eq. 17 and 18: tell a sample's own pair of features from pairs with other samples.

    Both networks' features are projected linearly to `features` dimensions of unit length; the other network's are
    read from a memory bank by sample id, `negatives` of them for each sample. Its critic is
    exp(cos / temperature) / (that + negatives / N), normalised by a constant that the first batch sets.
    """

    def __init__(
        self, context: Context, *, features: int, negatives: int, temperature: float, momentum: float, same_class: bool
    ):
        super().__init__()
        if len(context.pairs) != 1:
            raise ObjectiveError(
                f"CRD compares one pair of layers, {len(context.pairs)} are given: type hint=penultimate"
            )
        pair = context.pairs[0]
        self.temperature, self.momentum = temperature, momentum
        self.samples = len(context.ids)
        self.negatives = min(negatives, self.samples)
        self.student_head = nn.Linear(torch.Size(pair.student_shape).numel(), features)
        self.teacher_head = nn.Linear(torch.Size(pair.teacher_shape).numel(), features)
        rows = len(context.labels)
        self.student_bank, self.teacher_bank = MemoryBank(rows, features), MemoryBank(rows, features)
        self.draws = Negatives(context.ids.cpu(), context.labels.cpu(), same_class)

    def forward(self, student: Outputs, teacher: Outputs, batch: Any) -> dict[str, Tensor]:
        ours = F.normalize(self.student_head(student.features[0].flatten(1)))
        theirs = F.normalize(self.teacher_head(teacher.features[0].flatten(1)))
        # validation draws the same negatives each time, and leaves the training's random state alone
        generator = None if self.training else torch.Generator().manual_seed(0)
        ids = self.draws.draw(batch.ids.to(ours.device), self.negatives, generator)
        positive = batch.ids.to(ours.device)
        banked = self.training
        of_student = self._contrast(ours, self.teacher_bank, positive if banked else theirs, ids)
        of_teacher = self._contrast(theirs, self.student_bank, positive if banked else ours, ids)
        if self.training:
            self.student_bank.update(positive, ours, self.momentum)
            self.teacher_bank.update(positive, theirs, self.momentum)
        return {"contrast": of_student + of_teacher}

    def _contrast(self, anchor: Tensor, bank: MemoryBank, positive: Tensor, negatives: Tensor) -> Tensor:
        """The loss of one network's features (B, D) against the other's: `positive` are ids, or features (B, D)."""
        own = bank.rows[positive] if positive.dtype == torch.long else positive
        others = bank.rows[negatives]  # (B, negatives, D)
        scores = torch.cat([(anchor * own).sum(1, keepdim=True), (others @ anchor[:, :, None]).squeeze(2)], 1)
        scores = (scores.float() / self.temperature).exp()
        if not bank.constant:
            bank.constant = scores.mean().detach() * self.samples
        scores = scores / bank.constant
        noise = self.negatives / self.samples
        hit = (scores[:, 0] / (scores[:, 0] + noise + 1e-7)).log()
        missed = (noise / (scores[:, 1:] + noise + 1e-7)).log().sum(1)
        return -(hit + missed).mean()
