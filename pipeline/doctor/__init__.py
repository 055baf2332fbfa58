"""Checks of `pipe doctor`, each of which looks at one fact and changes nothing."""
