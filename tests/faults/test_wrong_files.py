"""Wrong files of one's own: YAML, modules, folders. Each is refused in one line that names the file or the key."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra

import run as door
from fitnets import commands
from fitnets.config import ConfigError
from fitnets.config.composing import one_line_errors
from tests.conftest import one_in

Refused = Callable[..., str]


@pytest.fixture
def refused(importable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Refused]:
    """The one problem of a command that uses these files, by path, as `--config-dir mine` and `PYTHONPATH=.` do."""

    def problem(files: dict[str, str | bytes], *words: str) -> str:
        monkeypatch.chdir(importable)
        for name, text in files.items():
            path = importable / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        (importable / "mine").mkdir(exist_ok=True)
        before = set(importable.rglob("*"))
        places = create_config_search_path(str(commands.CONF))
        places.append("command-line", f"file://{importable}/mine", anchor="main")
        commands._stage_file.cache_clear()
        monkeypatch.setattr(GlobalHydra.instance(), "hydra", None)  # that of other tests comes back afterwards
        Hydra.create_main_hydra2("run", places)
        with pytest.raises(ConfigError) as raised, one_line_errors(words):
            door.run(commands.composed(words), door.Options(words))
        (told,) = raised.value.problems
        assert "\n" not in told and "Traceback" not in told
        made = {path for path in importable.rglob("*") if not {"__pycache__", ".data"} & {*path.parts}}  # .data: a lock
        assert made <= before
        return told

    yield problem
    commands._stage_file.cache_clear()


STUDENT = "name: mine\nnet: {_target_: my_nets.net}\n"
NET = """from torch import nn
def net(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


YAMLS = [
    ("name: mine\n\tnet: x\n", "student/mine.yaml, line 2, is no YAML: found character"),
    ("name: [mine\n", "is no YAML"),
    ("name: mine\nname: again\n", "mine.yaml, line 2, is no YAML: found duplicate key name"),
    ("name: mine\n", "student.net is missing; it has parts"),
    ("net: {_target_: my_nets.net}\n", "student.name is missing; it must be a name"),
    ("name: mine\nnet: {width: 3}\n", "student.net._target_=None: 'None' is no dotted path"),
    ("name: mine\nnet: my_nets.net\n", "student.net is 'my_nets.net'; it has parts"),
    ("name: mine\nnet: {_target_: my_nets.nets}\n", "my_nets.py defines no 'nets'; it has: net, nn"),
    ("name: mine\nnet: {_target_: my_nets}\n", "'my_nets' is no dotted path; write package.module.name"),
    ("name: mine\nnet: {_target_: my_net.net}\n", "there is no module 'my_net'; a component is in a Python file"),
    ("name: mine\nnet: {_target_: my_nets.net, wdth: 3}\n", "student.net.wdth is no key; did you mean"),
    ("name: mine\nnet: {_target_: my_nets.net}\nwidth: 3\n", "student.width is no key"),
    ("name: mine\nnet: {_target_: my_nets.net, width: '${nope}'}\n", "refers to ${nope}, which is no key"),
    ("name: mine\ndefaults: [nope]\n", "student is 'nope'"),
    ("- a\n- b\n", "student is ['a', 'b']; it is a group of its own"),
    (b"name: \xff\xfe\n", "student=mine reads a file that is not in UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("yaml", "message"), one_in(3, YAMLS))
def test_a_students_yaml(refused: Refused, yaml: str | bytes, message: str) -> None:
    assert message in refused({"mine/student/mine.yaml": yaml, "my_nets.py": NET}, "student=mine", "stage=backprop")


MODULES = [
    ("def net(:\n", "my_nets.py, line 1, is no Python: invalid syntax"),
    ("import os\n  def net(): pass\n", "my_nets.py, line 2, is no Python: unexpected indent"),
    (b"x = '\xff'\ndef net(): pass\n", "my_nets.py"),
    ("import my_helpers\n" + NET, "invalid syntax (my_helpers.py, line 1)"),
    ("import not_there\n" + NET, "No module named 'not_there'"),
    ("1 / 0\n" + NET, "division by zero"),
    (NET.replace("(64, 10)", "(64, 11)"), "gives outputs of shape (11,) a sample; the data set has 10 classes"),
    (NET.replace("(64, 10)", "(63, 10)"), "the student my_nets.net does not run on 1x8x8 images with 10 classes"),
    ("def net(input_shape, num_classes):\n    return 3\n", "the student my_nets.net does not run on"),
    ("def net(input_shape, num_classes):\n    return None\n", "the student my_nets.net does not run on"),
    ("def net(input_shape, num_classes):\n    raise ValueError('mine')\n", "with 10 classes: mine; change"),
    ("def net(input_shape, num_classes):\n    raise KeyError\n", "with 10 classes: KeyError; change"),
    ("def net(shape):\n    return 3\n", "net"),
    ("net = 3\n", "the student my_nets.net does not run on"),
    ("from torch import nn\nclass net(nn.Module):\n    def __init__(self, input_shape, num_classes):\n"
     "        raise RuntimeError('no')\n", "with 10 classes: no; change student.net (no options)"),
    ("from torch import nn\nclass net(nn.Module):\n    def __init__(self, input_shape, num_classes):\n"
     "        super().__init__()\n", "the student my_nets.net does not run on"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "message"), one_in(3, MODULES))
def test_a_students_module(refused: Refused, module: str | bytes, message: str) -> None:
    files = {"mine/student/mine.yaml": STUDENT, "my_nets.py": module, "my_helpers.py": "def (:\n"}
    assert message in refused(files, "student=mine", "stage=backprop")


STAGE = (
    "name: {name}\ntitle: mine\n_target_: {target}\ntrains: student\nneeds: {needs}\nlabels: visible\n"
    "decided_by: []\ntested: true\n"
)
SUPERVISED = "fitnets.stages.supervised.Supervised"


@pytest.mark.parametrize(
    ("name", "target", "needs", "message"),
    [
        ("other", SUPERVISED, "{}", "stage/own.yaml has name: other; type the file's own, name: own"),
        ("own", "fitnets.stages.supervised.Suprvised", "{}", "supervised.py defines no 'Suprvised'"),
        ("own", SUPERVISED, "{teacher: techer}", "needs stage 'techer', which is none; did you mean teacher or"),
        ("own", SUPERVISED, "{teacher: compare}", "takes its teacher from 'compare', which trains none"),
        ("own", SUPERVISED, "{teacher: kd}", "takes its teacher from 'kd', which trains none"),
        ("own", SUPERVISED, "teacher", "stage.needs is 'teacher'; it has parts"),
        ("own", "my_stage.Own", "{}", "own_stage"),
        ("own", "my_stage.Plain", "{}", "my_stage.Plain"),
        ("own", "my_stage.number", "{}", "my_stage.number"),
    ],
)
def test_a_stage(refused: Refused, name: str, target: str, needs: str, message: str) -> None:
    own = "class Own:\n    def __init__(self, inputs):\n        raise RuntimeError('own_stage')\n"
    module = f"number = 3\nclass Plain: pass\n{own}"
    files = {"mine/stage/own.yaml": STAGE.format(name=name, target=target, needs=needs), "my_stage.py": module}
    assert message in refused(files, "stage=own")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("title: mine\n", "arm/own.yaml has title; type title and overrides, and no other key"),
        ("title: mine\noverrides: [stage=nope]\n", "stage is 'nope'"),
        ("title: mine\noverrides: [stage=teacher]\n", "own is no arm: it gives no trained student to compare"),
        ("title: mine\noverrides: [stage=kd, temprature=3]\n", "did you mean temperature?"),
        ("title: mine\noverrides: [stage=kd, temperature=0]\n", "temperature is 0; it must be a number > 0"),
        ("title: mine\noverrides: stage=kd\n", "own.yaml"),
        ("title: 3\noverrides: [3]\n", "own.yaml"),
    ],
)
def test_an_arm(refused: Refused, yaml: str, message: str) -> None:
    assert message in refused({"mine/arm/own.yaml": yaml}, "stage.arms=[own]", "seeds=[0,1]")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data/a/1.png": b"no picture", "data/b/1.png": b"none"}, "dataset folder cannot be read"),
        ({"data/readme.txt": "nothing"}, "dataset folder cannot be read"),
        ({"data/train/a/x.txt": "nothing", "data/test/b/x.txt": ""}, "dataset folder cannot be read"),
        ({"data/labels.csv": "file,label\n"}, "dataset folder cannot be read"),
    ],
)
def test_data(refused: Refused, files: dict[str, str | bytes], message: str) -> None:
    told = refused(files | {"runs/.keep": ""}, "dataset=folder", "dataset.path=data", "dataset.size=8", "stage=kd")
    assert message in told and "data" in told
