"""Where runs live: the state store's interface, its implementation on SQL databases, their registry."""
