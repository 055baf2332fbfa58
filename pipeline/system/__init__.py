"""The operating system: processes, signals, and the resources of the machine."""
