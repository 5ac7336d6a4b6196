"""Commands as a user types them, in processes of their own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
HEAVY = {"numpy", "jinja2", "torch", "pytorch_lightning", "sklearn", "scipy", "matplotlib", "wandb"}

# An optimizer that ends its process as a kill would, before an update of which the environment says the number.
ENDS_ITS_PROCESS = """
import os, signal, torch

class Ends(torch.optim.AdamW):
    updates = 0

    def step(self, closure=None):
        if Ends.updates == int(os.environ.get("END_BEFORE", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        Ends.updates += 1
        return super().step(closure)
"""

# What every command imports is imported once; each command then runs in a fork, as it would from a shell.
SEVERAL = """
import json, os, runpy, sys, traceback
import hydra, pydantic, rich.console, fitnets.commands, fitnets.config

for number, words in enumerate(json.loads(sys.argv[1])):
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{sys.argv[2]}/{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
    run, folder = f"{sys.argv[3]}/run.py", sys.argv[2]
    sys.argv, code = [run, *words], 0
    try:
        runpy.run_path(run, run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    with open(f"{folder}/{number}.json", "w") as file:
        json.dump([code, sorted({name.partition(".")[0] for name in sys.modules})], file)
    os._exit(0)
"""


@dataclass(frozen=True)
class Answer:
    """What a finished command has said, and the packages that it imported."""

    words: list[str]
    returncode: int
    stdout: str
    stderr: str
    imported: set[str]


def command(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), *words]


def typed(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    environment = ENV | environment
    return subprocess.run(command(*words), cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def typed_and_imported(*words: str, cwd: Path) -> tuple[subprocess.CompletedProcess, set[str]]:
    """A finished command, and the packages that it imported."""
    command_line = [sys.executable, "-X", "importtime", *command(*words)[1:]]
    done = subprocess.run(command_line, cwd=cwd, env=ENV, capture_output=True, text=True, timeout=600)
    return done, {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


def each_typed(commands: list[list[str]], cwd: Path, answers: Path) -> list[Answer]:
    """Several commands that train nothing, one after the other in the same folder, each in a process of its own.

    What they say is kept in the folder `answers`.
    """
    answers.mkdir()
    script = [sys.executable, "-c", SEVERAL, json.dumps(commands), str(answers), str(ROOT)]
    subprocess.run(script, cwd=cwd, env=ENV | {"PYTHONPATH": str(ROOT)}, check=True, timeout=600)
    found = []
    for number, words in enumerate(commands):
        code, imported = json.loads((answers / f"{number}.json").read_text())
        out, err = ((answers / f"{number}.{name}").read_text() for name in ("out", "err"))
        found.append(Answer(words, code, out, err, set(imported)))
    return found


def alive(session: int) -> list[str]:
    """The states of a session's processes, but for those that only wait for a parent to see that they ended."""
    found = subprocess.run(["ps", "-o", "stat=", "-g", str(session)], capture_output=True, text=True)
    return [state for state in found.stdout.split() if not state.startswith("Z")]
