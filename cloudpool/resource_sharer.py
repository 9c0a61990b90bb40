"""`multiprocessing.resource_sharer`, the very module: descriptors passed between processes. What is patched there is patched here."""

import sys
from multiprocessing import resource_sharer
from multiprocessing.resource_sharer import *  # for type checkers

sys.modules[__name__] = resource_sharer
