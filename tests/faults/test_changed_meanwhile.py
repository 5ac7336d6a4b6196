"""What changes while a command reads it is told, and nothing is kept of it."""

from pathlib import Path

import pytest

from fitnets.data import decoded, files
from fitnets.data.identity import DataError, content
from tests.conftest import faked_folder


def test_pictures_that_are_written_while_they_are_decoded_are_refused(tmp_path: Path, monkeypatch) -> None:
    folder, before = faked_folder(tmp_path / "mine", sizes=(8,)), decoded._heads
    first, *_, last = sorted(folder.rglob("*.png"))

    def heads(*given):  # somebody's copy goes on after the hash was taken
        found = before(*given)
        first.write_bytes(last.read_bytes())
        return found

    monkeypatch.setattr(decoded, "_heads", heads)
    with pytest.raises(DataError, match="mine has changed while it was read; wait until nobody writes there"):
        files.folder(str(folder), 0, str(tmp_path / "kept"), size=8)
    assert not [*tmp_path.glob("kept/*.safetensors"), *tmp_path.glob("kept/*.json")]
    content.cache_clear()  # the next command
    assert len(files.folder(str(folder), 0, str(tmp_path / "kept"), size=8).labels)
