"""What a data set turned out to be: for result.json, and in the lines that are said before a training."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fitnets.data.images import Images, fingerprints, uneven

LISTED = 12  # classes that are named with their counts; of more, the smallest and the largest
FLAT = 32  # of 256 values; pictures that use fewer are hardly seen
PARTS = ("train", "validation", "test")


def inventory(images: Images, train: Tensor, val: Tensor) -> dict[str, Any]:
    """Pictures by class and part, pictures that are in two parts, and what the files turned out to be."""
    labels = dict(zip(PARTS, (images.labels[train], images.labels[val], images.test_labels), strict=True))
    classes = len(images.class_names)
    counts = torch.stack([of.bincount(minlength=classes)[:classes] for of in labels.values()], 1)
    of_class = [dict(zip(PARTS, row, strict=True)) for row in counts.tolist()]
    found = {
        **{part: len(of_part) for part, of_part in labels.items()},
        "shape": list(images.images.shape[1:]),
        "classes": dict(zip(images.class_names, of_class, strict=True)),
        "largest_class": float(counts[:, 1].max() / counts[:, 1].sum().clamp(min=1)),  # its share of validation
        "uneven": uneven(counts.sum(1)),
        "repeated": repeated(images, train, val),
        "files": dict(images.found),
    }
    return found | {"notes": list(_notes(found))}


def repeated(images: Images, train: Tensor, val: Tensor) -> dict[str, Any]:
    """Pictures with the same pixels in two parts, an example of each, and how many have several labels."""
    of_file, of_test = images.fingerprints or (fingerprints(images.images), fingerprints(images.test_images))
    names = images.names or (
        [f"image {i}" for i in range(len(of_file))],
        [f"test image {i}" for i in range(len(of_test))],
    )
    every = torch.arange(len(of_test))
    parts = {
        "train": (of_file, names[0], train),
        "validation": (of_file, names[0], val),
        "test": (of_test, names[1], every),
    }
    found: dict[str, Any] = {}
    for one, other in (("train", "test"), ("validation", "test"), ("train", "validation")):
        (ids, named, index), (other_ids, other_named, other_index) = parts[one], parts[other]
        again = torch.isin(other_ids[other_index], ids[index])
        if again.any():
            at = int(other_index[again][0])
            first = int(index[ids[index] == other_ids[at]][0])
            found[f"{other} in {one}"] = {"count": int(again.sum()), "example": [other_named[at], named[first]]}
    ids, labels = torch.cat([of_file, of_test]), torch.cat([images.labels, images.test_labels])
    distinct, counts = torch.stack([ids, labels], 1).unique(dim=0)[:, 0].unique(return_counts=True)
    if len(several := distinct[counts > 1]):
        at = (ids == several[0]).nonzero().flatten()
        pair = [int(at[0]), int(at[labels[at] != labels[at[0]]][0])]
        named = [*names[0], *names[1]]
        found["of several classes"] = {"count": len(several), "example": [named[i] for i in pair]}
    return found


def lines_of(name: str, found: Mapping[str, Any]) -> list[str]:
    """Two lines that say what an inventory holds, and one more for each thing that is wrong with it."""
    channels, height, width = found["shape"]
    classes, files = found["classes"], found["files"]
    counts = " + ".join(f"{found[part]:,}" for part in PARTS)
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    pictures = f"{counts} pictures (train + validation + test), {width}x{height} {colour}"
    first = f"Data: {name}, {len(classes)} classes, {pictures}"
    second = [_classes(classes), *_files(files), *files.get("said", [])]
    return [first, f"      {'; '.join(second)}", *(f"      NOTE: {note}" for note in found["notes"])]


def _classes(classes: Mapping[str, Mapping[str, int]]) -> str:
    total = {name: sum(parts.values()) for name, parts in classes.items()}
    if len(total) <= LISTED:
        return "by class: " + ", ".join(f"{name} {count:,}" for name, count in total.items())
    least, most = min(total, key=total.__getitem__), max(total, key=total.__getitem__)
    if total[least] == total[most]:
        return f"by class: {total[least]:,} each"
    return f"by class: from {total[least]:,} ({least}) to {total[most]:,} ({most})"


def _files(files: Mapping[str, Any]) -> Iterator[str]:
    """What the pictures were before they were decoded."""
    if not files:
        return
    yield ", ".join(f"{name} {count:,}" for name, count in files["formats"].items())
    if len(files["modes"]) > 1 or not files["modes"].keys() & {"L", "RGB"}:
        yield "modes " + ", ".join(f"{mode} {count:,}" for mode, count in files["modes"].items())
    sizes = ["x".join(map(str, files[key])) for key in ("smallest", "largest")]
    yield f"size {sizes[0]}" if sizes[0] == sizes[1] else f"sizes {sizes[0]} to {sizes[1]}"
    for black, white in files["levels"].values():
        yield f"values {black:g} to {white:g} become 0 to 255"
    if files["alpha"]:
        yield f"{files['alpha']:,} that may be transparent, on {files['background']}"
    if files["animated"]:
        yield f"{files['animated']:,} with several frames or pages, of which the first"


def _notes(found: Mapping[str, Any]) -> Iterator[str]:
    """What is to be known before figures are believed."""
    for key, what in found["repeated"].items():
        part, _, other = key.partition(" in ")
        count = f"{what['count']:,} ({' = '.join(what['example'])})"
        if other:
            yield f"pictures of {part} that are in {other} too: {count}; figures on {part} flatter"
        else:
            yield f"pictures that are there under more than one class: {count}"
    for part in PARTS:
        if missing := [name for name, parts in found["classes"].items() if not parts[part]]:
            yield f"there is no {part} picture of {', '.join(missing[:LISTED])}"
    alike: dict[str, list[str]] = {}
    for name in found["classes"]:
        alike.setdefault(name.strip().casefold(), []).append(name)
    if pairs := [names for names in alike.values() if len(names) > 1]:
        yield f"classes whose names differ in case or blanks alone: {', '.join(map(repr, pairs[0]))}"
    low, high = found["files"].get("values", (0, 255))
    if high - low < FLAT:
        yield f"pictures are nearly of one brightness: 99 % of their values are from {low} to {high}, of 0 to 255"
    if found["uneven"]:
        yield "classes are uneven: accuracy is mostly that of the large ones, so balanced accuracy stands beside it"
