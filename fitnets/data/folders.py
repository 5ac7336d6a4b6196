"""Class folders: which layout they have, which files are pictures, and what is left out."""

import os
import unicodedata
from collections import Counter
from functools import cached_property
from pathlib import Path

from fitnets.data.decoded import Encoded, Sets
from fitnets.data.identity import DataError, entries, files_below, is_hidden
from fitnets.data.parts import TEST, TRAIN, chosen, part_in, part_of, parts_among
from fitnets.data.pixels import opened

ENDINGS = "png apng jpg jpeg jpe jfif mpo jp2 j2k gif webp avif bmp dib tif tiff pbm pgm ppm pnm"
LAYOUT = "expected FOLDER/CLASS/picture.png, or FOLDER/train/CLASS/picture.png (and val/ and test/ alike)"


class Folder:
    """A folder with what lies in it: its pictures, and the folders in it that hold pictures anywhere below."""

    def __init__(self, path: Path):
        self.path = path
        self.name = unicodedata.normalize("NFC", path.name)  # as macOS writes an é, and as others do

    @cached_property
    def pictures(self) -> list[Path]:
        return [path for path in entries(self.path) if path.is_file() and is_picture(path)]

    @cached_property
    def folders(self) -> list["Folder"]:
        return [Folder(path) for path in entries(self.path) if path.is_dir() and Folder(path).has_any]

    @cached_property
    def below(self) -> list[Path]:
        """All pictures, at any depth."""
        return [path for path in files_below(self.path) if is_picture(path)]

    @cached_property
    def has_any(self) -> bool:
        return any(is_picture(path) for path in files_below(self.path))

    @property
    def holds_classes(self) -> bool:
        return bool(self.folders) and not self.pictures


def is_picture(path: Path) -> bool:
    """By its ending; a file with another ending is looked at."""
    if path.suffix.lower().removeprefix(".") in ENDINGS.split():
        return True
    try:
        with open(path, "rb") as file:
            opened(file)
        return True
    except Exception:  # Pillow's readers raise what they like on what is no picture
        return False


def from_folders(root: Path, test_split: str | None) -> Sets:
    """Encoded pictures by part, and the classes, which are named as their folders in train are."""
    if not root.is_dir():
        raise DataError(f"{root} is no folder; dataset=folder needs dataset.path=FOLDER with a folder for each class")
    used, said = _parts(Folder(root), test_split)
    names = _classes(used)
    number = {name: i for i, name in enumerate(names)}
    sets = {}
    for part, folder in used.items():
        files = [(path, number[kind.name]) for kind in folder.folders for path in kind.below]
        paths = [str(path.relative_to(root)) for path, _ in files]
        readers = [path.read_bytes for path, _ in files]
        sets[part] = Encoded(readers, [label for _, label in files], paths.__getitem__)
    kinds = [kind for folder in used.values() for kind in folder.folders]
    if deeper := [path for kind in kinds for path in kind.below if path.parent != kind.path]:
        said.append(f"deeper than their class's folder: {len(deeper):,}, as {deeper[0].relative_to(root)}")
    return Sets(sets, names, said + _left_out(root, [path for kind in kinds for path in kind.below]))


def _parts(top: Folder, test_split: str | None) -> tuple[dict[str, Folder], list[str]]:
    """The folders of train, validation and test; all is train where the class folders lie in `top` itself."""
    by_name = {folder.name: folder for folder in top.folders}
    parts = parts_among(name for name, folder in by_name.items() if folder.holds_classes)
    meaning = part_in if parts else part_of  # a class may be called test tube
    flat = {name: folder for name, folder in by_name.items() if meaning(name) and not folder.holds_classes}
    if not parts and len({part_of(name) for name in flat}) < 2 and (len(flat) < len(by_name) or not flat):
        _refuse_no_classes(top)
        if test_split not in (None, "none"):
            raise DataError(f"dataset.test_split is {test_split!r}, {top.path} has no parts: leave it out")
        return {TRAIN: top}, []
    for name, folder in flat.items():
        if meaning(name) == TEST and test_split is not None and test_split not in (name, TEST):
            continue  # it was said which part to use instead
        strays = folder.pictures or folder.below
        hint = "; to draw the test part from train type dataset.test_split=none" if meaning(name) == TEST else ""
        raise DataError(
            f"{folder.path} holds pictures outside of class folders ({len(strays):,}, as {strays[0].name}), so their "
            f"classes are not known; {LAYOUT}{hint}"
        )
    return chosen({name: folder for name, folder in by_name.items() if folder.holds_classes}, test_split, str(top.path))


