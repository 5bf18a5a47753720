"""From the owner's file to canonical records and the schema that may leave. Nothing of it faces the network."""
