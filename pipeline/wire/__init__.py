"""The wire: words as frames, every socket and its options, and the places where stations meet."""
