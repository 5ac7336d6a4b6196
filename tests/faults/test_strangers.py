"""Files of strangers run no code: run folders, weights, score files and reports with real attacks in them."""

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import fitnets
from fitnets.curriculum.scores import numbers_in
from fitnets.files import MOST_CONFIG_BYTES, read_config
from fitnets.plan import plan
from fitnets.report.folders import NoRuns, read
from fitnets.report.page import write_page
from fitnets.store import folder_of
from tests.conftest import copied, go
from tests.faked_runs import faked_run
from tests.trained import pick


class Attack:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def stranger(compared, tmp_path: Path) -> Path:
    """A student's folder from elsewhere."""
    config, runs_dir = compared
    return copied(folder_of(pick(config, "kd", "kd"), runs_dir), tmp_path / "stranger")


def edited(folder: Path, **net: Any) -> None:
    """Its network by other words."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["student"]["net"] = net.pop("net", config["student"]["net"]) | net
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("torch.hub.load", {"repo_or_dir": ".", "model": "attack", "source": "local"}),
        ("os.system", {"command": "touch attacked"}),
        ("builtins.exec", {"source": "open('attacked', 'w')"}),
        ("builtins.open", {"file": "attacked", "mode": "w"}),
        ("subprocess.run", {"args": ["touch", "attacked"]}),
        ("pickle.loads", {"data": b"cos\nsystem\n(S'touch attacked'\ntR."}),
        ("hubconf.attack", {}),
        ("fitnets.components.build", {"spec": {"_target_": "os.system", "command": "touch attacked"}}),
        ("fitnets.models.layers.os.system", {"command": "touch attacked"}),
        ("fitnets.models.layers.build", {"spec": {"_target_": "os.system"}}),
        ("fitnets.models.init.uniform", {"bound": 1.0}),
        ("fitnets.files.write", {"path": "attacked", "content": "x"}),
        ("torch.nn.modules.module.torch.hub.load", {"repo_or_dir": ".", "model": "attack", "source": "local"}),
        ("torch.nn.init.normal_", {}),
        ("torch.nnx.Attack", {}),
        ("torch.load", {"f": "attack.pt", "weights_only": False}),
        ("fitnets.models", {}),
        (3, {}),
        (None, {}),
        (["os.system"], {}),
    ],
)
def test_a_loaded_run_calls_nothing_but_a_network_s_constructor(
    stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Any, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hubconf.py").write_text("open('attacked', 'w')\ndef attack(**_): pass\n")
    torch.save(Attack(tmp_path / "attacked"), tmp_path / "attack.pt")
    edited(stranger, net={"_target_": target, **options})
    with pytest.raises(ValueError, match=r"config\.yaml"):
        fitnets.load_student(stranger)
    assert not (tmp_path / "attacked").exists()


OWN = """
import os
from os import system
from torch import nn

class Net(nn.Sequential):
    def __init__(self, input_shape, num_classes, width=4):
        super().__init__(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], num_classes))

def make(input_shape, num_classes):
    return Net(input_shape, num_classes)
