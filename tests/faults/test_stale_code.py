"""A run is not reused where code of the user's own has changed, however their file comes to it."""

from pathlib import Path

import pytest

from fitnets import fingerprint

F = "def f():\n    return {}\n"
NET = "def net():\n    return f()\n"
WAYS = {  # the user's files; {} is what is edited
    "a star": {"mine.py": f"from other import *\n{NET}", "other.py": F},
    "a star in a package": {
        "mine.py": f"from pack import f\n{NET}",
        "pack/__init__.py": "from .a import *\n",
        "pack/a.py": F,
    },
    "under if": {"mine.py": f"import sys\nif sys:\n    from other import f\n{NET}", "other.py": F},
    "under with": {"mine.py": f"with open(__file__):\n    from other import f\n{NET}", "other.py": F},
    "the first of two": {
        "mine.py": f"try:\n    from other import f\nexcept ImportError:\n    from more import f\n{NET}",
        "other.py": F,
        "more.py": "def f(): return 0\n",
    },
    "two modules of a package": {
        "mine.py": "import pack.a\nimport pack.b\n\ndef net():\n    return pack.a.f()\n",
        "pack/__init__.py": "",
        "pack/a.py": F,
        "pack/b.py": "",
    },
    "far down": {
        "mine.py": "import pack\n\ndef net():\n    return pack.b.a.f()\n",
        "pack/__init__.py": "import pack.b.a\n",
        "pack/b/__init__.py": "",
        "pack/b/a.py": F,
    },
    "a module handed on": {
        "mine.py": "import other\n\ndef net():\n    return other.g(getattr(other, 'f'))\n",
        "other.py": F,
    },
    "defined under if": {"mine.py": "import sys\nif sys:\n    def net():\n        return {}\n"},
    "by match": {"mine.py": "match 1:\n    case 1:\n        def net():\n            return {}\n"},
    "changed": {"mine.py": "t = dict(a=1)\nt['a'] += {}\n\ndef net():\n    return t\n"},
    "in a loop": {"mine.py": "t = dict()\nfor k in range(3):\n    t[k] = {}\n\ndef net():\n    return t\n"},
    "removed": {"mine.py": "t = {1: 1, 2: 2}\ndel t[{}]\n\ndef net():\n    return t\n"},
    "of a class": {"mine.py": "class net:\n    pass\n\nnet.x: int = {}\n"},
    "global": {"mine.py": "x = 0\n\ndef g():\n    global x\n    x = {}\n\ng()\n\ndef net():\n    return x\n"},
}


@pytest.mark.parametrize("files", WAYS.values(), ids=WAYS)
def test_an_edit_is_seen(files: dict[str, str], importable: Path) -> None:
    found = []
    for value in ("1", "2", "1"):
        for name, text in files.items():
            (importable / name).parent.mkdir(exist_ok=True, parents=True)
            (importable / name).write_text(text.replace("{}", value))
        fingerprint.forget()
        found.append(fingerprint.code_hash("mine.net"))
    assert found[0] == found[2] != found[1]


def test_a_method_as_a_target(importable: Path) -> None:
    found = []
    for value in ("1", "2"):
        (importable / "mine.py").write_text(f"class Nets:\n    @staticmethod\n    def net():\n        return {value}\n")
        fingerprint.forget()
        found.append(fingerprint.code_hash("mine.Nets.net"))
    assert found[0] != found[1]