def _refuse_no_classes(top: Folder) -> None:
    """DataError where the folders in `top` cannot be classes."""
    if not top.folders:
        what = f"{len(top.pictures):,} pictures and no folders" if top.pictures else "no pictures"
        endings = Counter(path.suffix.lower() or "no ending" for path in files_below(top.path))
        listed = ", ".join(f"{ending} files ({count:,})" for ending, count in endings.most_common(4))
        raise DataError(f"{top.path} holds {what} ({listed or 'it is empty'}); {LAYOUT}")
    inside = [tuple(inner.name for inner in folder.folders) for folder in top.folders]
    alike = len(inside) > 1 and len(inside[0]) > 1 and len(set(inside)) == 1
    if alike and all(folder.holds_classes for folder in top.folders):
        raise DataError(
            f"each of the folders {', '.join(folder.name for folder in top.folders[:4])} in {top.path} holds "
            f"{', '.join(inside[0][:4])}, so it is not clear which are the classes; {LAYOUT}"
        )


def _classes(used: dict[str, Folder]) -> tuple[str, ...]:
    """The names of the classes. Raises DataError where they are too few, or not the same in all parts."""
    train = used[TRAIN]
    names = tuple(folder.name for folder in train.folders)
    inside = [f"{kind.name}/{sub.name}" for kind in train.folders for sub in kind.folders if part_of(sub.name)]
    if len(inside) > 1:
        how = f": type dataset.path={train.folders[0].path}" if len(names) == 1 else f"; {LAYOUT}"
        raise DataError(f"{train.path} has parts in its class folders ({', '.join(inside[:4])}){how}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{train.path} has two folders {twice}, written with different characters: join them")
    if len(names) < 2:
        only = train.folders[0]
        inner = f"; its folders {', '.join(sub.name for sub in only.folders[:4])} may be what is meant: "
        how = "move them up, in each part" if len(used) > 1 else f"type dataset.path={only.path}, or move them up"
        inner = inner + how if only.folders else ""
        raise DataError(f"{train.path} has one class, {only.name}, and a classifier needs two{inner}; {LAYOUT}")
    for folder in used.values():
        if strange := [kind.name for kind in folder.folders if kind.name not in names]:
            raise DataError(
                f"{folder.path} has classes that {train.path} has not: {', '.join(strange[:5])}; train has: "
                f"{', '.join(names[:10])}. Give a class the same name in all parts"
            )
    return names


def _left_out(root: Path, used: list[Path]) -> list[str]:
    """What of the files below is no data, in words."""
    counts: Counter[str] = Counter()
    for path in set(files_below(root)).difference(used):
        if is_picture(path):
            counts["pictures in no class folder that is used"] += 1
        else:
            counts[f"{path.suffix.lower()} files" if path.suffix else "files without an ending"] += 1
    for folder, folders, files in os.walk(root, followlinks=False):
        hidden = [name for name in folders if is_hidden(name)]
        folders[:] = [name for name in folders if name not in hidden]
        counts["hidden folders"] += len(hidden)
        counts["hidden files"] += sum(map(is_hidden, files))
        for name in folders:
            if not any(files_below(Path(folder, name))):
                counts[f"the empty folder {Path(folder, name).relative_to(root)}/"] += 1
            elif not Folder(Path(folder, name)).has_any:
                counts[f"the folder {Path(folder, name).relative_to(root)}/, which holds no picture"] += 1
    kinds = sorted(counts.items())
    words = [what if what.startswith("the ") else f"{what} ({count:,})" for what, count in kinds if count]
    return [f"left out: {', '.join(words)}"] if words else []
