"""How hard a sample is: functions that score every training sample, higher = harder, and the run that keeps a score.

Each function takes a Scored and the options of its YAML in conf/curriculum/score/, and gives float64 (n,). Images are
clean (no augmentation), networks in eval mode. What a score `needs` is trained before it: see planning.py.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from fitnets.components import build, targets
from fitnets.curriculum.agreement import SCORES, agreements
from fitnets.curriculum.planning import NOT_OPTIONS
from fitnets.data.images import gathered
from fitnets.files import write
from fitnets.load import load_student, load_teacher, tensors_in
from fitnets.losses.features import joined, unexplained
from fitnets.models.layers import Cut, resolve_layer
from fitnets.store import Run

if TYPE_CHECKING:  # checks look at these functions without Lightning
    from fitnets.data.module import DataModule

BATCH = 512
SURE = 0.999  # a teacher's confidence above which it tells samples apart no more


@dataclass(frozen=True)
class Scored:
    """The samples to score, and what the needed runs left on disk."""

    data: "DataModule"
    folders: Mapping[str, Path]  # of the runs that the score needs, by role
    hint_stage: Any = None  # a finished hint stage, for hint_error
    trust: Sequence[str] = ()  # modules of the user's own that their networks are of

    @property
    def labels(self) -> Tensor:
        """(n,) int64, as training sees them: with `dataset.label_noise` some are wrong."""
        return self.data.given_labels[self.data.train_index].cpu()

    def batches(self, index: Tensor) -> Iterator[Tensor]:
        """Clean images, preprocessed as this data is."""
        return (self.data.preprocessed(part) for part in index.split(BATCH))

    def teacher_logits(self) -> Tensor:
        return self.logits(load_teacher(self.folders["teacher"], self.trust))

    @torch.no_grad()
    def logits(self, net: nn.Module, index: Tensor | None = None) -> Tensor:
        """(n, K) float64 of a loaded network on clean images; of all training samples unless `index` is given.

        It preprocesses uint8 images as it was trained to: a fold's student has not seen the fold for that either.
        """
        net, images = net.to(self.data.device).eval(), self.data.images.images
        index = self.data.train_index if index is None else index
        batches = (gathered(images, part, self.data.device) for part in index.split(BATCH))
        return torch.cat([net(batch).double().cpu() for batch in batches])


def teacher_confidence(scored: Scored) -> Tensor:
    """1 - P_T(label)."""
    return -torch.expm1(-teacher_loss(scored))  # exact for probabilities near 1


def teacher_margin(scored: Scored) -> Tensor:
    """The largest other probability less that of the label, in -1..1."""
    return _largest_other_less_own(scored.teacher_logits().softmax(1), scored.labels)


def teacher_loss(scored: Scored) -> Tensor:
    """Cross-entropy of the teacher's answer with the label, nats."""
    return F.cross_entropy(scored.teacher_logits(), scored.labels, reduction="none")


def teacher_entropy(scored: Scored) -> Tensor:
    """Entropy of the teacher's answer, nats; uses no label."""
    log_p = scored.teacher_logits().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def svm_margin(scored: Scored, features: str, components: int, folds: int, regularisation: float) -> Tensor:
    """The largest other decision value less that of the label, by linear one-against-rest SVMs.

    On standardised principal components of the pixels or of the teacher's penultimate layer (`features`). Cross-fitted:
    the SVM that scores a sample has not been fitted on it. Those far on the wrong side are the hardest.
    """
    from sklearn.decomposition import PCA
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if features == "teacher":
        teacher = load_teacher(scored.folders["teacher"], scored.trust)
        layer, _ = resolve_layer(
            teacher.net, "penultimate", scored.data.input_shape, "teacher", "curriculum.score.features"
        )
        x = scored.logits(nn.Sequential(teacher.preprocess, Cut(teacher.net, layer))).float()
    else:
        x = torch.cat([batch.flatten(1).cpu() for batch in scored.batches(scored.data.train_index)])
    labels = scored.labels
    pca = PCA(min(components, *x.shape), random_state=0)
    svm = make_pipeline(pca, StandardScaler(), LinearSVC(C=regularisation, dual=False, random_state=0))
    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    decisions = cross_val_predict(svm, x.numpy(), labels.numpy(), cv=splits, method="decision_function")
    values = torch.from_numpy(decisions).double()
    if values.ndim == 1:  # two classes: one decision value
        values = torch.stack([-values, values], 1)
    return _largest_other_less_own(values, labels)


def _largest_other_less_own(values: Tensor, labels: Tensor) -> Tensor:
    """(n,) of values (n, K) for each class."""
    own = labels[:, None]
    return values.scatter(1, own, -torch.inf).amax(1) - values.gather(1, own).squeeze(1)


def file(scored: Scored, path: str, higher_is: str) -> Tensor:
    """The user's own numbers, one for each image of the training file (validation images among them), in its order."""
    difficulty = torch.from_numpy(numbers_in(path))[scored.data.train_index]
    return difficulty if higher_is == "harder" else -difficulty


