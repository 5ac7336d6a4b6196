"""The workspace can be built offline, and every panel shows something that we log."""

from typing import Any

import pytest

import dashboard
from tests.offline_wandb import runs_in

PREFIXES = ("headline", "train", "distill", "match", "val", "curriculum", "cost", "media")


def all_panels() -> list[dict[str, Any]]:
    return [panel for panels in dashboard.SECTIONS.values() for panel in panels]


def test_every_panels_key_is_one_that_we_log(logged, logged_curriculum) -> None:
    _, runs_dir = logged
    runs = [*runs_in(runs_dir), *runs_in(logged_curriculum)]
    known = {key for run in runs for row in run.history for key in row}
    config = {key for run in runs for key in run.config}
    for panel in all_panels():
        assert set(panel["keys"]) <= known, f"{panel['title']}: {set(panel['keys']) - known}"
    assert "epoch" in known and dashboard.BANDS["groupby"].name in config
    view = dashboard.workspace("me", "fitnets", "FitNets")
    assert {group.name for group in view.runset_settings.groupby} <= config
    for column in view.runset_settings.pinned_columns:
        where, _, name = column.partition(":")
        assert name in {"summary": known, "config": config, "run": {"displayName"}}[where]


def test_sections_are_the_prefixes_and_each_panel_asks_one_thing() -> None:
    assert tuple(name.partition(":")[0] for name in dashboard.SECTIONS) == PREFIXES
    titles = [panel["title"] for panel in all_panels()]
    assert len(set(titles)) == len(titles)
    for name, panels in dashboard.SECTIONS.items():
        assert 1 <= len(panels) <= 6
        own = name.partition(":")[0] + "/"
        assert any(key.startswith(own) for panel in panels for key in panel["keys"])


def test_the_layout_is_built_without_login_and_holds_every_panel() -> None:
    model = dashboard.workspace("me", "fitnets", "FitNets")._to_model()
    text = model.model_dump_json() if hasattr(model, "model_dump_json") else str(model)
    for panel in all_panels():
        assert all(key in text for key in [panel["title"], *panel["keys"]])


def test_the_command_says_what_it_needs(monkeypatch, tmp_path, capsys) -> None:
    for name in ("WANDB_API_KEY", "WANDB_ENTITY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "nothing"))
    assert dashboard.main([]) == 2 and "--entity" in capsys.readouterr().err
    assert dashboard.main(["--entity", "me"]) == 2 and "wandb login" in capsys.readouterr().err
    assert dashboard.main(["--list"]) == 0 and "headline/test_accuracy" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        dashboard.main(["--help"])
    assert "--project" in capsys.readouterr().out


def test_with_a_key_the_view_is_saved_and_its_address_printed(monkeypatch, capsys) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    saved = []
    monkeypatch.setattr(dashboard.ws.Workspace, "save", lambda self: saved.append(self.name))
    monkeypatch.setattr(dashboard.ws.Workspace, "url", property(lambda self: f"https://wandb.ai/{self.entity}"))
    assert dashboard.main(["--entity", "me", "--name", "Mine"]) == 0
    assert saved == ["Mine"] and capsys.readouterr().out == "https://wandb.ai/me\n"
