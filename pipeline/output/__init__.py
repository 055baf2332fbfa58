"""Output adapters of the sink: the output, dead letters, the job log, and directories of results."""
