"""Where hosts come from, and how a process starts on one. Never sees a user's function."""
