"""What enters one training run, and how: the settings of every part as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model

from unstuck.errors import GuidanceError, did_you_mean
from unstuck.guide.advisor import Selection
from unstuck.guide.base import PartSettings, parts

if TYPE_CHECKING:
    from unstuck.guidance import Advice, Guidance, Term

SHARED = "selection"
"""Key of the settings that all parts share."""


class Plan:
    """Everything that decides how an explanation enters one training run: the settings of the parts, frozen.

    Args:
        settings: by the name of the setting, whichever part it is of: `Plan(imitate=0.3, thaw=0.3)`. What is not given
            has its default; all defaults are plain PPO.

    Raises:
        GuidanceError: a setting is unknown or its value invalid; names it.
    """

    settings: Mapping[str, PartSettings]
    """Name of the part → its settings."""

    def __init__(self, **settings: Any):
        made: dict[str, PartSettings] = {}
        left = dict(settings)
        for name, model in models().items():
            own = {field: left.pop(field) for field in model.model_fields if field in left}
            try:
                made[name] = model(**own)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                raise GuidanceError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if left:
            name = next(iter(left))
            raise GuidanceError(f"no part of guidance has a setting {name!r}.{did_you_mean(name, sorted(names()))}")
        object.__setattr__(self, "settings", made)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a plan is frozen; make another with having(...)")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "settings":
            raise AttributeError(name)
        for held in self.settings.values():
            if name in type(held).model_fields:
                return getattr(held, name)
        raise AttributeError(f"no part of guidance has a setting {name!r}")

    def __reduce__(self) -> Any:
        return _made, (self.changed(),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.changed() == other.changed()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"Plan({', '.join(f'{k}={v!r}' for k, v in self.changed().items())})"

    def changed(self) -> dict[str, Any]:
        """The settings that differ from plain PPO's, by name: what a plan is known by, so that what was trained once
        stays trained when a setting is added."""
        return {
            field: getattr(held, field)
            for held in self.settings.values()
            for field, info in type(held).model_fields.items()
            if getattr(held, field) != info.default
        }

    def having(self, **changes: Any) -> Plan:
        """The same with other settings."""
        return Plan(**{**self.changed(), **changes})

    @property
    def selection(self) -> Selection:
        found = self.settings[SHARED]
        assert isinstance(found, Selection)
        return found

    def on(self) -> list[str]:
        """The names of the parts that take part."""
        return [name for name in parts() if self.settings[name].on]

    @property
    def guided(self) -> bool:
        """Whether any part takes something of an explanation."""
        return any(parts()[name].explained for name in self.on())

    def advice(self, guidance: Guidance) -> tuple[Advice, ...]:
        """The advice that this plan lets touch training, in order."""
        return self.selection.advice(guidance)

    def reward_terms(self, guidance: Guidance) -> tuple[Term, ...]:
        return guidance.active_terms if self.terms else ()

    def trial(self, guidance: Guidance) -> Literal["nothing", "together", "each"]:
        """What of the advice is worth trying in the simulator before training.

        nothing: suggested actions do not touch training. together: reward terms train the agent, and actions come on
        top if all of them together help. each: every piece by itself.
        """
        if self.verified and not self.execute and not self.imitate > 0:
            return "nothing"
        extra = (
            bool(self.reward_terms(guidance)) and self.only_helpful and not (self.execute and self.execute_share == 1)
        )
        return "together" if extra else "each"


def _made(settings: dict[str, Any]) -> Plan:
    return Plan(**settings)


def models() -> dict[str, type[PartSettings]]:
    """Name → the model of its settings: of what all parts share, then of each part."""
    return {SHARED: Selection, **{name: part.Settings for name, part in parts().items()}}


def names() -> set[str]:
    """The names of all settings."""
    return {field for model in models().values() for field in model.model_fields}


def optional_settings(name: str, base: type[BaseModel], module: str) -> type[BaseModel]:
    """A model with all settings of all parts that a user may set, each of them optional: None for the method's own."""
    fields: dict[str, Any] = {}
    for model in models().values():
        for field, info in model.model_fields.items():
            if not info.exclude:
                kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
                fields[field] = (kind | None, Field(default=None, description=info.description))
    return create_model(name, __base__=base, __module__=module, **fields)
