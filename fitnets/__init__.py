"""FitNets: hint-based knowledge distillation. `fitnets.load_student(run_folder)` gives a trained student."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # torch is imported when it is asked for, so that `run.py --help` is quick
    if name in ("load_student", "load_teacher"):
        from fitnets import load

        return getattr(load, name)
    raise AttributeError(f"module 'fitnets' has no attribute {name!r}")
