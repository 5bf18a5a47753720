"""What faces the network: two listeners, who may call what and how often, and what an operator sees of it."""