"""


def test_a_network_of_one_s_own_is_trusted_by_its_module(small, importable: Path) -> None:
    (importable / "own_nets.py").write_text(OWN)
    config = small("stage=backprop", "epochs.hint=1", "epochs.kd=1")
    config = config.changed({"student": {"name": "own", "net": {"_target_": "own_nets.Net"}}})
    go(config)
    folder = folder_of(plan(config)[0], Path(config["runs_dir"]))
    with pytest.raises(ValueError, match=r"own_nets.Net, which is code of somebody's own.*trust=\['own_nets'\]"):
        fitnets.load_student(folder)
    student = fitnets.load_student(folder, trust=["own_nets"])
    assert type(student.net).__name__ == "Net"
    stranger = copied(folder, importable / "stranger")
    for target in ("own_nets.system", "own_nets.os.system"):
        edited(stranger, net={"_target_": target, "command": "true"})
        with pytest.raises(ValueError, match="makes no network of own_nets"):
            fitnets.load_student(stranger, trust=["own_nets"])
    edited(stranger, net={"_target_": "own_nets.make"})
    assert torch.equal(fitnets.load_student(stranger, ["own_nets"]).net[1].weight, student.net[1].weight)


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": [[10**9, 4], [6, 6], [8, 8]]},
        {"blocks": [[4, 4], [6, 6], [8, 10**12]]},
        {"pieces": 10**15},
        {"blocks": [[5, 4], [6, 6], [8, 8]]},
        {"blocks": "not a list"},
        {"unheard_of": 1},
    ],
    ids=str,
)
def test_a_network_that_is_not_its_weights_is_refused_before_it_takes_memory(stranger: Path, change: dict) -> None:
    edited(stranger, **change)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        fitnets.load_student(stranger)


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Attack(Path("attacked"))),
        header(b"{}", 2**62),
        header(b"{" * 1000),
        header(b'{"conv1.weight":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}') + b"0" * 16,
        header(b'{"conv1.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,99999]}}') + b"0" * 16,
        header(b'{"conv1.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[16,0]}}') + b"0" * 16,
        header(b'{"__metadata__":{"a":{"b":1}}}'),
        b"",
        b"PK\x03\x04" + b"\0" * 100,
    ],
    ids=["pickle", "long", "braces", "overflow", "outside", "backwards", "metadata", "empty", "zip"],
)
@pytest.mark.parametrize("name", ["student.safetensors", "preprocess.safetensors"])
def test_crafted_weights_are_refused(stranger: Path, monkeypatch, tmp_path: Path, content: bytes, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (stranger / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        fitnets.load_student(stranger)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch attacked']",
        "student: !!python/name:os.system",
        "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(9)
        ),
        "a: &a [*a]",
        "[" * 5000,
        "x: " + "y" * MOST_CONFIG_BYTES,
        "- 1",
        "",
        "a: \xff\xfe",
        "\0",
    ],
    ids=["call", "name", "laughs", "itself", "deep", "long", "list", "empty", "odd", "null"],
)  # fmt: skip
def test_a_config_is_plain_data_of_a_bounded_size(stranger: Path, monkeypatch, tmp_path: Path, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (stranger / "config.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_config(stranger)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        fitnets.load_student(stranger)
    with pytest.raises(NoRuns):
        read([stranger])
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("text", ['{"a": ' * 100_000, "[1]", "nothing", '{"test_accuracy": ' + "9" * 10_000 + "}"])
def test_a_result_that_is_none_is_refused(stranger: Path, text: str) -> None:
    (stranger / "result.json").write_text(text)
    with pytest.raises(NoRuns, match="stranger"):
        read([stranger])


def test_a_parent_lies_beside_its_child_and_nowhere_else(tmp_path: Path) -> None:
    elsewhere = faked_run(tmp_path / "elsewhere", "teacher", config={"stage": "teacher", "trains": "teacher"})
    for name in (f"../elsewhere/{elsewhere.name}", str(elsewhere), "..", "", "/"):
        folder = faked_run(tmp_path / "runs", "kd", config={"parents": {"teacher": name}})
        assert read([folder])[0].parents == {}, name


def test_pictures_outside_their_folder_are_not_shown(compared, tmp_path: Path) -> None:
    copied(compared[1], tmp_path / "runs")
    Image.new("RGB", (3, 3), "red").save(tmp_path / "secret.png")
    secret = (tmp_path / "secret.png").read_bytes()
    folders = [path.parent for path in (tmp_path / "runs").glob("*/result.json")]
    for picture in (tmp_path / "runs").glob("*/media/*.png"):
        picture.unlink()
        picture.symlink_to(tmp_path / "secret.png")
    import base64

    page = write_page(folders, tmp_path / "page.html", "x", []).read_text()
    assert base64.b64encode(secret).decode()[:40] not in page


def test_a_page_escapes_every_word(tmp_path: Path) -> None:
    script = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    folder = faked_run(
        tmp_path / "runs",
        script,
        config={"title": script, "student": {"name": script}, "trainer": {"command": script}},
        result={"dataset": script, "student": script, "learned_nothing": script},
    )
    result = json.loads((folder / "result.json").read_text())
    result["data"] = result["data"] | {"notes": [script], "classes": {script: {"train": 1, "validation": 1, "test": 1}}}
    result["details"] = {"classes": [script, "b"], "confusion": [[1, 2], [3, 4]], "per_class": [0.1, 0.2]}
    result["versions"] = {script: script}
    result["hardware"] = {"device": "cpu", "name": script, "threads": 1}
    (folder / "result.json").write_text(json.dumps(result))
    page = write_page([folder], tmp_path / "page.html", script, [script]).read_text()
    assert "<script>alert" not in page and "<img src=x" not in page and "onerror=alert(1)>" not in page


def test_a_score_file_is_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "scores.npy", np.array([Attack(tmp_path / "attacked")], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError):
        numbers_in(str(tmp_path / "scores.npy"))
    assert not (tmp_path / "attacked").exists()


def test_a_checkpoint_is_weights_only(small, tmp_path: Path) -> None:
    """One that was made for this run, with its hash: it is still not unpickled."""
    from fitnets.files import as_json, sha256

    config = small("stage=teacher")
    folder = folder_of(plan(config)[0], Path(config["runs_dir"]))
    folder.mkdir(parents=True)
    torch.save({"state_dict": Attack(tmp_path / "attacked")}, folder / "last.ckpt")
    (folder / "last.json").write_text(as_json({sha256(folder / "last.ckpt"): 2}))
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights.only"):
        go(config)
    assert not (tmp_path / "attacked").exists()
