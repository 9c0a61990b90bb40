"""`multiprocessing.popen_forkserver`, the very module: start by the fork server. What is patched there is patched here."""

import sys
from multiprocessing import popen_forkserver
from multiprocessing.popen_forkserver import *  # for type checkers

sys.modules[__name__] = popen_forkserver
