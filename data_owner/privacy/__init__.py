"""Differential privacy: what a person's records may cost, what was spent, and the mechanism that spends it.

Records meet noise in `private_marginals` alone, which makes microdata; the teacher, gate and card that follow see the
microdata and never a record, so nothing that leaves costs more. `rehearsal` alone attacks records again, and what it
finds stays in the house.
"""
