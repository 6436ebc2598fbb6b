"""Benchmarks: methods × tasks × seeds at equal budgets, and the page that says what came of it.

* `suite.py`: what is asked for, a TOML file; `layout.py`: where it lies, and the settings of each arm.
* `jobs.py`: what runs in worker processes; `pool.py`: where these run; `runner.py`: which are due.
* `results.py`: rows of raw numbers; `summary.py`: statistics of them; `page.py` and `figures.py`: for people.
"""
