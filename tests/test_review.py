"""The review: what the page knows, what decisions do to the file, and whom the server answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading

import numpy as np
import pytest

from test_report import EVIL, add_episodes, enter, guidance, make_run
from unstuck.errors import GuidanceError, RunError, UnstuckError
from unstuck.guidance import Action, Advice, Condition, Guidance, Term, load_guidance, save_guidance
from unstuck.review import export, serve
from unstuck.review.board import Board, open_task
from unstuck.review.decide import Desk, StaleError, revision
from unstuck.review.seen import runs_of
from unstuck.run import Run

SLOW = Condition(variable="velocity", abs=True, op="<", value=0.01)


def reviewed(root, *, verified=True, file=None) -> Run:
    run = make_run(root)
    add_episodes(run)
    said = file or guidance()
    save_guidance(said, run.advice_path)
    enter(run, "explain")
    if verified:
        (run.root / "verify").mkdir()
        save_guidance(said, run.root / "verify" / "guidance.json")
        save_guidance(said, run.guidance_path)
        enter(run, "verify")
    return run


@pytest.fixture
def run(tmp_path):
    return reviewed(tmp_path)


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory):
    """A run that no test changes, and its task."""
    return open_task(reviewed(tmp_path_factory.mktemp("run")))


def desk_of(run) -> Desk:
    task = open_task(run)
    return Desk(run, task.card, task.lengths)


@pytest.fixture
def desk(run):
    return desk_of(run)


def now(run) -> str:
    return revision(run.guidance_path)


# ------------------------------------------------------------------------------------------- what is known


def test_how_often_advice_holds_and_terms_pay_is_counted_on_the_episodes(looked_at):
    said, seen = guidance(), looked_at.seen
    velocity = np.concatenate([v[:-1, 1] for v in seen.values.values()])
    right = next(a for a in said.advice if a.id == "r1")
    holds = seen.holds(right, said)
    assert np.concatenate(list(holds.values())).mean() == np.mean(velocity > 0.001)
    worth = seen.worth(said.reward_terms[0])
    after = [np.abs(v[1:, 1]) for v in seen.values.values()]
    paid = [2 * np.minimum(np.maximum(x - 0.02, 0), 0.05) for x in after]
    assert worth.per_episode == pytest.approx(np.mean([p.sum() for p in paid]))
    assert worth.share == pytest.approx(worth.per_episode / 60)  # every episode returns -60
    assert worth.fires == pytest.approx(np.mean(np.concatenate(after) > 0.02))


def test_a_window_is_of_the_episode_beside_the_median_of_all(looked_at):
    (window,) = looked_at.seen.windows(1, 55, ["position"])
    assert (window.steps[0], window.steps[-1]) == (15, 60)
    both = [v[15:61, 0] for v in looked_at.seen.values.values()]
    assert np.allclose(window.own, both[1])
    assert np.allclose(window.middle, np.median(both, axis=0))
    assert looked_at.seen.windows(7, 0) == []


@pytest.mark.parametrize(
    ("holds", "found"),
    [([0, 1, 1, 0], [(0.25, 0.75)]), ([1], [(0, 1)]), ([0, 0], []), ([1, 0, 1, 1], [(0, 0.25), (0.5, 1)])],
)
def test_where_a_condition_holds_is_told_in_stretches(holds, found):
    assert runs_of(np.array(holds, dtype=bool)) == found


def test_the_board_says_what_enters_training_and_why_not(looked_at):
    board = Board(looked_at, live=True)
    shown = {a.id: board.advice(a) for a in board.guidance.advice}
    assert shown["s1"]["enters"]
    assert not shown["s2"]["enters"]
    assert shown["s2"]["enters_why"] == "the simulator found it harmful"
    assert shown["s2"]["overrule"]
    assert (shown["r2"]["enters"], shown["r2"]["enters_why"]) == (False, "switched off")
    assert not shown["r2"]["overrule"]
    assert "uses no reward terms" in board.term(0, board.guidance.reward_terms[0])["enters_why"]


def test_the_page_to_keep_loads_nothing_escapes_all_and_decides_nothing(looked_at, tmp_path):
    text = export(looked_at.run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert EVIL not in text
    assert "&lt;script&gt;alert" in text
    assert "<button" not in text
    assert "data:image/webp;base64," in text
    assert "http://" not in text.replace("http://www.w3.org", "").replace("http://example.org", "")
    assert "&quot;" not in text.split("<script>")[1].split("</script>")[0]
    assert "gain 0.31" in text
    assert "How often" in text


def test_what_is_missing_is_said(tmp_path):
    for name, verified in (("only-advice", False), ("verified", True)):
        run = reviewed(tmp_path / name, verified=verified)
        missing = " ".join(text for text, _ in Board(open_task(run), live=True).context()["missing"])
        assert ("has not tried" in missing) is not verified
    bare = make_run(tmp_path / "bare")
    values = Board(open_task(bare), live=True).context()
    told = {command.split()[1] for _, command in values["missing"] if command}
    assert told == {"collect", "explain", "diagnose"}
    assert values["can_write"]
    (bare.root / "guidance.json").write_text('{"format": 1}')
    broken = Board(open_task(bare), live=True).context()
    assert "env_id" in broken["guidance_problem"]
    assert not broken["can_write"]


# ---------------------------------------------------------------------------------------------- deciding


def test_decisions_are_the_file_that_training_reads(run, desk):
    desk.decide(now(run), "advice", "s1", "accepted")
    desk.decide(now(run), "advice", "r1", "rejected")
    desk.decide(now(run), "term", "0", "rejected")
    made = load_guidance(run.guidance_path, desk.card)
    by_id = {a.id: a for a in made.advice}
    assert (by_id["s1"].decision, by_id["s1"].enabled) == ("accepted", True)
    assert (by_id["r1"].decision, by_id["r1"].enabled) == ("rejected", False)
    assert made.active_terms == ()
    assert made.reward_terms[0].decision == "rejected"
    desk.decide(now(run), "advice", "r1", None)
    assert load_guidance(run.guidance_path).advice[2] == guidance().advice[2]


def test_what_changes_nothing_in_training_trains_nothing_again(run, desk):
    before = load_guidance(run.guidance_path).as_used()
    desk.decide(now(run), "advice", "s1", "accepted")
    desk.accept_rest(now(run))
    after = load_guidance(run.guidance_path)
    assert after.as_used() == before
    assert [a.decision for a in after.advice] == ["accepted", "accepted", "accepted", None]  # one is switched off
    desk.decide(now(run), "term", "0", "rejected")
    assert load_guidance(run.guidance_path).as_used() != before


def test_rejected_terms_enter_no_training(run, desk):
    from unstuck.methods import Setting, make_plan

    config = run.config.train
    desk.decide(now(run), "term", "0", "rejected")
    plan = make_plan("unstuck", config.guide, load_guidance(run.guidance_path), Setting(discrete=False))
    assert not plan.terms
    assert plan.having(terms=True).reward_terms(load_guidance(run.guidance_path)) == ()


def test_an_edited_piece_loses_a_verdict_on_something_else(run, desk):
    advice = guidance().advice[0]
    said = advice.model_dump(mode="json", exclude_none=True, exclude={"verdict", "decision", "enabled"})
    desk.save(now(run), "advice", "s1", said | {"why": "Better words."})
    kept = load_guidance(run.guidance_path).advice[0]
    assert (kept.decision, kept.why, kept.verdict) == ("edited", "Better words.", advice.verdict)
    desk.save(now(run), "advice", "s1", said | {"hold": 9, "id": "other"})
    changed = load_guidance(run.guidance_path).advice[0]
    assert (changed.id, changed.hold, changed.verdict.status) == ("s1", 9, "untested")
    desk.restore(now(run), "advice", "s1")
    assert load_guidance(run.guidance_path).advice[0] == advice


def test_a_verdict_can_be_overruled_and_says_so(run, desk):
    desk.overrule(now(run), "s2")
    made = load_guidance(run.guidance_path).advice[1]
    assert made.verdict.status == "helpful"
    assert "a person decided" in made.verdict.note
    assert "harmful" in made.verdict.note
    assert made.verdict.gain == -0.2
    entered = Board(open_task(run), live=True)
    assert entered.advice(made)["enters"]


def test_a_person_writes_and_removes(run, desk):
    rule = {"id": "p1", "kind": "rule", "why": "Mine.", "when": [SLOW.model_dump()], "action": {"index": 2}}
    desk.save(now(run), "advice", None, rule, first=True)
    desk.save(now(run), "term", None, {"variable": "velocity", "weight": 1, "cap": 1})
    made = load_guidance(run.guidance_path, desk.card)
    assert (made.advice[0].id, made.advice[0].decision, made.advice[0].verdict.status) == ("p1", "written", "untested")
    assert made.reward_terms[-1].decision == "written"
    desk.remove(now(run), "advice", "p1")
    desk.remove(now(run), "term", "1")
    assert load_guidance(run.guidance_path) == guidance()
    with pytest.raises(UnstuckError, match="reject this instead"):
        desk.remove(now(run), "advice", "s1")


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("advice", {"id": "x", "kind": "rule", "why": ""}, "needs a condition"),
        ("advice", {"id": "x", "kind": "rule", "why": "", "when": [{"variable": "velo", "op": "<"}]}, "when"),
        ("advice", {"id": "x", "kind": "rule", "why": "", "when": [{"variable": "speed", "op": "<", "value": 1}]},
         "there is no variable 'speed'"),
        ("advice", {"id": "x", "kind": "rule", "why": "", "when": [], "action": {"index": 3}}, "out of bounds"),
        ("advice", {"id": "x", "kind": "state", "why": "", "evidence": {"episode": 9, "step": 0}}, "no episode 9"),
        ("advice", {"id": "x", "kind": "state", "why": "", "evidence": {"episode": 0, "step": 60}}, "steps 0 to 59"),
        ("advice", {"id": "s1", "kind": "rule", "why": "", "when": []}, "unique"),
        ("term", {"variable": "velocity", "weight": float("inf"), "cap": 1}, "weight"),
        ("term", {"variable": "velocity", "weight": 1, "cap": 1, "enable": True}, "enable"),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_refused_with_its_field_and_changes_nothing(run, desk, kind, value, told):
    before = run.guidance_path.read_bytes()
    with pytest.raises(GuidanceError, match=told):
        desk.save(now(run), kind, None, value)
    assert run.guidance_path.read_bytes() == before


def test_a_file_that_was_changed_meanwhile_is_not_overwritten(run, desk):
    seen = now(run)
    save_guidance(guidance().model_copy(update={"diagnosis": "Another."}), run.guidance_path)
    with pytest.raises(StaleError, match="changed meanwhile"):
        desk.decide(seen, "advice", "s1", "accepted")
    assert load_guidance(run.guidance_path).diagnosis == "Another."


def test_nothing_is_written_while_another_works_on_the_run(run, desk, monkeypatch):
    monkeypatch.setattr("unstuck.files.PATIENCE", 0.05)
    held, done = threading.Event(), threading.Event()

    def work():
        with run.held():
            held.set()
            done.wait(30)

    worker = threading.Thread(target=work)
    worker.start()
    held.wait(30)
    try:
        assert Board(open_task(run), live=True).context()["live_values"]["busy"]
        with pytest.raises(RunError, match="in use"):
            desk.decide(now(run), "advice", "s1", "accepted")
    finally:
        done.set()
        worker.join()
    desk.decide(now(run), "advice", "s1", "accepted")


def test_before_verification_decisions_go_to_the_advice(tmp_path):
    run = reviewed(tmp_path, verified=False)
    desk_of(run).decide(revision(run.advice_path), "advice", "r1", "rejected")
    assert not load_guidance(run.advice_path).advice[2].enabled
    assert not run.guidance_path.exists()


def test_without_any_advice_a_person_writes_the_first(tmp_path):
    run = make_run(tmp_path)
    rule = {"id": "p1", "kind": "rule", "why": "", "when": [], "action": {"index": 2}}
    desk_of(run).save("none", "advice", None, rule)
    made = load_guidance(run.advice_path)
    assert (made.provenance.explainer, [a.id for a in made.advice]) == ("by hand", ["p1"])


def test_progress_terms_cannot_be_switched_off():
    term = {"variable": "x", "weight": 1, "cap": 1, "enabled": False}
    with pytest.raises(ValueError, match="cannot be switched off"):
        Guidance.model_validate({"env_id": "", "diagnosis": "", "progress": {"terms": [term]}})


# ------------------------------------------------------------------------------------------------ the server


@contextlib.contextmanager
def served(run):
    """The address of a server that runs in a thread of this process."""
    import uvicorn

    told, stopped = threading.Event(), {}
    server_run = uvicorn.Server.run

    def remembered(self, *args, **kwargs):
        stopped.setdefault("server", self)  # servers within this block are others
        server_run(self, *args, **kwargs)

    address = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.Server, "run", remembered)
        thread = threading.Thread(
            target=serve, args=(run,), kwargs={"ready": lambda a: (address.append(a), told.set())}, daemon=True
        )
        thread.start()
        assert told.wait(120)
        try:
            yield address[0]
        finally:
            while "server" not in stopped:
                pass
            stopped["server"].should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def address(looked_at):
    with served(looked_at.run) as found:
        yield found


def ask(address, path="", method="GET", body=None, **headers):
    host, _, secret = address.removeprefix("http://").rstrip("/").partition("/")
    connection = http.client.HTTPConnection(host, timeout=60)
    given = {"Host": host, **{k.replace("_", "-"): v for k, v in headers.items()}}
    target = path if path.startswith("/") else f"/{secret}/{path}"
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    if data is not None:
        given.setdefault("Content-Type", "application/json")
        given.setdefault("Content-Length", str(len(data)))
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders(data)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer, text


def own(address):
    return {"Origin": "http://" + address.removeprefix("http://").split("/")[0]}


def test_the_page_is_served_with_its_parts_and_strict_headers(address):
    answer, text = ask(address)
    assert answer.status == 200
    assert b"Critical state: episode 0, step 20" in text
    policy = answer.getheader("content-security-policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.getheader("x-frame-options") == "DENY"
    assert answer.getheader("server") is None
    for name, kind in (("review.css", "text/css"), ("review.js", "text/javascript"), ("live", "application/json")):
        part, _ = ask(address, name)
        assert (part.status, part.getheader("content-type").split(";")[0]) == (200, kind)
    film, strip = ask(address, "film/0/20")
    assert (film.status, strip[8:12]) == (200, b"WEBP")
    assert ask(address, "film/0/999")[0].status == 404


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("", {"Host": "localhost:1"}, 421),
        ("", {"Host": "evil.example"}, 421),
        ("/", {}, 404),
        ("/guess/", {}, 404),
        ("/review.js", {}, 404),
        ("live", {"Origin": "http://evil.example"}, 403),
        ("live", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("live", {"Sec-Fetch-Site": "same-site"}, 403),
        ("", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_others_are_refused(address, path, headers, status):
    answer, text = ask(address, path, **headers)
    assert answer.status == status
    if status != 200:
        assert b"Critical" not in text


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Origin": "http://evil.example"}, {}, 403),
        ({"Origin": "null"}, {}, 403),
        ({}, {}, 403),  # a form of another page may send no origin
        ({"Content_Type": "text/plain"}, {}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, b"revision=x", 415),
        (None, b"{", 400),
        (None, b"[]", 400),
        (None, {}, 400),
        (None, b'{"a": 1, "a": 2}', 400),
        (None, b"[" * 100_000, 400),
        (None, {"revision": "old", "kind": "advice", "key": "s1", "decision": "accepted"}, 409),
        (None, b" " * (1 << 21), 413),
    ],
)
def test_changes_are_json_from_the_page_itself(address, looked_at, headers, body, status):
    before = looked_at.run.guidance_path.read_bytes()
    allowed = own(address) if headers is None else own(address) | headers if "Content_Type" in headers else headers
    answer, _ = ask(address, "decide", "POST", body, **allowed)
    assert answer.status == status
    assert looked_at.run.guidance_path.read_bytes() == before


def test_what_is_written_is_checked_while_it_is_written(address, looked_at):
    def check(value, kind="advice"):
        answer, text = ask(address, "check", "POST", {"kind": kind, "value": value}, **own(address))
        assert answer.status == 200
        return json.loads(text)

    rule = {"id": "p1", "kind": "rule", "why": "", "when": [{"variable": "velocity", "op": ">", "value": 0.001}]}
    good = check(rule | {"action": {"index": 2}})
    assert good["problems"] == []
    assert good["words"].startswith("Right, where velocity is above 0.001")
    assert "of the collected steps" in good["words"]
    assert (
        "did you mean" in check(rule | {"when": [{"variable": "veloc", "op": ">", "value": 1}]})["problems"][0].lower()
    )
    assert "in an episode" in check({"variable": "velocity", "weight": 1, "cap": 1}, "term")["words"]


def test_decisions_over_the_server_are_written(tmp_path):
    run = reviewed(tmp_path)
    with served(run) as address:
        decision = {"revision": now(run), "kind": "advice", "key": "r1", "decision": "rejected"}
        answer, text = ask(address, "decide", "POST", decision, **own(address))
        data = json.loads(text)
        assert (answer.status, data["revision"]) == (200, now(run))
        assert "rejected" in data["piece"]
        assert "1 of 5 decided" in data["summary"]
        assert not load_guidance(run.guidance_path).advice[2].enabled
        ladder = {
            "title": "rung 1 of 3", "spent": {"train": 1000}, "budget": 9000, "usd": None,
            "ranks": [{"name": f"continue {EVIL}", "trained": 500, "level": -200.0, "status": "racing"}],
        }  # fmt: skip
        home = run.root / "race" / "race" / "1"
        home.mkdir(parents=True)
        (home / "ladder.json").write_text(json.dumps(ladder))
        html = json.loads(ask(address, "live")[1])["html"]
        assert "rung 1 of 3" in html
        assert "1,000 of 9,000" in html
        assert ">racing<" in html
        assert EVIL not in html


def test_the_extra_is_named_where_it_is_missing(run, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UnstuckError, match=r"unstuck\[review\]"):
        serve(run)


def test_a_port_that_is_taken_is_said(run):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UnstuckError, match="choose another --port"):
            serve(run, port=other.getsockname()[1])


def test_terms_and_advice_that_are_written_survive_the_round_trip(run, desk):
    term = Term(variable="velocity", abs=True, above=0.01, weight=2, cap=1, when=(SLOW,), why="So.")
    advice = Advice(id="p9", kind="rule", why="So.", when=(SLOW,), action=Action(index=0), hold=3, reward=0.5)
    desk.save(now(run), "term", None, term.model_dump(mode="json", exclude_none=True, exclude={"decision", "enabled"}))
    desk.save(now(run), "advice", None, advice.model_dump(mode="json", exclude_none=True, exclude={"verdict"}))
    made = load_guidance(run.guidance_path, desk.card)
    assert made.reward_terms[-1] == term.model_copy(update={"decision": "written"})
    assert made.advice[-1].when == advice.when
