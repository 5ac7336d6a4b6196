"""benchmarks/signal_scale.py: the published initial weights starve a deep net, scaled ones do not."""

import pytest

import signal_scale
from tests.conftest import composed


def test_the_papers_weights_lose_the_signal_and_scaled_ones_keep_it() -> None:
    starved, kept = (signal_scale.scales(composed("student=thin_deep", f"init={init}")) for init in ("paper", "scaled"))
    assert [name for name, *_ in starved][-1] == "classifier" and len(starved) == 10
    assert starved[8][1] < 1e-6 * starved[0][1] and starved[0][2] < 1e-8
    assert 0.1 < kept[8][1] / kept[0][1] < 10 and kept[0][2] > 1e-3


def test_it_takes_the_overrides_of_run_and_refuses_bad_ones(capsys: pytest.CaptureFixture) -> None:
    assert signal_scale.main(["init=paper"]) == 0
    assert "learning rate 0.002" in capsys.readouterr().out
    assert signal_scale.main(["temperature=0"]) == 2
    assert "temperature is 0" in capsys.readouterr().err
