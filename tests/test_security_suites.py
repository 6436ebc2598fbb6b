"""What received suites name: confirmed first, or refused; and what their pages quote."""

from __future__ import annotations

from pathlib import Path

import pytest
from stable_baselines3 import PPO

from unstuck.cli import main

SUITE = """
name = "x"
methods = ["ppo"]
seeds = [1]
steps = 1000
{head}
[[tasks]]
name = "cartpole"
agent = "{agent}"
reference = 500.0
{task}
"""
CARTPOLE = 'env = "CartPole-v1"'
SUITES = {
    "a factory": ('env = "os:system"', ""),
    "a module": ('env = "CartPole-v1"\nimport_module = "evil"', ""),
    "a wrapper": ('env = "CartPole-v1"\nenv_kwargs = {env_wrapper = {"pydoc.pipepager" = {cmd = "touch pwned"}}}', ""),
    "a describer": ('env = "CartPole-v1"\ncard = "evil:describer"', ""),
    "trust": ('env = "CartPole-v1"\ntrust = true', ""),
    "an address": ('env = "CartPole-v1"', 'llm = {model = "openai:x", base_url = "http://evil/v1"}'),
}


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a received suite, beside the agent that it is about."""
    monkeypatch.setenv("UNSTUCK_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "received" / "suites"
    folder.mkdir(parents=True)
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").save(folder / "a.zip")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_from_elsewhere_is_confirmed_first(
    suite: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "evil.py").write_text("open('pwned', 'w').close()\n")
    task, head = SUITES[name]
    (suite / "suite.toml").write_text(SUITE.format(agent="a.zip", task=task, head=head))
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(suite / "suite.toml"), "--out", "out"])
    assert stopped.value.code == 2
    assert "--trust-suite" in capsys.readouterr().err
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["above", "full path", "link"])
def test_a_suite_quotes_no_file_from_elsewhere(suite: Path, tmp_path: Path, how: str) -> None:
    """What it quotes is published with its page."""
    from unstuck.bench.suite import SuiteError, load_suite

    secret = tmp_path / "secret.md"
    secret.write_text("the secret")
    named = {"above": "../../secret.md", "full path": str(secret), "link": "remarks.md"}[how]
    if how == "link":
        (suite / "remarks.md").symlink_to(secret)
    (suite / "suite.toml").write_text(SUITE.format(head=f'remarks = "{named}"', agent="a.zip", task=CARTPOLE))
    with pytest.raises(SuiteError, match="remarks"):
        load_suite(suite / "suite.toml").remarks_text  # noqa: B018


@pytest.mark.parametrize(
    "head", ['out = "/tmp/elsewhere"', 'out = "../elsewhere"', 'recordings = "/tmp/elsewhere"',
             'recordings = "../../../elsewhere"'],
)  # fmt: skip
def test_where_a_suite_would_write_is_confirmed_first(
    suite: Path, tmp_path: Path, head: str, capsys: pytest.CaptureFixture
) -> None:
    (suite / "suite.toml").write_text(SUITE.format(head=head, agent="a.zip", task=CARTPOLE))
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(suite / "suite.toml"), *(["--out", "mine"] if "recordings" in head else [])])
    assert stopped.value.code == 2
    assert "--trust-suite" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("agent", ["$UNSTUCK_TEST_SECRET", "${UNSTUCK_TEST_SECRET}/x.zip", "~/$UNSTUCK_TEST_SECRET"])
@pytest.mark.parametrize("optional", [False, True])
def test_a_suite_shows_no_environment_variable(
    suite: Path, agent: str, optional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why an agent is missing is said, and of an optional one written into the page."""
    from unstuck.bench.suite import SuiteError, load_suite, missing_agent

    monkeypatch.setenv("UNSTUCK_TEST_SECRET", "sk-secret-of-mine")
    more = CARTPOLE + ("\noptional = true" if optional else "")
    (suite / "suite.toml").write_text(SUITE.format(head="", agent=agent, task=more))
    try:
        loaded = load_suite(suite / "suite.toml")
        said = missing_agent(loaded, loaded.tasks[0])
    except SuiteError as error:
        said = str(error)
    assert "there is no agent" in said
    assert "sk-secret-of-mine" not in said
