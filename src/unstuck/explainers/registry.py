"""The explainers that are known, by name: those of this package and those of others.

Another package names its explainers as entry points of the group `unstuck.explainers`: name → class.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unstuck.config import EXPLAINERS, EXPLAINERS_GROUP
from unstuck.errors import UnstuckError, did_you_mean
from unstuck.guidance import validation_message

if TYPE_CHECKING:
    from unstuck.config import ExplainConfig
    from unstuck.explainers.base import Explainer
    from unstuck.workspace import Workspace

_HERE = "unstuck.explainers"
_BUILT_IN = {
    "llm": f"{_HERE}.llm.explainer:LLMExplainer",
    "search": f"{_HERE}.search:SearchExplainer",
    "statemask": f"{_HERE}.mask:StateMaskExplainer",
    "rice": f"{_HERE}.mask:RiceExplainer",
    **dict.fromkeys(
        ("random", "random-states", "random-actions", "random-terms"), f"{_HERE}.scramble:ScrambledExplainer"
    ),
    "several": f"{_HERE}.several:Several",
    "nothing": f"{_HERE}.nothing:Nothing",
}
assert set(_BUILT_IN) == set(EXPLAINERS) - {"auto"}


def names() -> list[str]:
    """All explainers that can be asked for."""
    return [*_BUILT_IN, *sorted(set(_others()) - set(_BUILT_IN))]


def _others() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=EXPLAINERS_GROUP)}


@cache
def explainer_class(name: str) -> type[Explainer]:
    """The class of this name; those of this package come first.

    Raises:
        UnstuckError: if there is none, or another package's cannot be imported.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        found: type[Explainer] = getattr(importlib.import_module(module), attribute)
        return found
    from unstuck.explainers.base import Explainer

    if name not in _others():
        known = names()
        raise UnstuckError(f"there is no explainer {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}")
    point = _others()[name]
    try:
        loaded = point.load()
    except Exception as error:
        raise UnstuckError(f"the explainer {name!r} ({point.value}) cannot be imported: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Explainer)):
        raise UnstuckError(f"the explainer {name!r} ({point.value}) is no class of unstuck.explainers.Explainer")
    return loaded


def make_explainer(name: str, space: Workspace, model: Any = None) -> Explainer:
    """The explainer of this name for a run, with the settings that the run's configuration has for it.

    Raises:
        UnstuckError: if there is none of this name, or a setting of it is unknown or invalid.
    """
    kind = explainer_class(name)
    return kind(name, space, settings_for(kind, name, space.config.explain), model)


def settings_for(kind: type[Explainer], name: str, config: ExplainConfig) -> Any:
    """The `Settings` of one explainer.

    Raises:
        UnstuckError: if an option is unknown or invalid.
    """
    if config.options and config.explainer == name and name in _BUILT_IN and name != "several":
        raise UnstuckError(f"explain.options is for explainers of other packages; {name!r} has settings of its own")
    own = {field: getattr(config, field) for field in kind.Settings.model_fields if field in type(config).model_fields}
    try:
        return kind.Settings.model_validate(own if name in _BUILT_IN else own | config.options)
    except ValidationError as error:
        raise UnstuckError(f"explain.options of {name!r}:\n{validation_message(error)}") from error
