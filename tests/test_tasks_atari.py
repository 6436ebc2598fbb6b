"""Atari games from their RAM: what is said of each object must be where the screen shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ale_py")

from unstuck.tasks import describer_for, make_env
from unstuck.tasks.atari_games import GAMES, LANES, known_by_id

IDS = {"breakout": "ALE/Breakout-v5", "freeway": "ALE/Freeway-v5", "boxing": "ALE/Boxing-v5",
       "space_invaders": "ALE/SpaceInvaders-v5"}  # fmt: skip
RED, YELLOW, WHITE, BLACK = (200, 72, 72), (252, 252, 84), (214, 214, 214), (0, 0, 0)
GREEN, OLIVE, GREY = (50, 132, 50), (134, 134, 29), (142, 142, 142)


def made(game: str) -> Any:
    return make_env(IDS[game], {"obs_type": "ram", "frameskip": 1, "repeat_action_probability": 0.0})


def play(game: str, steps: int, choose: Any = None) -> Iterator[tuple[dict[str, float], np.ndarray, float]]:
    """Yield (variables, screen, reward); actions are kept for 8 frames, at random or by `choose(variables, i)`."""
    env = made(game)
    describer = describer_for(env)
    names, rng, action = describer.card.variable_names, np.random.default_rng(0), 0
    env.reset(seed=0)
    state: dict[str, float] = {}
    for i in range(steps):
        if choose is not None and state:
            action = env.unwrapped.get_action_meanings().index(choose(state, i))
        elif i % 8 == 0:
            action = int(rng.integers(env.action_space.n))
        obs, reward, terminated, truncated, _ = env.step(action)
        state = dict(zip(names, describer.variables(obs[None])[0].tolist(), strict=True))
        yield state, env.unwrapped.ale.getScreenRGB(), float(reward)
        if terminated or truncated:
            return


def box(screen: np.ndarray, colour: tuple[int, int, int], rows: slice, columns: slice) -> tuple[float, ...] | None:
    """(left, right, top, bottom) of what has this colour, found pixel by pixel."""
    y, x = np.nonzero((screen[rows, columns] == np.array(colour)).all(-1))
    if not len(y):
        return None
    return x.min() + columns.start, x.max() + columns.start, y.min() + rows.start, y.max() + rows.start


def breakout(state: dict[str, float], i: int) -> str:
    """Follow the ball, so that it stays in play."""
    if i % 40 == 0:
        return "FIRE"
    return "RIGHT" if state["ball_offset"] > 0 else "LEFT"


def test_breakout() -> None:
    errors: dict[str, list[float]] = {"ball_x": [], "ball_y": [], "paddle_x": []}
    flags, speeds, before, paid, lives = [], [], None, 0.0, set()
    for state, screen, reward in play("breakout", 1500, breakout):
        paid += reward
        lives.add(state["lives"])
        ball = box(screen, RED, slice(93, 189), slice(8, 152))
        paddle = box(screen, RED, slice(189, 193), slice(8, 152))
        if ball is not None and ball[1] - ball[0] == 1 and ball[3] - ball[2] == 3:
            errors["ball_x"].append(abs((ball[0] + ball[1]) / 2 - state["ball_x"]))
            errors["ball_y"].append(abs((ball[2] + ball[3]) / 2 - state["ball_y"]))
            flags.append(state["ball_in_play"])
            if before is not None:
                speeds.append(ball[2] - before == state["ball_dy"])
        before = None if ball is None else ball[2]
        if paddle is not None and paddle[1] - paddle[0] == 15:
            errors["paddle_x"].append(abs((paddle[0] + paddle[1]) / 2 - state["paddle_x"]))
    assert all(np.mean(np.array(e) <= 1) > 0.95 and len(e) > 400 for e in errors.values())
    assert np.mean(flags) > 0.98
    assert np.mean(speeds) > 0.8  # not in the frames of a bounce
    # The ball was hit often enough to break bricks, which is what pays.
    assert state["score"] == paid > 0
    assert lives <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}


def test_breakout_pays_when_a_brick_is_hit() -> None:
    hits, paid, last = 0, 0, 0.0
    for state, _, reward in play("breakout", 1500, breakout):
        hits += state["score"] > last
        paid += reward > 0
        last = state["score"]
    assert hits == paid > 3


def test_scores_are_read_digit_by_digit() -> None:
    ram = np.zeros((1, 128), np.uint8)
    ram[0, [76, 77, 103]] = 0x04, 0x38, 0x27
    for game, name, expected in (("breakout", "score", 438), ("freeway", "crossings", 27)):
        card = describer_for(made(game))
        assert card.variables(ram)[0][card.card.variable_names.index(name)] == expected


CARS = (
    (210, 210, 64), (135, 183, 84), (184, 50, 50), (84, 92, 214), (162, 98, 33), (24, 26, 167), (228, 111, 111),
    (105, 105, 15), (180, 231, 117), (167, 26, 26),
)  # fmt: skip
"""Colours of Freeway's cars, from the lowest lane up."""


