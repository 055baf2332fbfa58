"""Messages, values and interfaces that all other packages share. Imports no other package of the project."""
