"""What is learned from records: repaired labels, a teacher, its artefacts. Functions of values that know no node."""
