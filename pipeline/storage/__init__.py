"""Files that survive a killed sink: the journal, and the spill of results ahead of their turn."""
