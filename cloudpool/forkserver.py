"""`multiprocessing.forkserver`, the very module: the fork server. What is patched there is patched here."""

import sys
from multiprocessing import forkserver
from multiprocessing.forkserver import *  # for type checkers
from multiprocessing.forkserver import (
    MAXFDS_TO_SEND as MAXFDS_TO_SEND,
    SIGNED_STRUCT as SIGNED_STRUCT,
    ForkServer as ForkServer,
    _forkserver as _forkserver,
    main as main,
    read_signed as read_signed,
    write_signed as write_signed,
)

sys.modules[__name__] = forkserver
