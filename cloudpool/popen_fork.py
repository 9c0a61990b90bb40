"""`multiprocessing.popen_fork`, the very module: start by fork. What is patched there is patched here."""

import sys
from multiprocessing import popen_fork
from multiprocessing.popen_fork import *  # for type checkers

sys.modules[__name__] = popen_fork
