"""Guidance compiled for speed: which advice applies to which row of a batch, and what the terms are worth.

Everything is evaluated for a whole vector step at once on named variables (N, V); there is no loop over advice.
Conditions and neighbourhoods are intervals of variables and become rows of bits (`masks`); the look-up table is a
dict. So a step costs about the same for ten pieces of advice as for a thousand (docs/speed.md has the curve).
"""

from unstuck.matching.conditions import Conditions
from unstuck.matching.matcher import Applies, Matcher
from unstuck.matching.terms import Terms

__all__ = ["Applies", "Conditions", "Matcher", "Terms"]
