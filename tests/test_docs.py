"""What the documents say is true of the program: commands, flags, links, paths, and the guidance file's examples."""

import importlib.metadata
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from unstuck import guidance as g
from unstuck.cli import COMMANDS, _unalias
from unstuck.errors import GuidanceError
from unstuck.tasks import describer_for

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN = [p for p in PAGES if p.name != "cli.md"]
TAKEN_OUT = {c: {"--config", "--env-kwargs"} for c in ("refine", "collect", "diagnose")}
"""Flags that are read before tyro sees the others, and so are not in its help."""
ANYWHERE = {"--help", "--help-all", "--json", "--quiet", "--log-level"}
"""Flags of all commands, or of most."""


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_cli_docs", ROOT / "scripts" / "make_cli_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def flags(maker):
    """Command → the flags that its help lists."""
    found = {c: set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", maker.help_of(c))) for c in COMMANDS}
    return {c: names | TAKEN_OUT.get(c, set()) for c, names in found.items()}


def id_of(path):
    return str(path.relative_to(ROOT))


# ---------------------------------------------------------------------------------------------- command line


def pinned(package):
    return re.search(rf"^{package}==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)[1]


def words(page):
    """The page without the frames and line breaks that tyro lays out."""
    return re.sub(r"[─-╿\s]+", " ", page)


@pytest.mark.parametrize("columns", ["40", "300"])
def test_cli_page_is_what_the_program_says(maker, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    committed, made = maker.TARGET.read_text(encoding="utf-8"), maker.cli_page()
    assert "\x1b" not in made
    hint = "run `python scripts/make_cli_docs.py`"
    if importlib.metadata.version("tyro") == pinned("tyro"):
        assert made == committed, hint
    else:
        assert words(made) == words(committed), hint


def test_cli_page_has_every_command_and_no_machine_path(maker):
    page = maker.TARGET.read_text(encoding="utf-8")
    assert re.findall(r"^## unstuck (\S+)", page, re.M) == list(COMMANDS)
    assert str(ROOT) not in page
    assert str(Path.home()) not in page


def commands_in(text):
    """Every `unstuck ...` command line: in fenced and indented blocks at the start of a line, and in code spans."""
    joined = re.sub(r"\\\n\s*", " ", text)
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", joined, re.M | re.S)
    blocks += re.findall(r"^    .*", re.sub(r"^```.*?^```", "", joined, flags=re.M | re.S), re.M)
    lines = [line for block in blocks for line in block.splitlines()]
    start = re.compile(r"\s*(?:\$ )?(?:\S*/)?unstuck (?=[a-z]|--)(.*)")
    found = [m[1] for line in lines if (m := start.match(line))]
    return found + re.findall(r"(?<!`)`unstuck ([a-z-][^`\n]*)`(?!`)", joined)


def problems_of(command, flags):
    parts = shlex.split(command.split(" # ")[0].split("  #")[0].split(" > ")[0].replace("...", ""))
    if parts[0] in ("--help", "--version"):
        return []
    if parts[0] not in COMMANDS:
        return [f"unstuck {command}: there is no command {parts[0]!r}"]
    given = [_unalias(p, parts[0]).partition("=")[0] for p in parts[1:] if p.startswith("--")]
    return [f"unstuck {command}: there is no {f}" for f in given if f not in flags[parts[0]] | ANYWHERE]


@pytest.mark.parametrize("page", WRITTEN, ids=id_of)
def test_commands_shown_exist_with_their_flags(page, flags):
    assert [p for c in commands_in(page.read_text(encoding="utf-8")) for p in problems_of(c, flags)] == []


def test_wrong_commands_would_be_found(flags):
    text = "\n".join([
        "Run `unstuck refin a.zip` or:", "", "    unstuck train runs/a --step 3   # --no-such flag in a comment", "",
        "```sh", "$ unstuck collect a.zip \\", "    --envs Hopper-v5", "unstuck refine a.zip --config x --llm recorded",
        "| unstuck | -110 |", "```",
    ])  # fmt: skip
    found = [p for c in commands_in(text) for p in problems_of(c, flags)]
    assert [re.search(r"there is no (.*)", p)[1] for p in found] == ["--envs", "--step", "command 'refin'"]


@pytest.mark.parametrize("page", WRITTEN, ids=id_of)
def test_settings_named_in_text_exist(page, flags):
    """Code spans like `--train.guide.bins`, outside of any command."""
    known = set().union(ANYWHERE, *flags.values())
    spans = re.findall(r"`(--[a-z][\w.-]*)[^`]*`", page.read_text(encoding="utf-8"))
    assert [s for s in spans if not {_unalias(s, "refine"), _unalias(s, "card")} & known] == []


# ------------------------------------------------------------------------------------------- links and paths


def anchors(path):
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_links_resolve(page):
    links = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{id_of(page)} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{id_of(page)} links to {link}"


@pytest.mark.parametrize("page", WRITTEN, ids=id_of)
def test_paths_named_exist(page):
    named = re.findall(r"(?<![\w/.])((?:src/unstuck|tests|scripts|benchmarks)/[\w/.-]*\w/?)", page.read_text("utf-8"))
    assert [n for n in named if not (ROOT / n).exists()] == []


def test_architecture_lists_every_module():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "unstuck"
    parts = [*package.iterdir(), *(package / "stages").iterdir()]
    parts = [p for p in parts if not p.name.startswith("_") and p.name != "stages"]
    parts = [p for p in parts if p.suffix == ".py" or (p / "__init__.py").exists()]
    assert len(parts) > 20
    missing = [str(p.relative_to(ROOT)) for p in parts if str(p.relative_to(ROOT)) not in text]
    assert missing == []


def test_architecture_gives_the_layers_of_the_import_contract():
    import tomllib

    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    shown = re.search(r"`(cli → [^`]*)`", (ROOT / "docs" / "architecture.md").read_text("utf-8"))[1]
    layers = [" | ".join(re.findall(r"(\w+)(?= \||$)", layer)) for layer in contract["layers"]]
    layers = ["the other stages" if "collect" in layer else layer.replace(" | ", ", ") for layer in layers]
    assert shown == " → ".join(layers)


# ------------------------------------------------------------------------------------------- the guidance file

GUIDE = ROOT / "docs" / "guidance.md"
MODELS = [
    g.Guidance, g.Advice, g.Condition, g.AnyOf, g.Near, g.Evidence, g.Action, g.Term, g.ProgressMeasure, g.Verdict,
    g.Provenance,
]  # fmt: skip
EXAMPLES = re.findall(r"^```json (\w+) (\S+)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def card_of():
    cards = {}

    def find(env_id):
        if env_id not in cards:
            if env_id != "MountainCar-v0":
                pytest.importorskip("mujoco")
            cards[env_id] = describer_for(env_id).card
        return cards[env_id]

    return find


def test_every_json_block_is_an_example():
    assert len(EXAMPLES) == GUIDE.read_text(encoding="utf-8").count("```json") >= 5


@pytest.mark.parametrize(("kind", "env_id", "text"), EXAMPLES, ids=[f"{k}-{e}" for k, e, _ in EXAMPLES])
def test_examples_are_valid_and_fit_their_task(kind, env_id, text, card_of, tmp_path):
    card, data = card_of(env_id), json.loads(text)
    if kind == "Guidance":
        path = tmp_path / "advice.json"
        path.write_text(text, encoding="utf-8")
        loaded = g.load_guidance(path, card)
        assert loaded.env_id == env_id
        g.save_guidance(loaded, path)
        assert g.load_guidance(path, card) == loaded
        return
    made = getattr(g, kind).model_validate(data)
    if kind == "Condition":
        assert g.when_problems((made,), card, kind) == []
    elif kind == "Term":
        assert g.term_problems(made, card, kind) == []
    else:
        assert g.advice_problems(made, card, kind) == []


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_field_is_described(model):
    spans = re.findall(r"`([^`\n]+)`", GUIDE.read_text(encoding="utf-8"))
    mentioned = {w for s in spans for w in re.findall(r"\w+", s)}
    assert [f for f in model.model_fields if f not in mentioned] == []


def test_the_message_shown_is_the_real_one(card_of, tmp_path):
    advice = g.Advice(
        id="r1", kind="rule", why="", when=(g.Condition(variable="ptich", op=">", value=0),)
    )  # fmt: skip
    path = tmp_path / "advice.json"
    g.save_guidance(g.Guidance(env_id="Hopper-v5", diagnosis="", advice=(advice,)), path)
    with pytest.raises(GuidanceError) as caught:
        g.load_guidance(path, card_of("Hopper-v5"))
    shown = str(caught.value).replace(str(path), "runs/hopper/advice.json")
    assert f"error: {shown}\n" in GUIDE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("term", "x", "value"),
    [
        ({"above": 1.0}, 2.5, 2 * 1.5), ({"above": 1.0}, 9.0, 2 * 3.0), ({"above": 1.0}, 0.5, 0.0),
        ({"below": 1.0}, 0.5, 2 * 0.5), ({"below": 1.0}, -9.0, 2 * 3.0), ({"below": 1.0}, 2.0, 0.0),
        ({}, -9.0, 2 * -3.0), ({"abs": True}, -2.0, 2 * 2.0),
    ],
)  # fmt: skip
def test_the_table_of_terms_is_what_is_computed(term, x, value):
    import numpy as np

    from unstuck.matching import Terms

    made = g.Term(variable="x", weight=2.0, cap=3.0, **term)
    assert Terms([made], ["x"])(np.array([[x]]))[0] == pytest.approx(value)