def test_freeway() -> None:
    cars: dict[int, list[float]] = {lane: [] for lane in range(1, LANES + 1)}
    chicken, crossings, paid = [], 0.0, 0.0
    for i, (state, screen, reward) in enumerate(play("freeway", 1000, lambda s, i: "UP" if i % 300 < 200 else "DOWN")):
        paid += reward
        crossings = state["crossings"]
        seen = (screen[14:197, 44:51] == np.array(YELLOW)).all(-1)
        seen[86:95] = False  # the line in the middle of the road has the chicken's colour
        rows = np.nonzero(seen.any(1))[0] + 14
        if len(rows) and rows.max() - rows.min() == 7:
            chicken.append(abs((rows.min() + rows.max()) / 2 - state["chicken_y"]))
        for lane, colour in enumerate(CARS, 1) if i % 5 == 0 else ():
            top = 185 - 16 * lane
            car = box(screen, colour, slice(top, top + 15), slice(8, 160))
            if car is not None and car[1] - car[0] == 7:
                cars[lane].append(abs((car[0] + car[1]) / 2 - state[f"car_{lane}_x"]))
    assert len(chicken) > 600
    assert np.mean(np.array(chicken) <= 1) > 0.97
    for lane, errors in cars.items():
        assert len(errors) > 100, lane
        assert np.mean(np.array(errors) <= 2) > 0.97, lane
    assert crossings == paid > 0


def test_freeway_up_goes_up_through_the_lanes() -> None:
    lanes = [state["lane"] for state, _, _ in play("freeway", 700, lambda s, i: "UP")]
    assert lanes[0] == 0
    assert max(lanes) == LANES + 1
    assert set(lanes) == set(range(LANES + 2))


def test_freeway_says_how_far_the_next_car_has_yet_to_drive() -> None:
    held: dict[int, list[float]] = {}
    for state, _, _ in play("freeway", 900, lambda s, i: "UP" if i % 90 < 30 else "NOOP"):
        held.setdefault(int(state["lane"]), []).append(state["next_car_comes"])
    # It gets less from frame to frame, but where the car has passed, or the chicken is in another lane.
    for lane in range(LANES):
        changes = np.diff(held.get(lane, []))
        assert np.mean((changes <= 0) & (changes >= -2)) > 0.9 or len(changes) < 60, lane
    assert sum(len(changes) > 60 for changes in held.values()) >= 3
    assert all(0 <= x <= 160 for changes in held.values() for x in changes)


def test_boxing() -> None:
    errors: dict[str, list[float]] = {name: [] for name in ("player_x", "player_y", "enemy_x", "enemy_y")}
    ring = slice(38, 178), slice(34, 126)
    for state, screen, _ in play("boxing", 1200):
        for who, colour in (("player", WHITE), ("enemy", BLACK)):
            found = box(screen, colour, *ring)
            if found is None or found[1] - found[0] != 13:  # arms at rest
                continue
            errors[f"{who}_x"].append(abs((found[0] + found[1]) / 2 - state[f"{who}_x"]))
            if found[3] - found[2] == 46:
                errors[f"{who}_y"].append(abs((found[2] + found[3]) / 2 - state[f"{who}_y"]))
    assert all(np.mean(np.array(e) <= 2) > 0.9 and len(e) > 300 for e in errors.values()), {
        k: (len(e), np.mean(e)) for k, e in errors.items()
    }


