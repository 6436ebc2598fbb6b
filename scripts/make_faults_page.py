"""Lets every fault of tests/faults.py happen in each protocol, kills a hundred programs around a reply, and writes what
came of it into docs/llm.md. Minutes; needs no network beyond this machine.

    python scripts/make_faults_page.py
    python scripts/make_faults_page.py closed 413     # only faults with one of these words in their names, no kills
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import unstuck.llm.client as client  # noqa: E402
from faults import FAULTS, KEY, NEXT_STEP, PROTOCOLS, happen  # noqa: E402
from kills import campaign  # noqa: E402

PAGE = ROOT / "docs" / "llm.md"
BEGIN, END = "<!-- faults -->", "<!-- end of faults -->"
HEAD = "| fault | protocols | what comes of it |\n|---|---|---|\n"
KILLS = 100


def main() -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        os.environ[name] = KEY
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        os.environ.pop(name, None)
    os.environ["NO_PROXY"] = "127.0.0.1"
    client.FIRST_PAUSE_S = 0.05
    if sys.argv[1:]:
        raise SystemExit(some(sys.argv[1:]))
    rows, problems, cases = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        for i, fault in enumerate(FAULTS):
            said = ""
            for protocol in fault.only:
                error, found = happen(fault, protocol, Path(folder) / f"{i}-{protocol}")
                said, cases = said or error, cases + 1
                problems += [f"{fault.name} ({protocol}): {problem}" for problem in found]
            rows.append(f"| {fault.name} | {len(fault.only)} | {'used' if fault.value else _step(said)} |")
            print(rows[-1], flush=True)
        kills = campaign(Path(folder) / "kills", KILLS)
    again = sum(times - 1 for times, _ in kills)
    late = sum(moment > 0 for _, moment in kills)
    print("\n".join(problems))
    text = (
        f"{cases} cases: {len(FAULTS)} faults of a server on this machine, in up to {len(PROTOCOLS)} protocols\n"
        "(OpenAI's chat completions and Responses, Anthropic's messages). What must hold: a value, or an error\n"
        "that names a next step, never a traceback; each request in the ledger, none past the cap; each body that was\n"
        "sent whole on disk to the last byte; no key in any file.\n"
        f"Cases in which something of it did not hold: {len(problems)}.\n\n"
        f"Of {KILLS} programs killed (`kill -9`) within a third of a second of a reply, {late} of them after it was\n"
        f"sent, and then started again, {again} asked a second time for what had been paid for.\n\n"
        f"{HEAD}" + "\n".join(rows)
    )
    page = PAGE.read_text(encoding="utf-8")
    start, stop = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(f"{page[:start]}\n{text}\n{page[stop:]}", encoding="utf-8")
    raise SystemExit(1 if problems or again else 0)


def some(words: list[str]) -> int:
    """Let some faults happen, and put their rows into the page, in place of those that are there."""
    rows, failed = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for i, fault in enumerate(f for f in FAULTS if any(word in f.name for word in words)):
            outcomes = [happen(fault, protocol, Path(folder) / f"{i}-{protocol}") for protocol in fault.only]
            problems = [problem for _, found in outcomes for problem in found]
            said = next((error for error, _ in outcomes if error), "")
            row = f"| {fault.name} | {len(fault.only)} | {'used' if fault.value else _step(said)} |"
            print(row, *problems, sep="\n")
            failed += len(problems)
            rows[fault.name] = row
    if not failed:
        PAGE.write_text(_with(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
    return 1 if failed else 0


def _with(page: str, rows: dict[str, str]) -> str:
    """The page with these rows, in the order of the campaign, and how many cases it has now."""
    start, stop = page.index(HEAD) + len(HEAD), page.index(END)
    held = {row.split(" | ")[0].removeprefix("| "): row for row in page[start:stop].splitlines()} | rows
    table = "\n".join(held[fault.name] for fault in FAULTS if fault.name in held)
    cases = sum(len(fault.only) for fault in FAULTS if fault.name in held)
    before = re.sub(r"\d+ cases: \d+ faults", f"{cases} cases: {len(table.splitlines())} faults", page[:start])
    return f"{before}{table}\n{page[stop:]}"


def _step(error: str) -> str:
    """The part of an error that says what to do, short enough for a table."""
    words = re.sub(
        r"http://[^\s:]+:\d+/\S*|/tmp/[^\s,]+|\b[0-9a-f]{20}\b", "…", " ".join(error.replace("|", "/").split())
    )
    words = re.sub(r"^\S+ (?:at … ?:? ?)?", "", words)
    end = 0
    for found in NEXT_STEP.finditer(words):
        end = found.end()
        if end > 120:
            break
    end = next((i for i in range(min(len(words), max(end, 160)), len(words)) if words[i] == " "), len(words))
    return words[:end].rstrip(" ,;(") + ("…" if end < len(words) else "")


if __name__ == "__main__":
    main()
