"""The server, as a mechanism: a wire, scripts, keys, an embedded server. Knows no process and no user object."""
