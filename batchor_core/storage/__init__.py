"""Where runs live: the state store's interface, its SQL and memory implementations, their registry."""
