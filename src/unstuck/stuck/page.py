"""The tables of docs/agents.md, from the manifest."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.stuck import Manifest, Returns, StuckAgent

BEGIN, END = "<!-- from the manifest: begin -->", "<!-- from the manifest: end -->"


def updated_page(page: str, manifest: Manifest) -> str:
    """The page with what lies between its two marks made anew.

    Raises:
        UnstuckError: it lacks a mark.
    """
    if BEGIN not in page or END not in page:
        raise UnstuckError(f"docs/agents.md must hold the marks {BEGIN} and {END}")
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n\n{tables(manifest)}\n{END}{tail}"


def tables(manifest: Manifest) -> str:
    """Markdown: the agents with their numbers, what each does wrong, how they were made, and what was not stuck."""
    agents = manifest.agents
    parts = [
        _table(
            (
                "agent",
                "task",
                "rut",
                "before, det. / sampled",
                "continued, det. / sampled",
                "reference",
                "gain of it",
            ),
            (_numbers(a) for a in agents),
        ),
        "## What each does wrong\n\n" + "\n".join(_story(a) for a in agents),
        "## How each was made\n\n"
        + _table(
            (
                "agent",
                "steps, seed",
                "settings",
                "continued for",
                "returns by seed, det.",
                "sampled",
                "reference is",
            ),
            (_origin(a) for a in agents),
        ),
    ]
    if manifest.tried:
        parts.append(
            "## Tried, not stuck\n\n"
            + _table(
                ("agent", "task", "made by", "numbers"), ((t.name, t.task, t.what, t.numbers) for t in manifest.tried)
            )
        )
    return "\n".join(parts)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines) + "\n"


def _spread(r: Returns) -> str:
    return f"{r.mean:.4g} ± {r.sd:.2g}"


def _numbers(a: StuckAgent) -> tuple[str, ...]:
    v, c, ref = a.verdict, a.continued, a.reference
    published = ", published" if ref.origin == "published" else ""
    return (
        f"`{a.name}`{'' if a.training.algorithm == 'PPO' else f', {a.training.algorithm}'}",
        a.task,
        a.rut,
        f"{_spread(a.before.deterministic)} / {_spread(a.before.sampled)}",
        f"{np.mean(c.deterministic):.4g} / {np.mean(c.sampled):.4g}",
        f"{ref.mean:.4g}{f' ± {ref.sd:.2g}' if ref.sd is not None else ''}{published}",
        f"{v.deterministic.mean:.2f} [{v.deterministic.low:.2f}, {v.deterministic.high:.2f}] / "
        f"{v.sampled.mean:.2f} [{v.sampled.low:.2f}, {v.sampled.high:.2f}]",
    )


def _story(a: StuckAgent) -> str:
    return f"- **{a.name}** ({a.task}): {a.wrong} {a.why}"


def _origin(a: StuckAgent) -> tuple[str, ...]:
    t, c = a.training, a.continued
    settings = ", ".join(f"{k}={v}" for k, v in t.settings.items()) + (", VecNormalize" if t.normalized else "")
    return (
        f"`{a.name}`",
        f"{t.steps:,}, {t.seed}",
        settings,
        f"{c.steps:,}",
        ", ".join(f"{r:.4g}" for r in c.deterministic),
        ", ".join(f"{r:.4g}" for r in c.sampled),
        a.reference.how,
    )
