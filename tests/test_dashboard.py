"""The workspace can be built offline, and every panel shows something that we log."""

import dashboard
import pytest
import wandb_workspaces.reports.v2 as wr

from tests.offline_wandb import runs_in

PREFIXES = ("headline", "train", "distill", "match", "val", "curriculum", "cost", "media")


def test_every_panels_key_is_one_that_we_log(logged, logged_curriculum) -> None:
    _, runs_dir = logged
    runs = [*runs_in(runs_dir), *runs_in(logged_curriculum)]
    known = {key for run in runs for row in run.history for key in row}
    config = {key for run in runs for key in run.config}
    for section in dashboard.sections():
        for panel in section.panels:
            keys = dashboard.keys_of(panel)
            assert set(keys) <= known, f"{panel.title}: {set(keys) - known}"
            if isinstance(panel, wr.LinePlot):
                assert panel.x == "epoch" and panel.groupby.name in config
    view = dashboard.workspace("me", "fitnets", "FitNets")
    assert {group.name for group in view.runset_settings.groupby} <= config
    for column in view.runset_settings.pinned_columns:
        where, _, name = column.partition(":")
        assert name in {"summary": known, "config": config, "run": {"displayName"}}[where]


def test_sections_are_the_prefixes_and_each_panel_asks_one_thing() -> None:
    sections = dashboard.sections()
    assert tuple(section.name.partition(":")[0] for section in sections) == PREFIXES
    titles = [panel.title for section in sections for panel in section.panels]
    assert len(set(titles)) == len(titles)
    assert all(1 <= len(section.panels) <= 6 for section in sections)
    for section in sections:
        own = section.name.partition(":")[0] + "/"
        keys = [key for panel in section.panels for key in dashboard.keys_of(panel)]
        assert any(key.startswith(own) for key in keys)


def test_the_layout_is_built_without_login_and_holds_every_panel() -> None:
    model = dashboard.workspace("me", "fitnets", "FitNets")._to_model()
    text = model.model_dump_json() if hasattr(model, "model_dump_json") else str(model)
    for section in dashboard.sections():
        for panel in section.panels:
            for key in dashboard.keys_of(panel):
                assert key in text


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
