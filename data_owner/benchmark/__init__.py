"""The comparison with other systems. Needs the extra `benchmark`; a deployed owner does not import it."""
