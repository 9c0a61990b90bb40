"""Tests of runners, as far as they need no engine."""

from needed import is_here

# The extra `test` brings the package; who has another environment may do without.
collect_ignore_glob = [f"test_{name}_*.py" for name in ("kubernetes", "docker") if not is_here(name)]
