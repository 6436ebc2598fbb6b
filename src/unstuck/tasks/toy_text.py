"""Toy text: FrozenLake, CliffWalking, Taxi. Their observation is one number, which says little to a reader."""

from __future__ import annotations

from typing import Any

import numpy as np

from unstuck.tasks.builder import ColumnDescriber, Function, describer, discrete, flag, number, var
from unstuck.tasks.card import Variable


def _table(values: np.ndarray) -> Function:
    """A function of the state's number: its entry in a table with one row for each state."""
    table = np.asarray(values, dtype=np.float64)
    return lambda o: table[o[:, 0].astype(np.int64)]


def _place(rows: int, columns: int) -> list[tuple[Variable, Function]]:
    states = np.arange(rows * columns)
    return [
        (var("row", "0 = top", "", 0, rows - 1), _table(states // columns)),
        (var("col", "0 = left", "", 0, columns - 1), _table(states % columns)),
    ]


def _neighbours(hazard: np.ndarray, what: str) -> list[tuple[Variable, Function]]:
    """For each direction, whether the next cell is a hazard. (rows, columns) bool."""
    padded = np.pad(hazard, 1)
    sides = {"left": padded[1:-1, :-2], "down": padded[2:, 1:-1], "right": padded[1:-1, 2:], "up": padded[:-2, 1:-1]}
    return [
        (flag(f"{what}_{side}", f"1 if the next cell {side} is a {what}"), _table(cells.ravel()))
        for side, cells in sides.items()
    ]


def frozen_lake(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    grid = core.desc.astype(str)
    rows, columns = grid.shape
    goal, hole, ice = getattr(core, "reward_schedule", None) or _frozen_rewards(core, grid)
    distance = np.abs(np.argwhere(np.ones_like(grid, dtype=bool)) - np.argwhere(grid == "G")[0]).sum(axis=1)
    intended = max(p for p, *_ in core.P[int(np.argmax(core.initial_state_distrib))][0])
    slip = f"The ice is slippery: a move goes as meant with probability {intended:.2f}, else to one of its sides."
    return describer(
        env,
        goal="Walk over a frozen lake from the start (S) to the goal (G) without falling into a hole (H).",
        reward=f"{number(goal)} on reaching the goal, {number(hole)} in a hole, {number(ice)} on every other step.",
        termination="Ends at the goal or in a hole.",
        variables=[var("state", f"row x {columns} + col", "", 0, rows * columns - 1)],
        action=discrete(left="", down="", right="", up=""),
        derived=[
            *_place(rows, columns),
            (var("distance", "rows plus columns to the goal", "cells", 0, rows + columns - 2), _table(distance)),
            *_neighbours(grid == "H", "hole"),
        ],
        notes=f"Map, top row first: {' / '.join(''.join(r) for r in grid)}. {slip if intended < 1 else ''}".strip(),
    )


def _frozen_rewards(core: Any, grid: np.ndarray) -> tuple[float, float, float]:
    """What the transition table pays on entering a cell of each kind."""
    paid = {"G": 0.0, "H": 0.0, "F": 0.0}
    for moves in core.P.values():
        for _, state, reward, _ in (t for outcomes in moves.values() for t in outcomes):
            kind = grid.ravel()[state].replace("S", "F")
            paid[kind] = reward or paid[kind]
    return paid["G"], paid["H"], paid["F"]


def cliff_walking(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    rows, columns = core.shape
    cliff = np.asarray(core._cliff)
    states = np.arange(rows * columns)
    distance = (rows - 1 - states // columns) + (columns - 1 - states % columns)
    slip = " A move goes as meant with probability 1/3, else to one of its sides."
    return describer(
        env,
        goal="Walk from the bottom left to the bottom right corner. The cells between them are a cliff.",
        reward="-1 for every step, -100 for stepping off the cliff, which also puts the walker back to the start.",
        termination="Ends at the bottom right corner.",
        variables=[var("state", f"row x {columns} + col", "", 0, rows * columns - 1)],
        action=discrete(up="", right="", down="", left=""),
        derived=[
            *_place(rows, columns),
            (var("distance", "rows plus columns to the goal", "cells", 0, rows + columns - 2), _table(distance)),
            *_neighbours(cliff, "cliff"),
        ],
        notes="A step off the grid does nothing." + (slip if getattr(core, "is_slippery", False) else ""),
    )


def taxi(env: Any) -> ColumnDescriber | None:
    core = env.unwrapped
    parts = np.array([tuple(core.decode(s)) for s in range(500)])
    places = np.array([*core.locs, (-1, -1)])
    row, col, passenger, destination = parts.T
    aboard = passenger == 4
    target = np.where(aboard[:, None], places[destination], places[passenger])
    rows = [b"".join(row).decode() for row in core.desc[1:-1]]
    named = "0 = red (row 0, col 0), 1 = green (row 0, col 4), 2 = yellow (row 4, col 0), 3 = blue (row 4, col 3)"
    return describer(
        env,
        goal="Drive to the passenger, pick them up, drive to the destination, drop them off.",
        reward="+20 for dropping the passenger off at the destination, -10 for a pick-up or drop-off that is not "
        "allowed, -1 for every other step.",
        termination="Ends when the passenger is dropped off at the destination.",
        variables=[var("state", "number of the state", "", 0, 499)],
        action=discrete(south="row grows", north="row falls", east="col grows", west="col falls",
                        pick_up="take the passenger in", drop_off="let the passenger out"),
        derived=[
            (var("row", "of the taxi, 0 = north", "", 0, 4), _table(row)),
            (var("col", "of the taxi, 0 = west", "", 0, 4), _table(col)),
            (var("passenger", f"where the passenger is: {named}, 4 = in the taxi", "", 0, 4), _table(passenger)),
            (var("destination", "where the passenger wants to go, numbered as `passenger`", "", 0, 3),
             _table(destination)),
            (flag("aboard", "1 if the passenger is in the taxi"), _table(aboard)),
            (var("rows_to_go", "row of the next stop minus row: positive = south", "cells", -4, 4),
             _table(target[:, 0] - row)),
            (var("cols_to_go", "column of the next stop minus col: positive = east", "cells", -4, 4),
             _table(target[:, 1] - col)),
        ],
        notes="Walls (|) block some moves between columns. Map, north first: " + " ".join(rows),
    )  # fmt: skip
