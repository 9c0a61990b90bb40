"""What a machine does for a session: the agent, who lives and who died, who holds which object, the session's folder."""
