"""The processes of a run: who should live, forks and keepers, signals, this machine."""
