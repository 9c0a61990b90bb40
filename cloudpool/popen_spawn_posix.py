"""`multiprocessing.popen_spawn_posix`, the very module: start by a fresh interpreter. What is patched there is patched here."""

import sys
from multiprocessing import popen_spawn_posix
from multiprocessing.popen_spawn_posix import *  # for type checkers

sys.modules[__name__] = popen_spawn_posix
