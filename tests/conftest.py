import os

import pytest
import torch

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_model_is_reachable(monkeypatch):
    """No test may find a key or talk to a provider."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "UNSTUCK_RECORDINGS"):
        monkeypatch.delenv(name, raising=False)
