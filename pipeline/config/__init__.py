"""The options of all commands: their types, defaults and checks."""
