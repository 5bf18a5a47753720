"""Differential privacy: what a person's records may cost, what was spent, and the mechanism that spends it.

Records meet noise in `private_marginals` alone, which makes microdata; all that follows, the teacher, its audits and
the card, sees the microdata and never a record, so nothing after it costs anything.
"""