def numbers_in(path: str) -> Any:
    """The numbers of a .npy or text file, float64 as they are shaped there."""
    source = Path(path).expanduser()
    values = np.load(source, allow_pickle=False) if source.suffix == ".npy" else np.loadtxt(source)
    return values.astype(np.float64)


def self_taught(scored: Scored, epochs: int, seed: int) -> Tensor:
    """Cross-entropy of a student that was trained once without curriculum on these very samples, nats."""
    return F.cross_entropy(
        scored.logits(load_student(scored.folders["student"], scored.trust)), scored.labels, reduction="none"
    )


def learned_epoch(scored: Scored, epochs: int, seed: int) -> Tensor:
    """The first epoch (from 1) from which a student stayed right to the end; epochs + 1 if it ended wrong."""
    return tensors_in(scored.folders["student"] / "learned_epoch.safetensors")["epoch"].double()


def c_score(scored: Scored, folds: int, repeats: int, epochs: int, seed: int) -> Tensor:
    """Cross-entropy by students trained without the sample, mean over the repeats, nats."""
    difficulty = torch.zeros(len(scored.data.given_labels), dtype=torch.float64)
    for role, folder in scored.folders.items():
        fold, repeat = (int(word) for word in role.removeprefix("fold").split("_"))
        held_out = scored.data.fold(fold, folds, repeat)
        logits = scored.logits(load_student(folder, scored.trust), held_out)
        labels = scored.data.given_labels[held_out].cpu()
        difficulty[held_out] += F.cross_entropy(logits, labels, reduction="none") / repeats
    return difficulty[scored.data.train_index]


@torch.no_grad()
def hint_error(scored: Scored, epochs: int, seed: int) -> Tensor:
    """What the regressed guided layer leaves unexplained of the teacher's hint: 1 - R2 of the sample. Uses no label."""
    stage, index = scored.hint_stage.to(scored.data.device).eval(), scored.data.train_index
    hints = (joined(stage.prediction(x)[0]).double() for x in scored.batches(index))
    mean: Any = sum(hint.sum(0) for hint in hints) / len(index)
    missed = []
    for x in scored.batches(index):
        hint, predicted = (joined(features) for features in stage.prediction(x))
        missed.append(unexplained(predicted, hint.double(), mean))
    return torch.cat(missed).cpu()


def difficulty_in(folder: Path) -> Tensor:
    """(N,) float64 by sample id of the training file, higher = harder, as a score run has left it."""
    return tensors_in(folder / SCORES)["difficulty"]


def score_samples(
    run: Run, folder: Path, parents: dict[str, Path], data: Any, trained_stage: Callable[[Run, Path], Any]
) -> dict[str, Any]:
    """Score the run's samples into `folder`: scores.safetensors and a picture; what result.json should say of it.

    `trained_stage` makes the finished stage of a run again, with its trained weights.
    """
    from fitnets.curriculum.pictures import easiest_and_hardest

    started = time.monotonic()
    (folder / "media").mkdir(parents=True, exist_ok=True)
    hint_stage = trained_stage(run.parents["hint"], parents["hint"]) if "hint" in parents else None
    nets = [parent.spec[parent.trains].get("net", {}) for parent in run.needed.values()]
    scored = Scored(data, parents, hint_stage, trust=[target.rpartition(".")[0] for target in targets(nets)])
    options = {key: value for key, value in run.spec["score"].items() if key not in NOT_OPTIONS}
    if "score_path" in run.sources:
        options["path"] = run.sources["score_path"]
    of_train = build(options, scored)
    if not torch.isfinite(of_train).all():
        raise ValueError(f"{run}: {int((~torch.isfinite(of_train)).sum())} samples have no finite score")
    difficulty = torch.full((len(data.given_labels),), torch.nan, dtype=torch.float64)
    difficulty[data.train_index] = of_train.double()
    write(folder / SCORES, save({"difficulty": difficulty}))
    easiest_and_hardest(data, difficulty, run.net_name, folder / "media" / "easiest_hardest.png")
    score = {"name": run.net_name} | trust(scored, of_train) | {"agreement": agreements(folder, run.net_name)}
    return {"score": score, "seconds": round(time.monotonic() - started, 3)}


def trust(scored: Scored, difficulty: Tensor) -> dict[str, Any]:
    """What a person should know of a score before trusting it."""
    levels = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    if len(difficulty) < 2**24:
        quantiles = difficulty.quantile(levels)
    else:  # more than torch's own takes
        quantiles = difficulty.sort().values[(levels * (len(difficulty) - 1)).long()]
    found = {"samples": len(difficulty), "higher_is": "harder", "quantiles_0_10_50_90_100": quantiles.tolist()}
    if "teacher" in scored.folders:
        confidence = scored.teacher_logits().softmax(1).amax(1)
        found["teacher_sure"] = float((confidence > SURE).double().mean())
    wrong = scored.labels != scored.data.images.labels.cpu()[scored.data.train_index]  # by `dataset.label_noise`
    if wrong.any():
        from sklearn.metrics import roc_auc_score

        found["auroc_of_wrong_labels"] = float(roc_auc_score(wrong.numpy(), difficulty.numpy()))
    return found