def test_space_invaders() -> None:
    cannon, left, top, left_over, killed = [], [], [], 36.0, 0
    flying: list[bool] = []
    lowest: list[bool] = []
    for state, screen, reward in play("space_invaders", 1500):
        killed += 0 < reward < 200
        found = box(screen, GREEN, slice(185, 195), slice(0, 160))
        if found is not None and found[1] - found[0] == 6:
            cannon.append(abs((found[0] + found[1]) / 2 - state["player_x"]))
        block = box(screen, OLIVE, slice(30, 185), slice(0, 160))
        if block is not None and block[1] - block[0] == 87:  # all columns are there
            left.append(abs(block[0] - state["invaders_left_x"]))
            top.append(abs(block[2] - state["invaders_top_y"]))
        left_over = state["invaders"]
        y, x = np.nonzero((screen[60:185] == GREY).all(-1))
        things = [(state[f"{n}_x"], state[f"{n}_y"]) for n in ("bomb_1", "bomb_2", "shot")]
        flying += [any(abs(a - u) <= 1 and abs(b + 60 - v) <= 6 for u, v in things) for a, b in zip(x, y, strict=True)]
        falling = [(v, u) for u, v in things[:2] if v < 190]
        if falling:
            lower = max(falling)
            lowest.append((190 - lower[0], lower[1] - state["player_x"]) == (state["bomb_above"], state["bomb_offset"]))
        assert state["may_fire"] == (state["shot_y"] > 195)
    assert np.mean(flying) > 0.95
    assert len(flying) > 2000
    assert np.mean(lowest) > 0.95  # not in the frames in which one is about to hit the ground
    assert min(len(cannon), len(left)) > 300
    for errors in (cannon, left, top):
        assert np.mean(np.array(errors) <= 1) > 0.97
    assert killed > 0
    assert left_over == 36 - killed


@pytest.mark.parametrize("game", sorted(GAMES))
def test_a_game_has_a_card_for_its_ram_and_none_for_pixels_alone(game: str) -> None:
    env = made(game)
    card = describer_for(env).card
    assert card.action.names[0] == "noop"
    assert len(card.action.names) == env.action_space.n
    assert "unknown" not in card.goal
    assert len({b.address for b in GAMES[game].bytes}) == len(GAMES[game].bytes)
    alone = describer_for(make_env(IDS[game], {"objects": False})).card
    assert "not known here by name" in alone.goal
    assert alone.variables[0].name == "obs_patch_0_0"
    assert known_by_id(IDS[game])


def test_of_other_games_the_name_and_the_actions_are_known() -> None:
    card = describer_for(make_env("ALE/MontezumaRevenge-v5")).card
    assert "Montezuma Revenge" in card.goal
    assert card.action.names[:3] == ("noop", "fire", "up")
    assert not known_by_id("MontezumaRevengeNoFrameskip-v4")
    assert known_by_id("SpaceInvadersNoFrameskip-v4")


def test_a_stack_of_ram_shows_speeds() -> None:
    card = describer_for(make_env(IDS["breakout"], {"obs_type": "ram", "frame_stack": 2})).card
    assert {"ball_x", "ball_x_change"} <= set(card.variable_names)


def test_pong_from_its_ram_is_pong_from_its_objects() -> None:
    env = make_env("ALE/Pong-v5", {"obs_type": "ram"})
    describer, objects = describer_for(env), describer_for("UnstuckPong-v0")
    assert describer.card.variable_names == objects.card.variable_names
    env.reset(seed=0)
    rows = [describer.variables(env.step(i % 6)[0][None])[0] for i in range(200)]
    assert len({row[describer.card.variable_names.index("ball_x")] for row in rows}) > 10
