"""Whatever is typed, composing and checking give a config or a ConfigError, and never anything else."""

import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fitnets import commands
from fitnets.config import ConfigError, check
from fitnets.config.composing import one_line_errors
from fitnets.config.wording import CONF, dotted_keys
from tests.conftest import composed
from tests.faults.test_wrong_words import VALUES

KEYS = sorted({*dotted_keys(composed("stage=fitnet", "logger=wandb").resolved), *dotted_keys(composed().resolved)})
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
ODD = [
    *(
        "",
        "''",
        '""',
        "null",
        "true",
        "nan",
        "inf",
        "-1",
        "1e400",
        "0x1",
        "1_000",
        "???",
        "${",
        "${seed}",
        "${nope}",
        "$",
    ),
    *("é", '"é ü"', "'a b'", "a=b", '"a=b"', "a,b", "[a,b]", "[", "{a:1}", "{a:{b:[1]}}", "{1:2}", "(", "int(3)", "\\"),
    *("[[1,2],[3]]", "[null]", "[{a:1}]", "~", "@", "#", "%", "*", "..", "a/b", "a.b.c", ".", "\U0001f600", "١", "\t"),
    *("${oc.env:HOME}", "${oc.env:NOPE}", "${oc.decode:x}", "${hydra:job.num}", "range(1,3)", "glob(*)", "a\nb", "\0"),
]
numbers = st.one_of(st.integers().map(str), st.floats(allow_subnormal=False).map(repr))
quoted = st.text(max_size=8).map(lambda text: '"' + text.replace("\\", "").replace('"', '\\"') + '"')
listed = st.lists(st.one_of(numbers, quoted), max_size=3).map(lambda parts: f"[{','.join(parts)}]")
mapped = st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=4), numbers, max_size=2).map(
    lambda parts: "{" + ",".join(f"{key}:{value}" for key, value in parts.items()) + "}"
)
wrong = st.sampled_from([value for values, _ in VALUES.values() for value in values])
values = st.one_of(st.sampled_from(ODD), numbers, quoted, listed, mapped, wrong, st.text(max_size=6))
keys = st.one_of(
    st.sampled_from(KEYS), st.sampled_from(GROUPS), st.sampled_from([*KEYS, "hydra.run.dir", "nope.x", ""])
)
prefixes = st.sampled_from(["", "", "", "", "+", "++", "~"])
words = st.lists(st.builds(lambda before, key, value: f"{before}{key}={value}", prefixes, keys, values), max_size=3)


def examples(most: int) -> settings:
    """The same ones at every run."""
    return settings(
        max_examples=most, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


def a_config_or_a_refusal(typed: list[str]) -> None:
    try:
        with one_line_errors(typed):
            config = commands.composed(typed)
        problems = check(config.resolved, commands.arm_names())
    except ConfigError as error:
        problems = error.problems
        assert problems
    for problem in problems:
        assert "Traceback" not in problem and "Config search path" not in problem


@examples(6)
@example(["logger=[1]"])
@example(["~arm=0"])
@example(['augment="\0"'])
@example(["recipe=[{a:1}]"])
@example(["+arm=[1.0,2]"])
@example(["~hint_loss=[]", "experiment={a:1}"])
@example(['runs_dir="' + "x" * 300 + '"', 'dataset.path="~nobody/x"', "+" + "k" * 300 + "=1"])
@given(words)
def test_words(typed: list[str]) -> None:
    a_config_or_a_refusal(typed)


@pytest.mark.slow
@examples(500)
@given(words)
def test_many_words(typed: list[str]) -> None:
    a_config_or_a_refusal(typed)
