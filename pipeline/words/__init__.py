"""The words of the line, and what all stations share: task numbers, records, errors, options, and watching a peer.

Nothing here does anything to the world, and nothing here imports from another wing.
"""
