"""What a command line means: the config that its words make, and the list of commands that a comparison is.

An arm is what you would type: a stage's name, or a file in conf/arm with a title and overrides. compare, controls and
positions are lists of such commands; the same code plans, executes and reports them all. Beside run.py and sweep.py the
only file that knows Hydra.
"""

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fitnets.config import ConfigError, check
from fitnets.config.composing import hydra_problem, one_line_errors
from fitnets.config.typed import problems_of
from fitnets.ending import StageError, Stopped, stoppable
from fitnets.files import StorageError
from fitnets.store import NO_CURRICULUM, Arm

CONF = Path(__file__).parent.parent / "conf"
ORDER_TITLES = {
    "iid": "i.i.d.",
    "random": "random order",
    "hard_to_easy": "hard to easy",
    "easy_to_hard": "easy to hard",
}


class Config(Mapping[str, Any]):
    """The config that words make, its references to other keys filled in; and the same with other values."""

    def __init__(self, node: DictConfig, words: Sequence[str]):
        self.node = node
        self.words = tuple(words)  # what was typed, less the flags
        self._stages: dict[str, Config] = {}

    @cached_property
    def resolved(self) -> dict[str, Any]:
        if problems := list(problems_of(self.words)):
            raise ConfigError(problems)
        try:
            return OmegaConf.to_container(self.node, resolve=True)  # type: ignore[return-value]
        except OmegaConfBaseException as error:
            raise hydra_problem(error, self.words) from error

    def __getitem__(self, key: str) -> Any:
        return self.resolved[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.resolved)

    def __len__(self) -> int:
        return len(self.resolved)

    def changed(self, values: Mapping[str, Any]) -> "Config":
        """With these values at dotted keys; what refers to them follows."""
        node = self.node.copy()
        with open_dict(node):
            for key, value in values.items():
                OmegaConf.update(node, key, value, merge=False, force_add=True)
        return Config(node, self.words)

    def at_stage(self, name: str) -> "Config":
        """With another stage, and what that stage's file says of other keys; made once, as plans ask many times."""
        if self["stage"]["name"] == name:
            return self
        if name not in self._stages:
            node = self.node.copy()
            with open_dict(node):
                node.pop("stage")
                node.merge_with(_stage_file(name))
            self._stages[name] = Config(node, [word for word in self.words if not word.startswith("stage=")])
        return self._stages[name]


def loader() -> ConfigLoader:
    """What reads conf/ and the user's --config-dir, also where Hydra has no main."""
    if not GlobalHydra.instance().is_initialized():
        hydra.initialize_config_dir(str(CONF), version_base="1.3")
    return GlobalHydra.instance().config_loader()


def compose(name: str, words: Sequence[str] = ()) -> DictConfig:
    """A file of conf/ (or of the user's --config-dir) as these words make it."""
    loader()
    return hydra.compose(name, list(words))


@cache
def _stage_file(name: str) -> DictConfig:
    """What a stage's file says, of the stage and of other keys: the same for every arm and seed of a list."""
    return compose(f"stage/{name}")


@dataclass(frozen=True)
class Command:
    """One of a list: the config that it means, its arm, and what tells it from the others in a table."""

    config: Config
    arm: Arm  # whose name its runs bear
    name: str  # of its row in a file
    at: dict[str, str] = field(default_factory=dict)


def composed(words: Sequence[str]) -> Config:
    """The config of `python run.py WORDS`."""
    return Config(compose("config", words), words)


def checked(words: Sequence[str]) -> Config:
    """The same; ConfigError for everything that is wrong with it."""
    with one_line_errors(words):
        config = composed(words)
    if problems := check(config.resolved, arm_names()):
        raise ConfigError(problems)
    return config


def arm_names() -> set[str]:
    """What may stand in `stage.arms`: the stages and the arms, the user's own too."""
    return {name for group in ("stage", "arm") for name in loader().get_group_options(group)}


def commands_of(config: Config, say: Callable[[str], None]) -> list[Command]:
    """The commands that a config means: its own, or the list of its stage."""
    from fitnets.components import resolve

    stage = config["stage"]
    named_as_typed(stage["name"], config.words)
    if "commands" in stage:
        return resolve(stage["commands"])(config, say)
    only_trainings(config)
    return [Command(config, Arm(stage["name"], stage["title"]), stage["name"])]


def only_trainings(config: Config) -> None:
    """ConfigError for a step that trains no student, and for a teacher from a stage that trains none."""
    name, steps = config["stage"]["name"], config["stage"].get("steps", [])
    asked = [(name, "student", step) for step in steps]
    for stage in steps or [name]:
        asked += [(stage, role, other) for role, other in config.at_stage(stage)["stage"].get("needs", {}).items()]
    for stage, role, other in asked:
        trains = config.at_stage(other)["stage"].get("trains")
        if trains is None or (role in ("teacher", "student") and trains != role):
            raise ConfigError(
                [f"stage={stage} takes its {role} from {other!r}, which trains none: name a stage that does"]
            )


