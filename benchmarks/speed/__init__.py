"""How fast Unstuck is, beside what it is compared with and what the machine allows: `python -m benchmarks.speed`."""
