"""`multiprocessing.reduction`, the very module: pickling for other processes. What is patched there is patched here."""

import sys
from multiprocessing import reduction
from multiprocessing.reduction import *  # for type checkers
from multiprocessing.reduction import (
    ACKNOWLEDGE as ACKNOWLEDGE,
    HAVE_SEND_HANDLE as HAVE_SEND_HANDLE,
    AbstractReducer as AbstractReducer,
    DupFd as DupFd,
    recv_handle as recv_handle,
    recvfds as recvfds,
    send_handle as send_handle,
    sendfds as sendfds,
)

sys.modules[__name__] = reduction
