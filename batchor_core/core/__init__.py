"""The pure heart of the engine: facts, rules and arithmetic. No IO and no clock in here."""
