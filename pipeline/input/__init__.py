"""Input adapters of the ventilator: files, arguments, stdin, and the spool of stdin."""
