"""The stages of a run, in order: collect, explain, verify, train, evaluate, report.

Each is one function: it reads what the stages before left in the run folder, and writes its own artifact there.
Stages never import each other.
"""
