"""A data set of one's own that is not as it must be is refused in one line that says what was given and expected."""

from dataclasses import replace

import pytest
import torch

from fitnets.data.digits import digits
from fitnets.data.identity import DataError
from fitnets.data.images import split

GOOD = {"_target_": "my_data.made", "val_fraction": 0.2}
CASES = [
    ("images=i.images / 16.0", "images of torch.float32 .*; expected torch.uint8"),
    ("images=i.images[:, 0]", r"images of torch.uint8 \(\d+, 8, 8\); expected torch.uint8 \(N, C, H, W\)"),
    ("test_images=i.test_images[..., :4]", r"test_images of .* 1, 8, 4\); expected torch.uint8 \(N, 1, 8, 8\)"),
    ("labels=i.labels.int()", "labels of torch.int32 .*; expected torch.int64"),
    ("labels=i.labels[:50]", r"labels of torch.int64 \(50,\); expected torch.int64 \(\d{4},\)"),
    ("labels=i.labels - 1", "labels from -1 to 8; class_names has 10: expected 0 to 9"),
    ("test_labels=i.test_labels + 9", "test_labels from 9 to 18"),
    ("val_index=torch.tensor([0, 0, 1])", "a val_index that is no list of different numbers from 0 to"),
    ("val_index=torch.tensor([-1])", "a val_index that is no list"),
    ("val_index=i.labels == 1", "a val_index that is no list"),
    ("images=exit(0)", "my_data.made ended with SystemExit 0"),
    ("images=next(iter(()))", "my_data.made ended with StopIteration"),
]


@pytest.mark.parametrize(("changed", "message"), CASES, ids=[changed for changed, _ in CASES])
def test_it_is_refused(changed: str, message: str, importable) -> None:
    (importable / "my_data.py").write_text(
        "import torch\nfrom dataclasses import replace\nfrom fitnets.data.digits import digits\n\n"
        f"def made(split_seed):\n    i = digits(split_seed, 0.2)\n    return replace(i, {changed})\n"
    )
    with pytest.raises(DataError, match=message):
        split(GOOD, 0)


def test_what_is_as_it_must_be_passes() -> None:
    given = {"_target_": "fitnets.data.digits.digits", "test_fraction": 0.2, "val_fraction": 0.2}
    images, train, val = split(given, 0)
    assert len(train) + len(val) == len(images.labels)
    assert replace(digits(0, 0.2), val_index=torch.arange(5)).val_index is not None
