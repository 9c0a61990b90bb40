"""What a user of the server must be allowed: every command that cloudpool sends, itself or in its scripts, and no other.

Written down here and nowhere else; a test compares it with the code, and another works with such a user.
"""

from __future__ import annotations

COMMANDS = (
    # connections and scripts; `select` for a URL with a database other than 0
    "client|id", "client|kill", "client|list", "client|setname", "eval", "evalsha", "hello", "info", "ping",
    "script|load", "select", "wait",
    # keys and strings
    "del", "exists", "get", "getrange", "incr", "pexpire", "pttl", "set", "setrange", "strlen", "type", "unlink",
    # hashes
    "hdel", "hexists", "hget", "hgetall", "hincrby", "hkeys", "hlen", "hmget", "hset", "hsetnx", "hvals",
    # lists
    "blmove", "lindex", "linsert", "llen", "lmove", "lpop", "lpos", "lrange", "lrem", "lset", "ltrim", "rpop",
    "rpush", "rpushx",
    # sets and streams
    "sadd", "scard", "sismember", "smembers", "srem", "xadd", "xlen", "xrange", "xread", "xrevrange", "xtrim",
)  # fmt: skip


def rule(user: str, password: str) -> str:
    """The command by which an administrator makes that user."""
    rights = " ".join(f"+{command}" for command in COMMANDS)
    return f"ACL SETUSER {user} reset on >{password} ~cp:* {rights}"
