"""The explainer that asks a language model: what the prompt is filled in with, and how its reply is read."""
