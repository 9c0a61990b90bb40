"""`multiprocessing.util`, the very module: finalizers, logging, fork hooks. What is patched there is patched here."""

import sys
from multiprocessing import util
from multiprocessing.util import *  # for type checkers
from multiprocessing.util import (
    DEBUG as DEBUG,
    DEFAULT_LOGGING_FORMAT as DEFAULT_LOGGING_FORMAT,
    INFO as INFO,
    LOGGER_NAME as LOGGER_NAME,
    MAXFD as MAXFD,
    NOTSET as NOTSET,
    abstract_sockets_supported as abstract_sockets_supported,
    is_abstract_socket_namespace as is_abstract_socket_namespace,
    spawnv_passfds as spawnv_passfds,
)

sys.modules[__name__] = util
