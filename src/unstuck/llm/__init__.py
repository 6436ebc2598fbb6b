"""The language model: asked within a budget, recorded, replayed, exported. No other folder imports pydantic-ai.

    recordings = Recordings([run / "recordings", shipped])     # the first is written, the others are only read
    coach = Coach(LLMConfig(model="openai:gpt-4o"), recordings)
    answer = coach.ask(prompt, Diagnosis, check=problems, salvage=without_bad_parts)
    answer.value, answer.keys, answer.dropped, answer.usage

A question takes this way: `Coach.ask` → a recording, if there is one → else a body on disk that was never recorded →
else the conversation is noted down as pending, entered in the ledger if no cap stands against it, and sent → the body
of the response is on disk before anything parses it, then the reply is recorded → the JSON object is looked for in the
reply, validated and checked → if invalid, sent back with the reasons as a further turn, which is an exchange of its
own → if still invalid, salvaged or refused.

* `config.py`: which model, and the caps. `addresses.py`: what an address may hold.
* `recordings.py`: what is stored, how it is addressed, which reply counts.
  `near.py`: prompts that differ by rounding only. `pictures.py`: those that go with a prompt.
* `ledger.py`: every call that was sent, whatever became of it. `budget.py`: estimates, and the caps against the ledger.
* `raw.py`: what went over the wire. `bodies.py`: what a response's body says. `recovery.py`: replies from there.
* `replies.py`: from text to a checked value.
* `coach.py`: the way above.
* `client.py`, `models.py`, `http.py`, `failures.py`: pydantic-ai; loaded only when a model is really called, so that
  replaying needs neither key nor network.
* `batch.py`: prompts out, replies in.
"""

from __future__ import annotations

from unstuck.llm.batch import ImportSummary, export_batch, import_batch
from unstuck.llm.budget import Budget, Spending, Usage, estimate_cost, estimate_request, estimate_tokens
from unstuck.llm.coach import Answer, Coach
from unstuck.llm.config import LLMConfig
from unstuck.llm.recordings import Recording, Recordings
from unstuck.llm.requests import Message, Request, key_for

__all__ = [
    "Answer", "Budget", "Coach", "ImportSummary", "LLMConfig", "Message", "Recording", "Recordings", "Request",
    "Spending", "Usage", "estimate_cost", "estimate_request", "estimate_tokens", "export_batch",
    "import_batch", "key_for",
]  # fmt: skip
