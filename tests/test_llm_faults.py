"""The campaign of faults. `make faults` lets all of them happen; here, those that are quick, in one protocol each."""

from __future__ import annotations

import os

import pytest
from pydantic_ai import models

import unstuck.llm.client as client
from faults import FAULTS, KEY, PROTOCOLS, check

ALL = os.environ.get("UNSTUCK_FAULTS") == "all"
CASES = [(f, p) for i, f in enumerate(FAULTS) for p in f.only if ALL or (p == f.only[i % len(f.only)] and not f.slow)]


def test_there_are_enough_of_them():
    assert len(FAULTS) >= 80
    assert len({f.name for f in FAULTS}) == len(FAULTS)
    assert {p for _, p in CASES} == set(PROTOCOLS)


@pytest.mark.parametrize(("fault", "protocol"), CASES, ids=lambda x: getattr(x, "name", x))
def test_fault(fault, protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.05)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with models.override_allow_model_requests(True):
        assert check(fault, protocol, tmp_path) == []
