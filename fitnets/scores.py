"""How hard a sample is: functions that score every training sample, higher = harder in all of them.

Each takes a Scored (clean images, labels, what the needed runs left on disk) and the options of its YAML in
conf/curriculum/score/, and gives float64 (n,). Images are clean (no augmentation), networks in eval mode. What a score
`needs` is trained before it as a run of its own, without curriculum: `fitnets.runs.score_run` plans it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from fitnets.data.images import gathered
from fitnets.load import load_student, load_teacher
from fitnets.losses import unexplained

if TYPE_CHECKING:  # checks look at these functions without Lightning
    from fitnets.data.module import DataModule  # not in a score's fingerprint: STAGE_VERSIONS in runs.py

BATCH = 512


@dataclass(frozen=True)
class Scored:
    """The samples to score, and the networks that help."""

    data: "DataModule"
    folders: Mapping[str, Path]  # of the runs that the score needs, by role
    hint_module: Any = None  # a HintModule with its trained weights, for hint_error

    @property
    def labels(self) -> Tensor:
        """(n,) int64, as training sees them: with `dataset.label_noise` some are wrong."""
        return self.data.given_labels[self.data.train_index].cpu()

    def batches(self, index: Tensor) -> Iterator[Tensor]:
        """Clean images, preprocessed as this data is."""
        return (self.data.preprocessed(part) for part in index.split(BATCH))

    @torch.no_grad()
    def logits(self, net: nn.Module, index: Tensor | None = None) -> Tensor:
        """(n, K) float64 of a loaded network on clean images; of all training samples unless `index` is given.

        It preprocesses uint8 images as it was trained to: a fold's student has not seen the fold for that either.
        """
        assert self.data.images is not None
        net, images = net.to(self.data.device).eval(), self.data.images.images
        index = self.data.train_index if index is None else index
        parts = (gathered(images, part, self.data.device) for part in index.split(BATCH))
        return torch.cat([net(part).double().cpu() for part in parts])


# ---------------------------------------------------------------------------------------- a teacher


def teacher_confidence(scored: Scored) -> Tensor:
    """1 - P_T(label)."""
    return -torch.expm1(-teacher_loss(scored))  # exact for probabilities near 1


def teacher_margin(scored: Scored) -> Tensor:
    """The largest other probability less that of the label, in -1..1."""
    p, labels = scored.logits(load_teacher(scored.folders["teacher"])).softmax(1), scored.labels[:, None]
    return p.scatter(1, labels, -1.0).amax(1) - p.gather(1, labels).squeeze(1)


def teacher_loss(scored: Scored) -> Tensor:
    """Cross-entropy of the teacher's answer with the label, nats."""
    logits = scored.logits(load_teacher(scored.folders["teacher"]))
    return F.cross_entropy(logits, scored.labels, reduction="none")


def teacher_entropy(scored: Scored) -> Tensor:
    """Entropy of the teacher's answer, nats; uses no label."""
    log_p = scored.logits(load_teacher(scored.folders["teacher"])).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


# ------------------------------------------------------------------------------------ no network


def svm_margin(scored: Scored, features: str, components: int, folds: int, regularisation: float) -> Tensor:
    """The largest other decision value less that of the label, by linear one-against-rest SVMs.

    On standardised principal components of the pixels or of the teacher's penultimate layer (`features`). Cross-fitted:
    the SVM that scores a sample has not been fitted on it. Samples far on the right side of the boundary are the
    easiest, whichever side is theirs; those far on the wrong side the hardest.
    """
    from sklearn.decomposition import PCA
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if features == "teacher":
        x = penultimate(scored, load_teacher(scored.folders["teacher"]))
    else:
        x = torch.cat([batch.flatten(1).cpu() for batch in scored.batches(scored.data.train_index)])
    labels = scored.labels
    pca = PCA(min(components, *x.shape), random_state=0)
    svm = make_pipeline(pca, StandardScaler(), LinearSVC(C=regularisation, dual=False, random_state=0))
    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    values = torch.from_numpy(
        cross_val_predict(svm, x.numpy(), labels.numpy(), cv=splits, method="decision_function")
    ).double()
    if values.ndim == 1:  # two classes: one decision value
        values = torch.stack([-values, values], 1)
    return values.scatter(1, labels[:, None], -torch.inf).amax(1) - values.gather(1, labels[:, None]).squeeze(1)


@torch.no_grad()
def penultimate(scored: Scored, net: nn.Module) -> Tensor:
    """(n, D) float32: what the last linear layer of a network is given."""
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].flatten(1).cpu()))
    try:
        scored.logits(net)
    finally:
        handle.remove()
    return torch.cat(seen).float()


def file(scored: Scored, path: str, higher_is: str) -> Tensor:
    """The user's own numbers, one for each image of the training file (validation images among them), in its order."""
    difficulty = torch.from_numpy(numbers_in(path))[scored.data.train_index]
    return difficulty if higher_is == "harder" else -difficulty


def numbers_in(path: str) -> Any:
    """The numbers of a .npy or text file, float64 as they are shaped there."""
    source = Path(path).expanduser()
    values = np.load(source, allow_pickle=False) if source.suffix == ".npy" else np.loadtxt(source)
    return values.astype(np.float64)


# -------------------------------------------------------------------------------- trained students


def self_taught(scored: Scored, epochs: int, seed: int) -> Tensor:
    """Cross-entropy of a student that was trained once without curriculum on these very samples, nats."""
    logits = scored.logits(load_student(scored.folders["student"]))
    return F.cross_entropy(logits, scored.labels, reduction="none")


def learned_epoch(scored: Scored, epochs: int, seed: int) -> Tensor:
    """The first epoch (from 1) from which a student stayed right to the end; epochs + 1 if it ended wrong."""
    return load_file(scored.folders["student"] / "learned_epoch.safetensors")["epoch"].double()


def c_score(scored: Scored, folds: int, repeats: int, epochs: int, seed: int) -> Tensor:
    """Cross-entropy by students trained without the sample, mean over the repeats, nats."""
    difficulty = torch.zeros(len(scored.data.given_labels), dtype=torch.float64)
    for role, folder in scored.folders.items():
        fold, repeat = (int(word) for word in role.removeprefix("fold").split("_"))
        held_out = scored.data.fold(fold, folds, repeat)
        logits = scored.logits(load_student(folder), held_out)
        labels = scored.data.given_labels[held_out].cpu()
        difficulty[held_out] += F.cross_entropy(logits, labels, reduction="none") / repeats
    return difficulty[scored.data.train_index]


@torch.no_grad()
def hint_error(scored: Scored, epochs: int, seed: int) -> Tensor:
    """What the regressed guided layer leaves unexplained of the teacher's hint: 1 - R2 of the sample. Uses no label."""
    module, index = scored.hint_module.to(scored.data.device).eval(), scored.data.train_index
    mean = sum(module.teacher(x).double().sum(0) for x in scored.batches(index)) / len(index)
    missed = [
        unexplained(module.regressor(module.guided(x)), module.teacher(x).double(), mean) for x in scored.batches(index)
    ]
    return torch.cat(missed).cpu()
