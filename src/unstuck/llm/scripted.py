"""A scripted model for tests, at the boundary of pydantic-ai: everything of ours runs, nothing is sent."""

from __future__ import annotations

from typing import Any


def scripted_model(*replies: str) -> Any:
    """A pydantic-ai model that gives these replies, one for each call, and fails the test when asked once more."""
    from pydantic_ai.messages import ModelResponse, TextPart
    from pydantic_ai.models.function import FunctionModel

    left = list(replies)

    def reply(messages: Any, info: Any) -> ModelResponse:
        if not left:
            raise AssertionError("the model was asked more often than it has replies")
        return ModelResponse(parts=[TextPart(left.pop(0))])

    return FunctionModel(reply, model_name="scripted")
