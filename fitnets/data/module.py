"""The LightningDataModule: splits, which labels may be used, and batches as tensor operations."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from fitnets.data.augment import Looks, drawn, shown
from fitnets.data.batches import EvalBatches, ShuffledBatches, per_epoch
from fitnets.data.curriculum import GrowingPool, pacing, ranking
from fitnets.data.images import Images, class_balanced, folds_of, gathered, split, with_noise
from fitnets.data.preprocess import fitted
from fitnets.losses import UNLABELLED
from fitnets.seeds import derive

EVAL_BATCH = 512
STANDARDISE = {"_target_": "fitnets.data.preprocess.standardise", "fit_on": "train"}
NO_AUGMENTATION = {"flip": False, "crop": 0, "variants": None}
NO_CURRICULUM = {"name": "none"}


class Batch(NamedTuple):
    """One batch: sample ids (B,), images (B, C, H, W) float32 preprocessed, labels (B,) int64.

    Labels that the student may not see are UNLABELLED (only in training, with `dataset.labels=N`).
    Ids count the training file, so they name the same sample in every stage; in the test part they count it.
    `variant` (B,) says in which of its variants a sample is shown, where they are countable: 0 as it is, 1 mirrored,
    or 0 to K - 1 with `augment.variants=K`.
    """

    ids: Tensor
    x: Tensor
    y: Tensor
    variant: Tensor


class DataModule(LightningDataModule):
    """Images as uint8 tensors on the training device; batches are gathered, preprocessed and augmented there.

    A set that does not fit there stays where `setup` left it (`move_to(..., images=False)`): a decoded file is
    mapped, not read, so batches stream from disk; the rest is the same.

    Validation is split from train, class-balanced, by `split_seed` or the file's last images. `preprocess` is fitted
    on the train part (`fit_on` all: validation too, as the original code does), never on test. `train_on` "all"
    trains on validation images too (retraining with the epochs that validation found).
    `labels` is "all" or how many class-balanced training labels the hard loss may use; `only_labelled` draws
    batches from those samples alone (plain backprop has no use for the others).

    `dataset.label_noise` replaces that share of the train part's labels (`given_labels`; `images.labels` stay clean).
    `curriculum` orders the samples by `difficulty` (N,) over `updates`; without it batches are plain shuffles.
    `held_out` (fold, folds, repeat) leaves that fold of the train part out. `updates_per_epoch` cuts epochs shorter or
    longer than a pass over the images.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any],
        split_seed: int,
        batch_size: int,
        seed: int,
        labels: int | str = "all",
        only_labelled: bool = False,
        first_epoch: int = 0,
        preprocess: Mapping[str, Any] = STANDARDISE,
        augment: dict[str, Any] = NO_AUGMENTATION,
        train_on: str = "train",
        curriculum: Mapping[str, Any] = NO_CURRICULUM,
        difficulty: Tensor | None = None,
        held_out: tuple[int, int, int] | None = None,
        updates_per_epoch: int | None = None,
    ):
        super().__init__()
        self.dataset = dict(dataset)
        self.split_seed = split_seed
        self.batch_size = batch_size
        self.seed = seed
        self.labels = labels
        self.only_labelled = only_labelled
        self.first_epoch = first_epoch
        self.preprocess_spec = dict(preprocess)
        self.augment = augment
        self.train_on = train_on
        self.curriculum = curriculum
        self.difficulty = difficulty
        self.updates = 0  # of the whole stage; the pool grows by their number
        self.held_out = held_out
        self.updates_per_epoch = updates_per_epoch
        self.images: Images | None = None
        self.device = torch.device("cpu")
        self.rank, self.world = 0, 1  # which part of every batch is this process's, of how many
        self.resumed: dict[str, Any] | None = None  # the position in the data order at this start of the training

    def setup(self, stage: str | None = None) -> None:
        if self.images is not None:
            return
        self.images, self.train_index, self.val_index = split(self.dataset, self.split_seed)
        data, fit_index = self.images, self.train_index
        everything = torch.arange(len(data.labels))
        self.given_labels, noise = data.labels, self.dataset.get("label_noise", 0.0)
        if noise:
            seed = derive(self.split_seed, "label_noise")
            self.given_labels = with_noise(data.labels, self.train_index, noise, len(data.class_names), seed)
        if self.held_out:
            left_out = self.fold(*self.held_out)
            self.train_index = fit_index = self.train_index[~torch.isin(self.train_index, left_out)]
        if self.train_on == "all":
            self.train_index = everything
        if self.train_on == "all" or self.preprocess_spec["fit_on"] == "all":
            fit_index = everything

        self.labelled_index = self.train_index
        self.visible_labels = self.given_labels.clone()
        if self.labels != "all":
            chosen = class_balanced(
                self.given_labels[self.train_index], int(self.labels), derive(self.split_seed, "labels")
            )
            self.labelled_index = self.train_index[chosen]
            hidden = torch.ones(len(data.labels), dtype=torch.bool)
            hidden[self.labelled_index] = False
            self.visible_labels[hidden] = UNLABELLED

        if self.augment.get("variants"):  # the same table for every run that shares a split
            generator = torch.Generator().manual_seed(derive(self.split_seed, "variants"))
            rows = len(data.labels) * self.augment["variants"]
            self.looks = drawn(rows, self.augment["flip"], self.augment["crop"], generator)

        self.preprocess = fitted(self.preprocess_spec, data.images, fit_index, self.dataset.get("cache_dir"))
        self.input_shape = tuple(data.images.shape[1:])
        self.num_classes = len(data.class_names)

    @property
    def batches_per_epoch(self) -> int:
        """Updates per epoch: the training images (labelled or not) over the batch size, the same in every arm."""
        return per_epoch(len(self.train_index), self.batch_size, self.updates_per_epoch)

    def fold(self, number: int, folds: int, repeat: int) -> Tensor:
        """Ids of the training samples in a fold; each repeat cuts the train part anew."""
        of_sample = folds_of(self.given_labels[self.train_index].cpu(), folds, derive(self.split_seed, "fold", repeat))
        return self.train_index[of_sample == number]

    def move_to(self, device: torch.device, images: bool = True) -> None:
        """Put the data where the network is, once; the images too, unless they are to stream."""
        assert self.images is not None
        self.device = device
        moved = {
            name: tensor.to(device) if images or "labels" in name else tensor
            for name, tensor in ((name, getattr(self.images, name)) for name in _TENSORS)
        }
        self.images = Images(**moved, class_names=self.images.class_names)
        self.visible_labels = self.visible_labels.to(device)
        self.preprocess = self.preprocess.to(device)

    def preprocessed(self, index: Tensor) -> Tensor:
        """Training-file images (B, C, H, W) as float32, preprocessed and not augmented."""
        assert self.images is not None
        return self.preprocess(gathered(self.images.images, index, self.device))

    def variant(self, index: Tensor, variant: Tensor) -> Tensor:
        """Training-file images (B, C, H, W) in the given countable variants (B,); -1 is the image as it is."""
        flip, crop = self.augment["flip"], self.augment["crop"]
        corner = torch.full_like(variant, crop)
        looks = Looks(corner, corner, variant == 1)
        if self.augment.get("variants"):
            rows, plain = (index * self.augment["variants"] + variant).clamp(min=0), variant < 0
            fixed = (part[rows] for part in self.looks)
            looks = Looks(*(torch.where(plain, p, f) for p, f in zip(looks, fixed, strict=True)))
        return shown(self.preprocessed(index), looks, flip, crop)

    def train_batch(self, index: Tensor, t: int) -> Batch:
        """Batch t; what augmentation draws depends on the seed and t alone."""
        generator = torch.Generator().manual_seed(derive(self.seed, "augment", t))
        mine = slice(self.rank, None, self.world)  # drawn for the whole batch, so that ranks see what one process does
        if self.augment.get("variants"):
            variant = torch.randint(self.augment["variants"], index.shape, generator=generator)[mine]
            index = index[mine]
            return Batch(index, self.variant(index, variant), self.visible_labels[index], variant)
        flip, crop = self.augment["flip"], self.augment["crop"]
        looks = Looks(*(part[mine] for part in drawn(len(index), flip, crop, generator)))
        index = index[mine]
        x = shown(self.preprocessed(index), looks, flip, crop)
        return Batch(index, x, self.visible_labels[index], looks.mirrored.long())

    def val_batch(self, index: Tensor) -> Batch:
        assert self.images is not None
        return Batch(index, self.preprocessed(index), self.images.labels[index], torch.zeros_like(index))

    def test_batch(self, index: Tensor) -> Batch:
        assert self.images is not None
        x = self.preprocess(gathered(self.images.test_images, index, self.device))
        return Batch(index, x, self.images.test_labels[index], torch.zeros_like(index))

    def train_dataloader(self) -> ShuffledBatches:
        pool = self.labelled_index if self.only_labelled else self.train_index
        first = self.first_epoch * self.batches_per_epoch
        cut = (self.batch_size, self.batches_per_epoch, self.seed, self.train_batch)
        if self.curriculum["name"] == "none":
            self.train_batches = ShuffledBatches(pool, *cut, first=first)
        else:
            pace = pacing(self.curriculum["pacing"], self.updates, self.batches_per_epoch)
            self.train_batches = GrowingPool(self.ranked(pool, self.difficulty), *cut, pace, first=first)
        if self.resumed:
            self.train_batches.load_state_dict(self.resumed)
        return self.train_batches

    def ranked(self, pool: Tensor, difficulty: Tensor | None) -> Tensor:
        """The pool's sample ids in the order in which the curriculum admits them."""
        order = self.curriculum["order"]["name"]
        if difficulty is None and order != "random":
            if "every" not in self.curriculum["score"]:
                raise ValueError(f"the curriculum {order} has no score to rank by")
            order = "random"  # self-paced: ranked before the first update
        balanced = self.given_labels.cpu() if self.curriculum["balanced"] else None
        return ranking(order, pool, difficulty, self.seed, balanced)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch  # it was made there

    def state_dict(self) -> dict[str, Any]:
        """The position in the data order. (Lightning restores a loader's own state in mid-epoch only.)"""
        return self.train_batches.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict

    def val_dataloader(self) -> EvalBatches:
        return EvalBatches(self.val_index, EVAL_BATCH, self.val_batch, self.rank, self.world)

    def test_dataloader(self) -> EvalBatches:
        assert self.images is not None
        return EvalBatches(
            torch.arange(len(self.images.test_labels)), EVAL_BATCH, self.test_batch, self.rank, self.world
        )


_TENSORS = ("images", "labels", "test_images", "test_labels")
