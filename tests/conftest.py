import os
import tempfile

import pytest
import torch

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
torch.set_num_threads(1)
# Keys are made in a folder of the tests' own, also by the processes that they start.
STATE = tempfile.TemporaryDirectory(prefix="unstuck-tests-")
os.environ["UNSTUCK_STATE_DIR"] = STATE.name


@pytest.fixture(autouse=True)
def no_model_is_reachable(monkeypatch):
    """No test may find a key or talk to a provider."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "UNSTUCK_RECORDINGS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def pong(tmp_path_factory):
    """An untrained agent of Pong from pixels, which nobody changes."""
    from pixel_cases import small

    path = tmp_path_factory.mktemp("pixels") / "pong.zip"
    small().save(path)
    return path
