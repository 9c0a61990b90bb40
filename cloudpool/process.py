"""`multiprocessing.process`, the very module: processes are the stdlib's own records. What is patched there is patched here."""

import sys
from multiprocessing import process
from multiprocessing.process import *  # for type checkers

sys.modules[__name__] = process
