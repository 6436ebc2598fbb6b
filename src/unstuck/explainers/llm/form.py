"""The form of a reply as a JSON schema, for services that can be held to one: names of variables and indices of actions
are the task's own, so that a misspelt one cannot come."""

from __future__ import annotations

from typing import Any

from unstuck.explainers.llm.facts import Wanted
from unstuck.guidance import TREATMENTS
from unstuck.tasks.card import TaskCard

Schema = dict[str, Any]
MAX_NAMES = 400
"""Beyond so many variables their names are not listed; services bound the size of a schema."""


def reply_schema(card: TaskCard, wanted: Wanted) -> Schema:
    """Of the object that the prompt asks for. Parts that are not wanted are left out."""
    names: Schema = {"type": "string"}
    if len(card.variable_names) <= MAX_NAMES:
        names = {"type": "string", "enum": list(card.variable_names)}
    when = _array({"anyOf": [_condition(names), _object({"any": _array(_condition(names))}, ["any"])]})
    term, discrete = _term(names, when), card.action.kind == "discrete"
    properties: Schema = {
        "analysis": {"type": "string"}, "diagnosis": {"type": "string"},
        "critical_states": _array(_state(card, when, wanted)),
    }  # fmt: skip
    if discrete:
        rule = {"when": when, "action": _index(card), "why": {"type": "string"}}
        properties["rules"] = _array(_object(rule, ["when", "action", "why"]))
    if wanted.terms:
        properties["reward_terms"] = _array(term)
    aggregate = {"type": "string", "enum": ["last", "max", "mean"]}
    progress = {"terms": _array(term), "aggregate": aggregate, "why": {"type": "string"}}
    properties["progress"] = _object(progress, ["terms", "aggregate"])
    treatment = {"name": {"type": "string", "enum": list(TREATMENTS)}, "reason": {"type": "string"}}
    properties["treatments"] = _array(_object(treatment, ["name", "reason"]))
    return _object(properties, list(properties))


def _state(card: TaskCard, when: Schema, wanted: Wanted) -> Schema:
    properties: Schema = {"episode": {"type": "integer"}, "step": {"type": "integer"}, "why": {"type": "string"}}
    if card.action.kind == "discrete":
        properties["action"] = _index(card)
        asked = ["episode", "step", "why", "action"]
    else:
        whole = card.action.kind == "choices"
        numbers = {"type": "array", "items": {"type": "integer" if whole else "number"}}
        properties |= {"action": numbers} if whole else {"action_delta": numbers, "action": numbers}
        asked = ["episode", "step", "why"]
    properties |= {"hold": {"type": "integer"}, "when": {"anyOf": [when, {"type": "null"}]}}
    if wanted.state_reward:
        properties["reward"] = {"type": "number"}
    return _object(properties, asked)


def _condition(names: Schema) -> Schema:
    than = _object({"variable": names, "abs": {"type": "boolean"}, "times": {"type": "number"}}, ["variable"])
    properties = {
        "variable": names, "abs": {"type": "boolean"},
        "op": {"type": "string", "enum": ["<", "<=", ">", ">=", "==", "!="]}, "value": {"type": "number"}, "than": than,
    }  # fmt: skip
    return _object(properties, ["variable", "op"])


def _term(names: Schema, when: Schema) -> Schema:
    bound = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    properties = {
        "variable": names, "abs": {"type": "boolean"}, "above": bound, "below": bound, "weight": {"type": "number"},
        "cap": {"type": "number"}, "when": when, "why": {"type": "string"},
    }  # fmt: skip
    return _object(properties, ["variable", "weight", "cap"])


def _index(card: TaskCard) -> Schema:
    return {"type": "integer", "enum": list(range(len(card.action.names)))}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