def named_as_typed(name: str, words: Sequence[str]) -> None:
    """ConfigError for a stage's file, which is what was typed, that gives another name."""
    typed = [word.removeprefix("stage=") for word in words if word.startswith("stage=")]
    if typed and typed[-1] != name:
        raise ConfigError([f"stage/{typed[-1]}.yaml has name: {name}; type the file's own, name: {typed[-1]}"])


def arm_config(config: Config, name: str) -> tuple[Config, Arm]:
    """What `python run.py` would make of the words typed so far with the arm in the place of the stage."""
    words = [word for word in config.words if re.split(r"[.=]", word.lstrip("+~"))[0] not in ("stage", "sweep")]
    overrides, title = [f"stage={name}"], None
    if name in loader().get_group_options("arm"):
        file: Any = OmegaConf.to_container(compose(f"arm/{name}").arm)
        if file.keys() != {"title", "overrides"}:
            raise ConfigError([f"arm/{name}.yaml has {', '.join(file)}; type title and overrides, and no other key"])
        overrides, title = file["overrides"], file["title"]
        if not (isinstance(title, str) and isinstance(overrides, list) and all(isinstance(w, str) for w in overrides)):
            raise ConfigError([f"arm/{name}.yaml: its title is a name, its overrides a list of words, as [stage=kd]"])
    node = compose("config", [*words, *overrides])
    named_as_typed(node.stage.name, overrides)
    own = compose(f"stage/{node.stage.name}").stage  # an experiment may speak of the comparison's own keys
    with open_dict(node):
        node.stage = {key: node.stage._get_node(key) for key in own}
    found = Config(node, words)
    only_trainings(found)
    if not gives_student(found):
        raise ConfigError([f"{name} is no arm: it gives no trained student to compare; type a stage that does, as kd"])
    return found, Arm(name, title or found["stage"]["title"])


def gives_student(config: Config) -> bool:
    """Whether the last training of a stage gives a whole student, which is tested."""
    last = config.at_stage(config["stage"].get("steps", [config["stage"]["name"]])[-1])["stage"]
    return last.get("trains") == "student" and last["tested"]


def compare(config: Config, say: Callable[[str], None]) -> list[Command]:
    """Every arm of `stage.arms` for every one of `seeds`."""
    arms = [arm_config(config, name) for name in config["stage"]["arms"]]
    titles = [arm.title for _, arm in arms]
    found = []
    for seed in config["seeds"]:
        for of_arm, arm in arms:
            alone = titles.count(arm.title) == 1
            row = arm.title if alone else f"{arm.title} ({arm.name})"
            found.append(Command(of_arm.changed({"seed": seed}), arm, arm.name, {"arm": row}))
    return found


def controls(config: Config, say: Callable[[str], None]) -> list[Command]:
    """`stage.arm` without curriculum and in each order of `stage.orders` at the same pacing, for every seed."""
    of_arm, arm = arm_config(config, config["stage"]["arm"])
    orders = config["stage"]["orders"]
    scored = bool({"easy_to_hard", "hard_to_easy"} & {*orders})
    dynamic = config["curriculum"]["score"]["needs"] == "current_loss"
    of_order: dict[str, dict[str, Any]] = {"iid": {"curriculum": NO_CURRICULUM}}
    for order in orders:
        # a random order has no score of its own, and shows the tenths of the ordered ones'
        figures = order == "random" and scored and not dynamic
        values = {"curriculum.order": {"name": order}, "curriculum.figures": figures}
        of_order.setdefault(order, values)
    return [
        Command(of_arm.changed(of_order[order] | {"seed": seed}), arm, order, {"arm": ORDER_TITLES[order]})
        for seed in config["seeds"]
        for order in orders
    ]


def positions(config: Config, say: Callable[[str], None]) -> list[Command]:
    """`stage.arm` for every pair of a teacher's and a student's layer that a regressor fits, and for every seed."""
    from fitnets.positions import pairs_of

    of_arm, arm = arm_config(config, config["stage"]["arm"])
    steps = of_arm["stage"].get("steps", [of_arm["stage"]["name"]])
    if not any(key.startswith("hint.") for name in steps for key in of_arm.at_stage(name)["stage"]["decided_by"]):
        raise ConfigError([f"stage.arm is {arm.name}, which uses no hint layers: type stage.arm=fitnet"])
    found = []
    for pair in pairs_of(config, say):
        layers = dict(zip(("hint.teacher_layer", "hint.student_layer"), map(str, pair), strict=True))
        found += [Command(of_arm.changed(layers | {"seed": seed}), arm, arm.name, layers) for seed in config["seeds"]]
    return found


def exit_code(main: Callable[[], int], go_on: str) -> int:
    """What `main` returns; where it ends before its end, a line that says why, and 2, 1, 130 (Ctrl-C) or 143 (SIGTERM).

    `go_on` is the command that goes on.
    """
    try:
        with stoppable():
            return main()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except StageError as error:
        print(error, file=sys.stderr)
        return 1
    except StorageError as error:
        ended = Stopped(str(error), 1)
    except Stopped as stopped:
        ended = stopped
    print(f"\n{ended.why}. What is finished is kept; this goes on where it was: {go_on}", file=sys.stderr)
    return ended.code


def typed_again(program: str) -> str:
    """The command line of this process, as a person types it again."""
    return shlex.join(["python", program, *sys.argv[1:]])
